import { randomUUID } from "node:crypto";

import { type Agent, type Claim, FOR_LATER, type Json, type LeasedTask, type RegisterAgent, type Report } from "./api.ts";
import { ControlPlaneClient, type ClientOptions, json } from "./client.ts";
import { OutcomeUnknown, Refused, Reject, Unavailable } from "./errors.ts";
import { Asks, Job, JobSends, LOST, Parks } from "./job.ts";
import { Delays, pause, untilTaken } from "./repeating.ts";

/** Does the work of a task and returns its result: JSON, or nothing. */
export type Handler = (job: Job) => Promise<Json | void> | Json | void;

export interface WorkerOptions extends ClientOptions {
  capabilities?: string[];
  /** How many jobs run at once. */
  concurrency?: number;
  /** Claim tasks of these queues alone. */
  queues?: string[];
  /** What a task may ask for by `worker_version`, such as "1.4.2". */
  version?: string;
  heartbeatMs?: number;
  /** How long the jobs at hand may take to end once the worker is told to. */
  drainMs?: number;
  /** Other members of the agent's registration. */
  description?: Partial<RegisterAgent>;
  /** Takes a line about what the worker meets. Default: the standard error. */
  log?: (line: string) => void;
}

const BLOCK_MS = 20_000;
const HEARTBEAT_TIMEOUT_MS = 10_000;
const ANNOUNCE_MS = 5_000;
const LAST_REPORTS_MS = 10_000;
const CLAIM_TASKS = 100;
const PROCESS = "worker_process";
/** A refusal that ends by somebody else's doing: the worker waits. */
const PASSING: ReadonlySet<string> = new Set(["workspace_suspended"]);
/** Statuses that say that what was sent is wrong; 0 is this client's own. */
const WRONG: ReadonlySet<number> = new Set([0, 400, 413, 422]);

interface Running {
  job: Job;
  stop: AbortController;
  why: "cancelled" | "drained" | undefined;
  reported: Promise<void>;
}

/**
 * A worker: registers as an agent, claims tasks, runs handlers, reports, and drains when it is told to.
 *
 * A claim keeps its id until it is answered, and a report names its lease, so both are repeated safely after a lost answer or a
 * restart of the control plane. It repeats every call until the control plane takes or refuses it, and keeps results until then.
 * Handlers share the event loop with the worker's heartbeats: one that computes for long goes into a `worker_threads` thread.
 */
export class Worker {
  readonly agentId: string;
  readonly #client: ControlPlaneClient;
  readonly #options: WorkerOptions;
  readonly #handlers = new Map<string | null, Handler>();
  readonly #process = randomUUID().replaceAll("-", "");
  readonly #concurrency: number;
  readonly #log: (line: string) => void;
  /** By lease token: a task may come again in another attempt while the last report is still on its way. */
  readonly #jobs = new Map<string, Running>();
  readonly #draining = new AbortController();
  /** Aborted when the time of draining is over: no call is repeated any more. */
  readonly #over = new AbortController();
  #unanswered: Claim | undefined;
  #refusal: Refused | undefined;
  #jobEnded: () => void = () => {};
  #failing = false;
  /** False once another process may have this agent's id: then this one does not deregister it. */
  #alone = true;
  /** Whether a signal has ended it: one that a program drains may be run again by it. */
  #signalled = false;
  /** Whether a report was given up. */
  #unreported = false;

