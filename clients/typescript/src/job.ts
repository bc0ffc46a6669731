import type { AskInReport, ChildOutcome, CreateTask, Json, LeasedTask, ParkInReport } from "./api.ts";
import type { ControlPlaneClient } from "./client.ts";
import { json } from "./client.ts";
import { Refused, Unavailable } from "./errors.ts";
import { Delays, pause, untilTaken } from "./repeating.ts";

const CONTROL_PLANE = "/api/control-plane";
/** The least time between two calls that send chunks, and how many bytes of them may wait. */
const CHUNKS_MS = 250;
const MOST_WAITING = 262_144;
const CALL_CHUNKS = 100;
const CHUNK_BYTES = 65_536;
/** How long the report of a job waits for its last chunks and its progress. */
const SETTLE_MS = 5_000;
/** Codes by which the server says that an attempt is over. */
export const LOST: ReadonlySet<string> = new Set(["lease_lost", "already_terminal", "task_not_found"]);

export interface Progress {
  /** 0 to 100. */
  percent?: number;
  message?: string;
  /** What the next attempt gets if this one is lost, fails or is given back. */
  checkpoint?: Json;
}

/** The answer to the question that an earlier attempt asked. */
export interface Answer {
  verdict: "approved" | "rejected" | "answered" | "default";
  value: Json;
  reason: string | null;
  answeredBy: string;
}

/** Ends a job that asks; a handler has to let it through. */
export class Asks {
  readonly ask: AskInReport;

  constructor(ask: AskInReport) {
    this.ask = ask;
  }
}

/** Ends a job that waits for children; a handler has to let it through. */
export class Parks {
  readonly park: ParkInReport;

  constructor(park: ParkInReport) {
    this.park = park;
  }
}

/** A claimed task. When `signal` is aborted nobody waits for the result any more, or the worker ends: stop then. */
export class Job {
  readonly id: string;
  readonly taskType: string;
  readonly payload: Json;
  readonly metadata: Readonly<Record<string, Json>>;
  readonly attempt: number;
  readonly timeoutSeconds: number;
  /** Names this attempt: send it along with an effect outside, so that the effect is not made twice. */
  readonly leaseToken: string;
  readonly checkpoint: Json;
  readonly answer: Answer | null;
  /** The outcomes of the children that an earlier attempt waited for last. */
  readonly children: readonly ChildOutcome[] | null;
  /** The parent of spans that the job makes, as W3C Trace Context has it; null if the control plane does not trace. */
  readonly traceparent: string | null;
  readonly signal: AbortSignal;
  readonly #sends: JobSends;
  readonly #waitedIn: number;
  #submits = 0;

  constructor(task: LeasedTask, signal: AbortSignal, sends: JobSends) {
    const told = task as unknown as Record<string, Json>;
    this.id = task.id;
    this.taskType = task.task_type;
    this.payload = task.payload;
    this.metadata = task.metadata;
    this.attempt = task.attempt;
    this.timeoutSeconds = task.timeout_seconds;
    this.leaseToken = String(told["lease_token"]);
    this.checkpoint = told["checkpoint"] ?? null;
    this.answer = answerIn(told["question"]);
    this.children = task.children ?? null;
    this.#waitedIn = task.parked?.attempt ?? 0;
    this.traceparent = traceparentOf(task) ?? null;
    this.signal = signal;
    this.#sends = sends;
  }

  /** Reports how far the job is; what is left out stays as it was. Resolves when it, or a newer report, is durable. */
  progress(progress: Progress): Promise<void> {
    return this.#sends.progress(progress);
  }

  /** Adds a text or another JSON value to the task's output, which its followers see at once; waits while too much of it waits. */
  emit(value: Json): Promise<void> {
    return this.#sends.emit(value);
  }

  /** Asks people, and ends this attempt: the task waits without a worker, and comes again with `answer` and `checkpoint`. */
  ask(question: string, options: Omit<AskInReport, "question"> = {}): never {
    throw new Asks({ question, ...options });
  }

