/** One call of the public API: its credentials, its workspace, its errors. The page has no other way to the server. */
import { noteDate } from "./clock.ts";
import { credentials } from "./session.ts";

export const CP = "/api/control-plane";

/** What the server refused, in its words. `status` 0: it was not reached. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly trace: string;

  constructor(status: number, code: string, message: string, trace = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.trace = trace;
  }

  get mayRepeat(): boolean {
    return this.status === 0 || this.status === 429 || this.status === 503;
  }
}

type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

export function withQuery(path: string, query: Query = {}): string {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") parts.append(name, String(each));
    }
  }
  const text = parts.toString();
  return text ? `${path}?${text}` : path;
}

export function headers(more: Record<string, string> = {}): Record<string, string> {
  const { key, csrf, workspace } = credentials();
  return {
    ...(key ? { Authorization: `Bearer ${key}` } : csrf ? { "X-CSRF-Token": csrf } : {}),
    ...(workspace ? { "X-Aragora-Workspace": workspace } : {}),
    ...more,
  };
}

/** A key for a change. `crypto.randomUUID` is missing where the page came over plain HTTP from another machine. */
export function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function refusal(answer: Response): Promise<ApiError> {
  const text = await answer.text();
  try {
    const said = JSON.parse(text) as { error?: string; code?: string; trace_id?: string };
    if (typeof said.error === "string") {
      return new ApiError(answer.status, said.code ?? "", said.error, said.trace_id);
    }
  } catch {
    // A proxy in front answered with something of its own.
  }
  return new ApiError(answer.status, "", `Something in front of the control plane answered ${answer.status}.`);
}

async function request(path: string, init: RequestInit): Promise<Response> {
  try {
    const answer = await fetch(path, { ...init, credentials: "same-origin", cache: "no-store" });
    noteDate(answer.headers.get("date"));
    return answer;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The control plane cannot be reached.");
  }
}

async function ask(path: string, query: Query, signal?: AbortSignal): Promise<Response> {
  const answer = await request(withQuery(path.startsWith("/") ? path : `${CP}/${path}`, query), { headers: headers(), signal });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function read<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return (await (await ask(path, query, signal)).json()) as T;
}

/** What is not for the page to parse: a receipt, an export. */
export async function readText(path: string, query: Query = {}, signal?: AbortSignal): Promise<string> {
  return (await ask(path, query, signal)).text();
}

/** A change. It is sent again once, under the same key, if its outcome is unknown. */
export async function change<T>(method: string, path: string, body: object = {}): Promise<T> {
  const init = {
    method,
    headers: headers({ "Content-Type": "application/json", "Idempotency-Key": newKey() }),
    body: JSON.stringify(body),
  };
  const answer = await request(`${CP}/${path}`, init).catch((error: unknown) => {
    if (error instanceof ApiError) return request(`${CP}/${path}`, init);
    throw error;
  });
  if (!answer.ok) throw await refusal(answer);
  return (await answer.json()) as T;
}