  constructor(agentId: string, options: WorkerOptions = {}) {
    this.agentId = agentId;
    this.#options = options;
    this.#client = new ControlPlaneClient(options);
    this.#concurrency = options.concurrency ?? 10;
    this.#log = options.log ?? ((line) => process.stderr.write(`${line}\n`));
    if (!Number.isInteger(this.#concurrency) || this.#concurrency < 1) {
      throw new RangeError("concurrency must be a whole number from 1 on.");
    }
  }

  /** Does tasks of a type by `handler`; without a type, all for which there is no other. */
  handles(handler: Handler): this;
  handles(taskType: string, handler: Handler): this;
  handles(first: string | Handler, handler?: Handler): this {
    if (typeof first === "string") {
      this.#handlers.set(first, handler as Handler);
    } else {
      this.#handlers.set(null, first);
    }
    return this;
  }

  /** Makes `run` end when the jobs at hand are done, or their time is over. */
  drain(): void {
    this.#draining.abort();
    this.#jobEnded();
  }

  /** Works until it is drained (SIGTERM and SIGINT do that). Throws `Refused` if the control plane refuses this worker. */
  async run(): Promise<void> {
    const drain = () => {
      this.#signalled = true;
      this.drain();
    };
    process.once("SIGTERM", drain).once("SIGINT", drain);
    const heartbeats = this.#heartbeats();
    try {
      if (await this.#registered()) {
        await this.#work();
      }
      await this.#finish();
    } finally {
      this.#over.abort();
      await heartbeats; // one that is answered after the agent has left would register it again
      if (this.#signalled && !this.#unreported && this.#jobs.size === 0) {
        await this.#leave();
      }
      process.removeListener("SIGTERM", drain).removeListener("SIGINT", drain);
    }
    if (this.#refusal !== undefined) {
      throw this.#refusal;
    }
  }

  // --- the agent ----------------------------------------------------------------------------------------------------

  async #registered(): Promise<boolean> {
    const { capabilities, version, description } = this.#options;
    const body: RegisterAgent = {
      ...description,
      agent_id: this.agentId,
      capabilities: capabilities ?? [],
      max_concurrency: this.#concurrency,
      metadata: { ...description?.metadata, [PROCESS]: this.#process },
      ...(version === undefined ? {} : { version }),
    };
    try {
      this.#alone &&= await this.#isFree();
      const agent = await this.#patiently<Agent>(() => this.#client.api.registerAgent({ body }));
      if (agent.agent_id !== this.agentId) {
        throw new OutcomeUnknown("What answered the registration is not the control plane.");
      }
      return true;
    } catch (error) {
      this.#endWith(error);
      return false;
    }
  }

  /** Whether no other process is alive under this agent's id, as far as the control plane shows. */
  async #isFree(): Promise<boolean> {
    try {
      const agent = await this.#seen();
      return agent.liveness === "offline" || agent.metadata?.[PROCESS] === this.#process;
    } catch (error) {
      return error instanceof Refused && error.status === 404;
    }
  }