  /** Submits children of the task, all or none, and returns their ids. An attempt that takes the place of a lost one finds the
   * children of that one if it submits the same tasks in the same order, and else submits its own. */
  async submit(children: readonly CreateTask[]): Promise<string[]> {
    this.#submits += 1;
    const key = `children:${this.id}:${this.#waitedIn}:${this.#submits}`;
    return await this.#sends.submit(children, key, this.attempt);
  }

  /** Waits for children, and ends this attempt: the task waits without a worker, and comes again when they all have ended, with
   * `children` and `checkpoint`. They are tasks that were submitted with this one as their `parent_task_id`. */
  park(children: readonly string[], options: { checkpoint?: Json } = {}): never {
    throw new Parks({ children: [...children], ...options });
  }
}

/** Of a claimed task: as the standard has it, of this version or a later one. Anything else would mean nothing. */
export function traceparentOf(task: LeasedTask): string | undefined {
  const given: unknown = task.traceparent;
  const form = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[0-9A-Za-z_-]{1,200})?$/;
  return typeof given === "string" && form.test(given) ? given : undefined;
}

function answerIn(question: Json | undefined): Answer | null {
  if (typeof question !== "object" || question === null || Array.isArray(question) || !question["verdict"]) {
    return null;
  }
  return {
    verdict: question["verdict"] as Answer["verdict"],
    value: question["answer"] ?? null,
    reason: typeof question["reason"] === "string" ? question["reason"] : null,
    answeredBy: String(question["answered_by"]),
  };
}

/** What one job sends while it runs: progress, of which the newest counts, and chunks, in the order in which they came. */
export class JobSends {
  readonly #client: ControlPlaneClient;
  readonly #taskId: string;
  readonly #path: string;
  readonly #leaseToken: string;
  /** What every call about the task is sent with. */
  readonly #context: { traceparent?: string };
  readonly #ended = new AbortController();
  readonly #lost: () => void;
  #progress: { unsent: Progress; waiting: Array<PromiseWithResolvers<void>> } | undefined;
  #progressRuns: Promise<void> | undefined;
  #chunks: Array<{ value: Json; bytes: number }> = [];
  #chunkBytes = 0;
  #next = 1;
  #room: Array<() => void> = [];
  #chunksRun: Promise<void> | undefined;
  #chunksOver = false;

  /** `lost` is called when the control plane says that the attempt is over. */
  constructor(client: ControlPlaneClient, task: LeasedTask, leaseToken: string, lost: () => void) {
    const traceparent = traceparentOf(task);
    this.#client = client;
    this.#taskId = task.id;
    this.#path = `${CONTROL_PLANE}/tasks/${encodeURIComponent(task.id)}`;
    this.#leaseToken = leaseToken;
    this.#context = traceparent === undefined ? {} : { traceparent };
    this.#lost = lost;
  }

  progress(progress: Progress): Promise<void> {
    json(progress);
    const waiting = resolvers<void>();
    waiting.promise.catch(() => {}); // whoever need not know may drop it
    if (this.#ended.signal.aborted) {
      waiting.reject(over());
      return waiting.promise;
    }
    this.#progress ??= { unsent: {}, waiting: [] };
    this.#progress.unsent = { ...this.#progress.unsent, ...progress };
    this.#progress.waiting.push(waiting);
    this.#progressRuns ??= this.#sendProgress();
    return waiting.promise;
  }

