// The official JavaScript client of the A2A server: it verifies the card, asks the question of its second argument if there is one, and
// prints what it has got. The first argument is the URL of the API.
import { AgentCard, GetTaskRequest, SendMessageRequest, Task, verifyAgentCardSignature } from "@a2a-js/sdk";
import { ClientFactory } from "@a2a-js/sdk/client";

const [url, question] = process.argv.slice(2);

async function json(path) {
  return (await fetch(url + path)).json();
}

const { keys } = await json("/a2a/keys");
const verify = verifyAgentCardSignature(async (kid) => keys.find((key) => key.kid === kid));

async function verifies(card) {
  try {
    await verify(card);
    return true;
  } catch {
    return false;
  }
}

const received = await json("/.well-known/agent-card.json");
const changed = { ...received, name: "another" };
const card = AgentCard.fromJSON(received);
const verified = { received: await verifies(received), changed: await verifies(changed), parsed: await verifies(card) };
if (question === undefined) {
  console.log(JSON.stringify({ verified }));
  process.exit();
}

card.supportedInterfaces[0].url = `${url}/a2a`;
const client = await new ClientFactory().createFromAgentCard(card);
const message = { messageId: "js-1", role: "ROLE_USER", parts: [{ text: question }], contextId: "js" };
message.metadata = { aragora: { config: { options: ["A", "B"], rounds: 0 } } };
const kinds = [];
let id;
for await (const event of client.sendMessageStream(SendMessageRequest.fromJSON({ message }))) {
  kinds.push(event.payload.$case);
  id ??= event.payload.value.id;
}
const task = Task.toJSON(await client.getTask(GetTaskRequest.fromJSON({ id })));
let refusal;
try {
  await client.getTask(GetTaskRequest.fromJSON({ id: "none" }));
} catch (error) {
  refusal = error.constructor.name;
}
console.log(JSON.stringify({ verified, kinds, task, refusal }));
