// Calls of clients/typescript, a line of JSON for each: node client.mts TASK_ID
import { ControlPlaneClient, ControlPlaneError } from "../../../clients/typescript/src/index.ts";

const client = new ControlPlaneClient();

async function tell(name: string, call: () => Promise<unknown>): Promise<void> {
  try {
    console.log(JSON.stringify([name, await call()]));
  } catch (error) {
    const { name: kind, code } = error as ControlPlaneError;
    console.log(JSON.stringify([name, { kind, code }]));
  }
}

const [taskId = ""] = process.argv.slice(2);
await tell("result", () => client.result(taskId));
await tell("output", async () => {
  const told: unknown[] = [];
  for await (const event of client.output(taskId)) {
    told.push(event.type === "task_chunk" ? event.content : event.type);
  }
  return told;
});
const body = { task_type: "t/ö", payload: { text: "ä€😀", n: 9_007_199_254_740_991 }, metadata: { pr: 17 } };
await tell("repeated", async () => {
  const [first, second] = [
    await client.api.createTask({ body, idempotency_key: "k" }),
    await client.api.createTask({ body, idempotency_key: "k" }),
  ];
  return [first.task_id === second.task_id, (await client.api.getTask({ task_id: first.task_id })).payload];
});
await tell("listed", async () => (await client.api.listTasks({ where: ["metadata.pr=17"] })).tasks.map((task) => task.task_type));
await tell("missing", () => client.api.getTask({ task_id: "task_none" }));
await tell("no id", () => client.api.getTask({ task_id: "" }));
await tell("no JSON", () => client.api.createTask({ body: { task_type: "t", payload: { x: Number.NaN } } }));
await tell("invalid", () => client.api.createTask({ body: { task_type: "" } }));
await tell("failed", async () => {
  const { task_id } = await client.api.createTask({ body: { task_type: "t", required_capabilities: ["nobody"] } });
  await client.api.cancelTask({ task_id });
  return client.result(task_id);
});
await tell("text", async () => (await client.api.metricsText()).includes("aragora_cp"));
const page = () => Promise.resolve(new Response("<html>", { status: 200 }));
await tell("foreign", () => new ControlPlaneClient({ fetch: page }).api.getTask({ task_id: "t" }));
await tell("nobody", () => new ControlPlaneClient({ baseUrl: "http://127.0.0.1:1" }).api.getTask({ task_id: "t" }));
