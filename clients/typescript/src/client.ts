import { Api, type Caller, type Json, type Task } from "./api.ts";
import { ControlPlaneError, OutcomeUnknown, Refused, TaskNotCompleted, Unavailable } from "./errors.ts";
import { type Fetch, fetchOnce } from "./fetching.ts";
import { Delays, PATIENCE, type Patience, pause, untilTaken } from "./repeating.ts";

const CONTROL_PLANE = "/api/control-plane";
const RECONNECT_MS = 500;
/** A stream sends a ping every 15 s. */
const SILENT_MS = 45_000;
/** How long a call waits for the end of a task: the most that the API waits. */
const LONG_POLL_S = 25;

export interface ClientOptions {
  /** Default: ARAGORA_API_URL, else http://127.0.0.1:8080. */
  baseUrl?: string;
  /** Other regions of the control plane: where calls go if the region that is called is not in their workspace's zone. Credentials
   * are sent to no other address. Default: ARAGORA_API_URLS, separated by commas. */
  otherUrls?: readonly string[];
  /** Default: ARAGORA_API_KEY. */
  apiKey?: string;
  /** The workspace that the calls act in. Default: ARAGORA_CLIENT_WORKSPACE, else the API chooses among the caller's. */
  workspace?: string;
  /** How long a call may take. */
  timeoutMs?: number;
  patience?: Patience;
  /** Another `fetch`, for instance one with a client certificate. One that is Node's own repeats what is answered 421. */
  fetch?: typeof fetch;
}

/** What a running task tells: `content` if it is a chunk (`task_chunk`). `cursor`: where to go on after it. */
export interface OutputEvent {
  type: string;
  at: number;
  attempt: number;
  content: Json | undefined;
  cursor: string;
  data: Record<string, Json>;
}

/** A client of one control plane. `api` has a method for each of its calls; what they throw is in errors.ts. */
export class ControlPlaneClient implements Caller {
  readonly api: Api;
  readonly patience: Patience;
  #baseUrl: string;
  readonly #known: readonly string[];
  readonly #headers: Record<string, string>;
  readonly #timeoutMs: number;
  readonly #fetch: Fetch;

