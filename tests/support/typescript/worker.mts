// A worker of clients/typescript: node worker.mts AGENT_ID
import { Reject, Worker } from "../../../clients/typescript/src/index.ts";

const worker = new Worker(process.argv[2] ?? "", {
  capabilities: ["ts"],
  concurrency: 20,
  heartbeatMs: 500,
  drainMs: Number(process.env["DRAIN_MS"] ?? 30_000),
  patience: { firstMs: 50, mostMs: 500, askedMostMs: 1_000 },
});

class TooBusy extends Error {}

worker
  .handles("adds", async (job) => {
    await job.progress({ percent: 50, message: "half", checkpoint: { seen: 1 } });
    await job.emit("one ");
    await job.emit({ two: 2 });
    const { terms } = job.payload as { terms: number[] };
    return { sum: terms.reduce((sum, term) => sum + term, 0), attempt: job.attempt };
  })
  .handles("rejects", () => {
    throw new Reject("never");
  })
  .handles("fails", () => {
    throw new TooBusy("come back later");
  })
  .handles("returns-no-json", () => ({ ratio: Number.NaN }) as never)
  .handles("returns-nothing", () => {})
  .handles("goes-on", async (job) => {
    if (job.attempt === 1) {
      await job.progress({ checkpoint: { done: [1, 2] } });
      throw new Error("the first attempt fails");
    }
    return job.checkpoint;
  })
  .handles("asks", (job) => {
    if (job.answer === null) {
      return job.ask("Which one?", { answer_schema: { enum: ["a", "b"] }, checkpoint: { asked: true } });
    }
    return { answer: job.answer.value, by: job.answer.verdict, checkpoint: job.checkpoint };
  })
  .handles("parks", async (job) => {
    if (job.children === null) {
      const children = [1, 2].map((n) => ({ task_type: "adds", payload: { terms: [n, 10] }, required_capabilities: ["ts"] }));
      return job.park(await job.submit(children), { checkpoint: { asked: 2 } });
    }
    return { sums: job.children.map((child) => (child.result as { sum: number }).sum), checkpoint: job.checkpoint };
  })
  .handles("waits", async (job) => {
    await job.progress({ message: "waiting" });
    await new Promise((resolve) => job.signal.addEventListener("abort", resolve, { once: true }));
    throw new Error("stopped");
  });

try {
  await worker.run();
} catch (error) {
  console.log(`ended: ${String(error)}`);
  process.exitCode = 3;
}
