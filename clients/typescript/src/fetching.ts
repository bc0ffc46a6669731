import { Agent, type IncomingMessage, type RequestOptions, request } from "node:http";
import { Agent as AgentOverTls, request as requestOverTls } from "node:https";
import { Readable } from "node:stream";

/** What the client asks of a `fetch`; that of Node and undici's do it. */
export type Fetch = (
  url: string,
  init: { method?: string; headers: Record<string, string>; body?: string; signal: AbortSignal; redirect: "manual" },
) => Promise<Response>;

/** A connection that nobody uses is closed before the server does it (uvicorn: 5 s), so that no call meets the server's end. */
const IDLE_MS = 4_000;
const NO_BODY = new Set([204, 205, 304]);

const plain = new Agent({ keepAlive: true, timeout: IDLE_MS });
const overTls = new AgentOverTls({ keepAlive: true, timeout: IDLE_MS });

/** A `fetch` that makes each call once. Node's own repeats what was answered 421 on a new connection, as the Fetch standard says
 * (HTTP-network-or-cache fetch), and now and then loses the answer as it ends the old one; a call that waits for 421 `wrong_zone`
 * cannot use it. Follows no redirects. */
export const fetchOnce: Fetch = (url, { method = "GET", headers, body, signal }) =>
  new Promise((resolve, reject) => {
    const secure = url.startsWith("https:");
    const length = body === undefined ? {} : { "Content-Length": Buffer.byteLength(body) };
    const options: RequestOptions = { method, headers: { ...headers, ...length }, signal, agent: secure ? overTls : plain };
    const call = (secure ? requestOverTls : request)(url, options, (answer) => {
      try {
        resolve(responseOf(answer));
      } catch (error) {
        answer.destroy();
        reject(error);
      }
    });
    call.on("error", reject);
    call.end(body);
  });

function responseOf(answer: IncomingMessage): Response {
  const headers = new Headers();
  for (let at = 0; at + 1 < answer.rawHeaders.length; at += 2) {
    headers.append(answer.rawHeaders[at] ?? "", answer.rawHeaders[at + 1] ?? "");
  }
  const status = answer.statusCode ?? 0;
  if (NO_BODY.has(status)) {
    answer.resume();
    return new Response(null, { status, headers });
  }
  return new Response(Readable.toWeb(answer) as ReadableStream, { status, headers });
}