  constructor(options: ClientOptions = {}) {
    const { env } = process;
    this.#baseUrl = checked(options.baseUrl ?? (env["ARAGORA_API_URL"] || "http://127.0.0.1:8080"), "ARAGORA_API_URL");
    const others = options.otherUrls ?? (env["ARAGORA_API_URLS"] ?? "").split(",").map((url) => url.trim()).filter(Boolean);
    this.#known = [this.#baseUrl, ...others.map((url) => checked(url, "ARAGORA_API_URLS"))];
    const key = options.apiKey ?? env["ARAGORA_API_KEY"];
    const workspace = options.workspace ?? env["ARAGORA_CLIENT_WORKSPACE"];
    this.#headers = {
      Accept: "application/json",
      ...(key ? { Authorization: `Bearer ${key}` } : {}),
      ...(workspace ? { "X-Aragora-Workspace": workspace } : {}),
    };
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#fetch = options.fetch ?? fetchOnce;
    this.patience = options.patience ?? PATIENCE;
    this.api = new Api(this);
  }

  /** Where calls go now. */
  get baseUrl(): string {
    return this.#baseUrl;
  }

  /** Makes a call: `args` has the members of the path and the query, `body`, `idempotency_key`, `signal`, `timeoutMs` and
   * `traceparent` (the W3C context that the call belongs to); `as` is "text" if the answer is one. */
  async call<T>(method: string, path: string, query: readonly string[], args: object): Promise<T> {
    const given = args as Record<string, unknown>;
    const below = path.replace(/\{(\w+)\}/g, (_, name: string) => segment(name, given[name]));
    const parameters = new URLSearchParams();
    for (const name of query) {
      for (const value of [given[name]].flat()) {
        if (value !== undefined && value !== null) {
          parameters.append(name, String(value));
        }
      }
    }
    const target = parameters.size > 0 ? `${below}?${parameters}` : below;
    const headers: Record<string, string> = { ...this.#headers };
    if (given["idempotency_key"] !== undefined) {
      headers["Idempotency-Key"] = String(given["idempotency_key"]);
    }
    if (typeof given["traceparent"] === "string") {
      headers["traceparent"] = given["traceparent"];
    }
    const body = given["body"] === undefined ? undefined : json(given["body"]);
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
    }
    const ms = typeof given["timeoutMs"] === "number" ? given["timeoutMs"] : this.#timeoutMs;
    const outer = given["signal"] instanceof AbortSignal ? given["signal"] : undefined;
    const asked = this.#baseUrl;
    let [response, text] = await this.#sent(method, target, headers, body, ms, outer);
    if (this.#moved(asked, response, text)) {
      [response, text] = await this.#sent(method, target, headers, body, ms, outer);
    }
    return this.#unwrapped(response, text, given["as"] === "text") as T;
  }

  async #sent(
    method: string,
    target: string,
    headers: Record<string, string>,
    body: string | undefined,
    ms: number,
    outer: AbortSignal | undefined,
  ): Promise<[Response, string]> {
    const bound = bounded(ms, outer);
    try {
      const { signal } = bound;
      const sent = body === undefined ? {} : { body };
      const response = await this.#fetch(this.#baseUrl + target, { method, headers, signal, redirect: "manual", ...sent });
      return [response, await response.text()];
    } catch (error) {
      throw new OutcomeUnknown(`The control plane at ${this.#shown()} does not answer (${reason(error)}).`);
    } finally {
      bound.done();
    }
  }

  /** Whether a call that the region at `asked` answered so is to be made again, at the region that it names (421 `wrong_zone`). */
  #moved(asked: string, response: Response, text: string): boolean {
    const { code, url } = (response.status === 421 ? object(text) : undefined) ?? {};
    if (code !== "wrong_zone" || typeof url !== "string") {
      return false;
    }
    const found = this.#known.find((known) => comparable(known) === comparable(url));
    if (found === undefined || comparable(found) === comparable(asked)) {
      return false;
    }
    this.#baseUrl = found;
    return true;
  }

  /** What the task tells while it runs, until its end (`task_ended`). Goes on over outages, after the last event. */
  async *output(taskId: string, options: { after?: string; signal?: AbortSignal } = {}): AsyncGenerator<OutputEvent, void, void> {
    let cursor = options.after;
    while (!options.signal?.aborted) {
      try {
        for await (const event of this.#events(`/tasks/${segment("task_id", taskId)}/chunks/stream`, cursor, options.signal)) {
          cursor = event.cursor;
          yield event;
          if (event.type === "task_ended") {
            return;
          }
        }
      } catch (error) {
        if (error instanceof Refused) {
          throw error;
        }
      }
      await pause(RECONNECT_MS, options.signal);
    }
  }

  /** The task's result, once it has completed; waits over outages too. Throws `TaskNotCompleted` if it ends otherwise, `Refused`
   * if there is no such task. */
  async result(taskId: string, options: { signal?: AbortSignal } = {}): Promise<Json> {
    const { signal } = options;
    for (;;) {
      const args = { task_id: taskId, wait: LONG_POLL_S, timeoutMs: this.#timeoutMs + LONG_POLL_S * 1_000, signal };
      const task = await untilTaken<Task>(() => this.api.getTask(args), new Delays(this.patience), signal);
      if (task.status === "completed") {
        return task.result ?? null;
      }
      if (task.status !== "pending" && task.status !== "running") {
        throw new TaskNotCompleted(task);
      }
    }
  }

  async *#events(path: string, cursor: string | undefined, signal?: AbortSignal): AsyncGenerator<OutputEvent, void, void> {
    const bound = bounded(SILENT_MS, signal);
    const headers: Record<string, string> = { ...this.#headers, Accept: "text/event-stream" };
    if (cursor !== undefined) {
      headers["Last-Event-ID"] = cursor;
    }
    try {
      const target = CONTROL_PLANE + path;
      const asked = this.#baseUrl;
      let response = await this.#fetch(asked + target, { headers, signal: bound.signal, redirect: "manual" });
      if (response.status === 421 && this.#moved(asked, response, await response.clone().text())) {
        response = await this.#fetch(this.#baseUrl + target, { headers, signal: bound.signal, redirect: "manual" });
      }
      if (response.status !== 200 || !(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
        this.#unwrapped(response, await response.text(), false);
        throw this.#foreign(response);
      }
      const decoder = new TextDecoder();
      let rest = "";
      let id = cursor ?? "";
      for await (const part of response.body ?? []) {
        bound.again();
        const lines = (rest + decoder.decode(part as Uint8Array, { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          if (/^id: \d{1,18}(\.\d{1,9})?$/.test(line)) {
            id = line.slice(4);
          } else if (line.startsWith("data: ")) {
            const told = JSON.parse(line.slice(6)) as { type: string; timestamp: number; data: Record<string, Json> };
            const attempt = typeof told.data["attempt"] === "number" ? told.data["attempt"] : 0;
            yield { type: told.type, at: told.timestamp, attempt, content: told.data["content"], cursor: id, data: told.data };
          }
        }
      }
    } finally {
      bound.done();
    }
  }

  /** The answer of the API, or the error that it is. */
  #unwrapped(response: Response, text: string, asText: boolean): unknown {
    if (response.ok && asText) {
      return text;
    }
    const body = object(text);
    if (response.ok && body !== undefined) {
      return body;
    }
    const { error, code, trace_id: trace } = body ?? {};
    if (response.status < 400 || typeof error !== "string" || typeof code !== "string" || typeof trace !== "string") {
      throw this.#foreign(response);
    }
    if (response.status === 429 || response.status >= 500) {
      throw new Unavailable(error, code, retryAfter(response));
    }
    throw new Refused(error, code, response.status);
  }

  #foreign(response: Response): ControlPlaneError {
    const message = `What answered ${response.status} at ${this.#shown()} is not the control plane; try again.`;
    return new OutcomeUnknown(message, retryAfter(response), response.status);
  }

  /** Without a password that is in it. */
  #shown(): string {
    return this.baseUrl.replace(/\/\/[^/@]*@/, "//");
  }
}

