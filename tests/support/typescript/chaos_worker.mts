// The worker of clients/typescript under faults: node chaos_worker.mts AGENT_ID CAPABILITY. Its tasks are those of
// tests/chaos/shipped_workers.py.
import { Worker } from "../../../clients/typescript/src/index.ts";

const [agentId = "", capability = ""] = process.argv.slice(2);
const worker = new Worker(agentId, { capabilities: [capability], concurrency: 4, heartbeatMs: 1_000 });

worker.handles(async (job) => {
  const { n } = job.payload as { n: number };
  await new Promise((resolve) => setTimeout(resolve, (n * 37) % 300));
  if (n % 10 === 0 && job.attempt === 1) {
    throw new Error("as planned");
  }
  return { n };
});

await worker.run();