  async emit(value: Json): Promise<void> {
    const bytes = Buffer.byteLength(json(value));
    if (bytes > CHUNK_BYTES) {
      throw new RangeError(`A chunk has at most ${CHUNK_BYTES} bytes as JSON; emit it in parts.`);
    }
    while (!this.#chunksOver && this.#chunkBytes > 0 && this.#chunkBytes + bytes > MOST_WAITING) {
      await new Promise<void>((resolve) => this.#room.push(resolve));
    }
    if (!this.#chunksOver) {
      this.#chunks.push({ value, bytes });
      this.#chunkBytes += bytes;
      this.#chunksRun ??= this.#sendChunks();
    }
  }

  async submit(children: readonly CreateTask[], key: string, attempt: number): Promise<string[]> {
    const tasks = children.map((child) => ({ ...child, parent_task_id: this.#taskId })); // as those of a former attempt were
    try {
      return await this.#submitted(tasks, key);
    } catch (error) {
      if (!(error instanceof Refused && error.code === "idempotency_conflict")) {
        throw error;
      }
      return await this.#submitted(tasks, `${key}:${attempt}`); // a lost attempt had another plan
    }
  }

  async #submitted(tasks: CreateTask[], key: string): Promise<string[]> {
    const options = { idempotency_key: key, signal: this.#ended.signal, ...this.#context };
    const body = { tasks, lease_token: this.#leaseToken };
    const call = () => this.#client.api.createChildren({ task_id: this.#taskId, body, ...options });
    try {
      return (await untilTaken(call, new Delays(this.#client.patience), this.#ended.signal)).task_ids;
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404 && error.code === "not_found")) {
        throw error;
      }
    }
    // A control plane from before this call. Both calls know the keys of either.
    const asBatch = () => this.#client.api.createTasks({ body: { tasks }, ...options });
    return (await untilTaken(asBatch, new Delays(this.#client.patience), this.#ended.signal)).task_ids;
  }

  /** Waits for what was put in, for a bounded time. The last call: what comes later is dropped. */
  async settle(): Promise<void> {
    const both = Promise.all([this.#progressRuns, this.#chunksRun]);
    await Promise.race([both, pause(SETTLE_MS, this.#ended.signal)]);
    this.#ended.abort();
    this.#endChunks();
    await both;
  }

  async #sendProgress(): Promise<void> {
    while (this.#progress !== undefined) {
      const { unsent, waiting } = this.#progress;
      this.#progress = undefined;
      const body = { lease_token: this.#leaseToken, ...unsent };
      try {
        await this.#post("/extend", body);
        waiting.forEach((each) => each.resolve());
      } catch (error) {
        if (error instanceof Refused && LOST.has(error.code)) {
          this.#lost();
        }
        waiting.forEach((each) => each.reject(error instanceof Refused ? error : over()));
      }
    }
    this.#progressRuns = undefined;
  }

  async #sendChunks(): Promise<void> {
    try {
      while (this.#chunks.length > 0 && !this.#chunksOver) {
        const batch = this.#chunks.splice(0, CALL_CHUNKS);
        const body = { lease_token: this.#leaseToken, first: this.#next, chunks: batch.map((chunk) => chunk.value) };
        try {
          await this.#post("/chunks", body);
        } catch (error) {
          if (!(error instanceof Refused && error.code === "chunk_gap")) {
            throw error;
          }
          await this.#post("/chunks", { ...body, skip: true }); // another region answers now, which lacks the former ones
        }
        this.#next += batch.length;
        this.#chunkBytes -= batch.reduce((sum, chunk) => sum + chunk.bytes, 0);
        this.#makeRoom();
        await pause(CHUNKS_MS, this.#ended.signal);
      }
    } catch {
      this.#endChunks(); // an addition to the result: what is refused fails no job
    }
    this.#chunksRun = undefined;
  }

  #post(path: string, body: object): Promise<unknown> {
    const call = () => this.#client.call("POST", this.#path + path, [], { body, signal: this.#ended.signal, ...this.#context });
    return untilTaken(call, new Delays(this.#client.patience), this.#ended.signal);
  }

  #endChunks(): void {
    this.#chunksOver = true;
    this.#makeRoom();
  }

  #makeRoom(): void {
    const waiting = this.#room;
    this.#room = [];
    waiting.forEach((resolve) => resolve());
  }
}

function over(): Unavailable {
  return new Unavailable("The job ended before the control plane had acknowledged its progress.");
}

interface PromiseWithResolvers<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
}

/** `Promise.withResolvers`, which Node has from version 22 on. */
function resolvers<T>(): PromiseWithResolvers<T> {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