interface Bound {
  signal: AbortSignal;
  /** Gives the whole time again. */
  again(): void;
  done(): void;
}

/** A signal that is aborted after `ms`, or with `outer`. Not AbortSignal.any: in some releases of Node it keeps what it has made for
 * as long as a signal that outlives all calls. */
function bounded(ms: number, outer: AbortSignal | undefined): Bound {
  const controller = new AbortController();
  const abort = () => controller.abort();
  let timer = setTimeout(abort, ms);
  if (outer?.aborted) {
    abort();
  }
  outer?.addEventListener("abort", abort, { once: true });
  return {
    signal: controller.signal,
    again() {
      clearTimeout(timer);
      timer = setTimeout(abort, ms);
    },
    done() {
      clearTimeout(timer);
      outer?.removeEventListener("abort", abort);
    },
  };
}

/** The URL as it is used. Throws `TypeError` if it is none. */
function checked(url: string, variable: string): string {
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
    throw new TypeError(`The URL of the control plane needs http:// or https:// and a host; look at ${variable}.`);
  }
  return url.replace(/\/+$/, "");
}

function comparable(url: string): string {
  return URL.canParse(url) ? new URL(url).href.replace(/\/+$/, "") : url;
}

function segment(name: string, value: unknown): string {
  if (typeof value !== "string" || value === "" || value === "." || value === "..") {
    throw new Refused(`${name} must be an id.`, "invalid_id", 0);
  }
  return encodeURIComponent(value);
}

/** JSON, or an error where JavaScript would silently send something else. */
export function json(value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, (name, member: unknown) => {
      if (typeof member === "number" && !Number.isFinite(member)) {
        throw new TypeError(`${name || "the value"} is ${member}`);
      }
      return member;
    });
  } catch (error) {
    throw new Refused(`The call holds what JSON does not have; leave it out: ${String(error)}.`, "invalid_body", 0);
  }
  if (text === undefined) {
    throw new Refused("The call holds what JSON does not have; leave it out.", "invalid_body", 0);
  }
  return text;
}

function object(text: string): Record<string, unknown> | undefined {
  try {
    const found: unknown = JSON.parse(text);
    return typeof found === "object" && found !== null && !Array.isArray(found) ? { ...found } : undefined;
  } catch {
    return undefined;
  }
}

function retryAfter(response: Response): number {
  const text = response.headers.get("retry-after")?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) {
    return Number(text);
  }
  const at = Date.parse(text);
  return Number.isNaN(at) ? 0 : Math.max(0, (at - Date.now()) / 1_000);
}

function reason(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? (cause.message || cause.name) : String(cause);
}