  #seen(): Promise<Agent> {
    const args = { agent_id: this.agentId, timeoutMs: ANNOUNCE_MS };
    return this.#client.api.getAgent(args);
  }

  /**
   * Deregisters the agent, unless another process may have its id (it would lose its tasks), or an operator paused it (a new
   * registration would end that).
   */
  async #leave(): Promise<void> {
    try {
      const agent = await this.#seen();
      if (this.#alone && agent.metadata?.[PROCESS] === this.#process && agent.intent_by !== "operator") {
        const args = { agent_id: this.agentId, timeoutMs: ANNOUNCE_MS };
        await this.#client.api.deregisterAgent(args);
      }
    } catch {
      // It is known as offline soon, and asks for nothing more.
    }
  }

  async #heartbeats(): Promise<void> {
    const every = this.#options.heartbeatMs ?? 10_000;
    const delays = new Delays(this.#client.patience);
    let wait = every;
    for (;;) {
      await pause(wait, this.#over.signal);
      if (this.#over.signal.aborted) {
        return;
      }
      try {
        await this.#heartbeat();
        delays.reset();
        wait = every;
      } catch (error) {
        if (error instanceof Refused && error.status === 404) {
          await this.#registered(); // the control plane has forgotten the agent
        }
        wait = Math.min(every, delays.after(error)); // never longer: leases end meanwhile
      }
    }
  }

  async #heartbeat(): Promise<void> {
    const status = this.#draining.signal.aborted ? "draining" : "ready";
    const args = { agent_id: this.agentId, body: { status, [PROCESS]: this.#process } as const, timeoutMs: HEARTBEAT_TIMEOUT_MS };
    const answer = await this.#client.api.heartbeat(args);
    for (const taskId of Array.isArray(answer.cancelling) ? answer.cancelling : []) {
      this.#stop(taskId, "cancelled");
    }
  }

  // --- claims -------------------------------------------------------------------------------------------------------

  async #work(): Promise<void> {
    const delays = new Delays(this.#client.patience);
    while (!this.#draining.signal.aborted) {
      const free = this.#concurrency - this.#jobs.size;
      if (free === 0) {
        await this.#aJobEnds();
        continue;
      }
      this.#unanswered ??= this.#claim(Math.min(free, CLAIM_TASKS));
      try {
        this.#start(await this.#claimed(this.#unanswered, this.#draining.signal));
        this.#unanswered = undefined;
        this.#answered();
        delays.reset();
      } catch (error) {
        if (this.#draining.signal.aborted) {
          return;
        }
        await this.#claimFailed(error, delays);
      }
    }
  }

  #claim(most: number): Claim {
    const types = [...this.#handlers.keys()];
    const { queues, version } = this.#options;
    return {
      agent_id: this.agentId,
      max_tasks: most,
      claim_id: `process:${this.#process}:${randomUUID().replaceAll("-", "")}`,
      block_ms: BLOCK_MS,
      ...(types.length === 0 || types.includes(null) ? {} : { task_types: (types as string[]).sort() }),
      ...(queues === undefined ? {} : { queues }),
      ...(version === undefined ? {} : { version }),
    };
  }

  async #claimed(body: Claim, signal?: AbortSignal): Promise<LeasedTask[]> {
    const args = { body, timeoutMs: BLOCK_MS + 10_000, ...(signal === undefined ? {} : { signal }) };
    const { tasks } = await this.#client.api.claimTask(args);
    if (!Array.isArray(tasks) || !tasks.every(isTask)) {
      throw new OutcomeUnknown("What answered the claim is not the control plane.");
    }
    return tasks;
  }

  async #claimFailed(error: unknown, delays: Delays): Promise<void> {
    if (error instanceof Refused) {
      this.#unanswered = undefined;
      if (error.status === 404) {
        await this.#registered();
      } else if (WRONG.has(error.status) || this.#refusesWorker(error)) {
        this.#endWith(error);
        return;
      }
    } else if (this.#unanswered !== undefined) {
      this.#unanswered.block_ms = 0; // so that its answer says at once that the control plane is back
    }
    this.#failed(error);
    await pause(delays.after(error), this.#draining.signal);
  }

  // --- jobs ---------------------------------------------------------------------------------------------------------

  #start(tasks: LeasedTask[]): void {
    for (const task of tasks) {
      const token = String((task as unknown as Record<string, Json>)["lease_token"]);
      if (this.#jobs.has(token)) {
        continue;
      }
      this.#stop(task.id, "cancelled"); // an earlier attempt of the task has lost its lease
      const stop = new AbortController();
      const sends = new JobSends(this.#client, task, token, () => this.#stop(task.id, "cancelled"));
      const job = new Job(task, stop.signal, sends);
      const running: Running = { job, stop, why: undefined, reported: Promise.resolve() };
      this.#jobs.set(token, running);
      running.reported = this.#do(running, sends).finally(() => {
        this.#jobs.delete(token);
        this.#jobEnded();
      });
    }
  }

  #stop(taskId: string, why: "cancelled" | "drained"): void {
    for (const running of this.#jobs.values()) {
      if (running.job.id === taskId) {
        running.why ??= why;
        running.stop.abort();
      }
    }
  }

  async #do(running: Running, sends: JobSends): Promise<void> {
    const outcome = await this.#outcome(running);
    await sends.settle(); // after the report the lease is over
    const { id, leaseToken, traceparent } = running.job;
    const report = { task_id: id, agent_id: this.agentId, lease_token: leaseToken, ...outcome };
    await this.#report(report, traceparent === null ? {} : { traceparent });
  }

  async #outcome(running: Running): Promise<Partial<Report>> {
    const { job } = running;
    try {
      const handler = this.#handlers.get(job.taskType) ?? this.#handlers.get(null);
      if (handler === undefined) {
        throw new Error(`this worker has no handler for ${job.taskType}`);
      }
      return { result: (await handler(job)) ?? null };
    } catch (error) {
      if (error instanceof Asks && running.why !== "cancelled") {
        return { ask: error.ask, released: true };
      }
      if (error instanceof Parks && running.why !== "cancelled") {
        return { park: error.park, released: true };
      }
      if (error instanceof Reject) {
        return { error: error.message.slice(0, 2_000) || "rejected", requeue: false };
      }
      if (running.why !== undefined) {
        return running.why === "cancelled"
          ? { error: "cancelled", requeue: false }
          : { error: "the worker was stopped before it was done", requeue: true, released: true };
      }
      this.#log(`task ${job.id} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      const name = error instanceof Error ? error.constructor.name : "";
      const code = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/.test(name) ? { error_code: name } : {};
      return { error: (String(error) || "failed").slice(0, 2_000), requeue: true, ...code };
    }
  }

  /** Repeats the report until the control plane takes it or says that the attempt is over. */
  async #report(report: Report, context: { traceparent?: string }): Promise<void> {
    const delays = new Delays(this.#client.patience);
    let sent = report;
    for (;;) {
      try {
        json(sent);
        const args = { body: { reports: [sent] }, signal: this.#over.signal, ...context };
        const { results } = await this.#client.api.completeTasks(args);
        const outcome = (results as unknown as Array<{ ok: boolean; error?: string; code?: string }>)[0];
        if (typeof outcome?.ok !== "boolean") {
          throw new OutcomeUnknown("What answered the report is not the control plane.");
        }
        if (outcome.ok) {
          return;
        }
        throw LOST.has(outcome.code ?? "")
          ? new Refused(outcome.error ?? "", outcome.code ?? "", 409)
          : FOR_LATER.has(outcome.code ?? "")
            ? new Unavailable(outcome.error ?? "", outcome.code)
            : new Refused(outcome.error ?? "", outcome.code ?? "", 400);
      } catch (error) {
        if (this.#over.signal.aborted) {
          this.#unreported = true;
          this.#log(`task ${report.task_id}: the worker ends, and the control plane has not taken its outcome`);
          return;
        }
        // Any other refusal, as of a key that is being replaced, says nothing about the report.
        if (error instanceof Refused && (WRONG.has(error.status) || error.status === 409)) {
          if (LOST.has(error.code) || sent !== report) {
            this.#log(`the report of task ${report.task_id} was refused: ${error.message}`);
            return;
          }
          sent = {
            ...kept(report),
            error: `the result cannot be reported: ${error.message}`.slice(0, 2_000),
            requeue: true,
            error_class: "malformed",
          };
          continue;
        }
        this.#failed(error);
        await pause(delays.after(error), this.#over.signal);
      }
    }
  }

  // --- the end ------------------------------------------------------------------------------------------------------

  async #finish(): Promise<void> {
    const announced = AbortSignal.timeout(ANNOUNCE_MS);
    const delays = new Delays(this.#client.patience);
    await untilTaken(() => this.#heartbeat(), delays, announced).catch(() => {});
    const last = this.#unanswered;
    if (last !== undefined) {
      // Draining interrupted this claim: it is made once more, to learn what it was granted.
      const claim = { ...last, block_ms: 0 };
      await untilTaken(() => this.#claimed(claim), delays, AbortSignal.timeout(ANNOUNCE_MS))
        .then((tasks) => this.#start(tasks))
        .catch(() => {});
    }
    const jobs = () => Promise.all([...this.#jobs.values()].map((running) => running.reported));
    await Promise.race([jobs(), pause(this.#options.drainMs ?? 30_000, this.#over.signal)]);
    for (const { job } of this.#jobs.values()) {
      this.#stop(job.id, "drained");
    }
    await Promise.race([jobs(), pause(LAST_REPORTS_MS, this.#over.signal)]);
    this.#over.abort();
    for (const { job } of this.#jobs.values()) {
      this.#log(`task ${job.id} does not stop: it goes back to the queue when its lease ends`);
    }
  }

  // --- what is met --------------------------------------------------------------------------------------------------

  #patiently<T>(call: () => Promise<T>): Promise<T> {
    const once = () =>
      call().catch((error: unknown) => {
        throw error instanceof Refused && PASSING.has(error.code) ? new Unavailable(error.message, error.code) : error;
      });
    return untilTaken(once, new Delays(this.#client.patience), this.#draining.signal, (error) => this.#failed(error));
  }

  #refusesWorker(error: Refused): boolean {
    return (error.status === 401 || error.status === 403) && !PASSING.has(error.code);
  }

  #endWith(error: unknown): void {
    if (error instanceof Refused) {
      this.#log(`the control plane refuses this worker: ${error.message}`);
      this.#refusal ??= error;
    }
    this.drain();
  }

  /** One line when an outage begins, and one when it is over. */
  #failed(error: unknown): void {
    if (!this.#failing) {
      this.#failing = true;
      this.#log(`the control plane is away, trying again: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #answered(): void {
    if (this.#failing) {
      this.#failing = false;
      this.#log("the control plane is back");
    }
  }

  /** Resolves when a job ends, or the worker drains. */
  #aJobEnds(): Promise<void> {
    return new Promise((resolve) => {
      this.#jobEnded = resolve;
    });
  }
}

function kept({ task_id, agent_id, lease_token }: Report): Report {
  return { task_id, agent_id: agent_id ?? null, lease_token: lease_token ?? null };
}

function isTask(value: unknown): value is LeasedTask {
  const task = value as Record<string, unknown> | null;
  return (
    typeof task === "object" &&
    task !== null &&
    "payload" in task &&
    ["id", "task_type", "lease_token"].every((name) => typeof task[name] === "string") &&
    ["attempt", "timeout_seconds"].every((name) => typeof task[name] === "number")
  );
}
