import { Refused, Unavailable } from "./errors.ts";

/** How long to wait before a call is repeated: `firstMs`, doubled each time up to `mostMs`; up to half is taken off at random, so
 * that clients that met the same fault do not return in the same moment. A longer wait that the server asks for is respected up
 * to `askedMostMs`, since a proxy in maintenance may ask for hours. */
export interface Patience {
  firstMs: number;
  mostMs: number;
  askedMostMs: number;
}

export const PATIENCE: Patience = { firstMs: 200, mostMs: 5_000, askedMostMs: 30_000 };

/** Resolves after `ms`, or as soon as `signal` is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const timer = setTimeout(done, Math.max(0, ms));
    signal?.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}

export class Delays {
  readonly #patience: Patience;
  #nextMs: number;

  constructor(patience: Patience) {
    this.#patience = patience;
    this.#nextMs = patience.firstMs;
  }

  reset(): void {
    this.#nextMs = this.#patience.firstMs;
  }

  /** The delay after this error; the next one will be longer. */
  after(error: unknown): number {
    const own = this.#nextMs * (0.5 + Math.random() / 2);
    this.#nextMs = Math.min(this.#patience.mostMs, this.#nextMs * 2);
    const asked = error instanceof Unavailable ? error.waitSeconds * 1_000 : 0;
    return Math.max(own, Math.min(asked, this.#patience.askedMostMs));
  }
}

/** Makes a call, again and again, until it is taken or refused. Throws `Refused`, or the last error once `signal` is aborted. */
export async function untilTaken<T>(
  call: () => Promise<T>,
  delays: Delays,
  signal?: AbortSignal,
  failed: (error: unknown) => void = () => {},
): Promise<T> {
  for (;;) {
    try {
      const answer = await call();
      delays.reset();
      return answer;
    } catch (error) {
      if (error instanceof Refused || signal?.aborted) {
        throw error;
      }
      failed(error);
      await pause(delays.after(error), signal);
    }
  }
}
