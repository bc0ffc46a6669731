// Two calls of clients/typescript, a line of JSON for each: what it got, and where calls go then.
import { ControlPlaneClient, ControlPlaneError } from "../../../clients/typescript/src/index.ts";

const client = new ControlPlaneClient();
for (let n = 0; n < 2; n += 1) {
  try {
    const { task_id } = await client.api.createTask({ body: { task_type: "t" } });
    console.log(JSON.stringify([task_id, client.baseUrl]));
  } catch (error) {
    console.log(JSON.stringify([(error as ControlPlaneError).code, client.baseUrl]));
  }
}
