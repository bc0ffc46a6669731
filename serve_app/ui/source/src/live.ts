/**
 * The stream of events. It is read with `fetch`, because an `EventSource` sends no header and so has no key. A lost connection
 * is resumed after the last event that was seen, so none is missed.
 */
import { createParser } from "eventsource-parser";
import { useSyncExternalStore } from "react";
import { ApiError, CP, headers, read, refusal, withQuery } from "./api.ts";

export interface LiveEvent {
  seq: number;
  type: string;
  timestamp: number;
  data: Record<string, unknown>;
}

export type LiveState = "connecting" | "live" | "lost" | "off";

/** The server says something at least every 15 s. */
const SILENT_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
/** How often listeners are told, however many events come. */
const BATCH_MS = 250;
/** Events before the page was opened that the chart of activity begins with. */
export const BACK = 1_000;

class Live {
  state: LiveState = "connecting";
  /** The newest event when the page was opened: those before it are for the chart, what is shown has them already. */
  opened = 0;
  private cursor: number | null = null;
  private abort: AbortController | null = null;
  private waiting: LiveEvent[] = [];
  private timer: number | undefined;
  private reread: () => void = () => {};
  private readonly listeners = new Set<(events: readonly LiveEvent[]) => void>();
  private readonly watchers = new Set<() => void>();

  listen(listener: (events: readonly LiveEvent[]) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  watch = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };

  /**
   * Begins anew, for another caller or workspace. `ended` is told why the server does not let it go on; `reread` is called if
   * events were missed, because the log does not have them any more.
   */
  start(ended: (error: ApiError) => void, reread: () => void): void {
    this.stop();
    this.reread = reread;
    this.cursor = null;
    const abort = (this.abort = new AbortController());
    void this.run(abort.signal, ended);
  }

  stop(): void {
    this.abort?.abort();
    this.abort = null;
    this.waiting = [];
  }

  private show(state: LiveState): void {
    if (this.state === state) return;
    this.state = state;
    for (const watcher of this.watchers) watcher();
  }

  private async run(signal: AbortSignal, ended: (error: ApiError) => void): Promise<void> {
    let wait = FIRST_WAIT_MS;
    this.show("connecting");
    while (!signal.aborted) {
      try {
        await this.once(signal, () => (wait = FIRST_WAIT_MS));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiError && !error.mayRepeat && error.status < 500) {
          // A cursor that the log does not have any more: what is shown is read anew, so begin now.
          if (this.cursor !== null && error.status !== 401 && error.status !== 403) {
            this.cursor = null;
            this.reread();
          }
          else {
            this.show("off");
            ended(error);
            return;
          }
        }
      }
      if (signal.aborted) return;
      this.show("lost");
      await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    }
  }

  private async once(signal: AbortSignal, connected: () => void): Promise<void> {
    if (this.cursor === null) {
      const { last_event_id } = await read<{ last_event_id: number }>("stream", {}, signal);
      this.opened = last_event_id;
      this.cursor = Math.max(0, last_event_id - BACK);
    }
    const silence = new AbortController();
    let alarm = window.setTimeout(() => silence.abort(), SILENT_MS);
    try {
      const answer = await fetch(withQuery(`${CP}/stream`, { after: this.cursor }), {
        headers: headers({ Accept: "text/event-stream" }),
        credentials: "same-origin",
        cache: "no-store",
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (!answer.ok || answer.body === null) throw await refusal(answer);
      connected();
      this.show("live");
      let closed: ApiError | null = null;
      const parser = createParser({
        onEvent: ({ id, event, data }) => {
          if (event === "closed") {
            const said = JSON.parse(data) as { error: string; code: string };
            closed = new ApiError(401, said.code, said.error);
          } else if (data) this.take(JSON.parse(data) as LiveEvent);
          if (id) this.cursor = Number(id);
        },
      });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(alarm);
        alarm = window.setTimeout(() => silence.abort(), SILENT_MS);
        parser.feed(value);
        if (closed) throw closed;
      }
    } finally {
      clearTimeout(alarm);
    }
  }

  private take(event: LiveEvent): void {
    this.waiting.push(event);
    this.timer ??= window.setTimeout(() => {
      this.timer = undefined;
      const events = this.waiting;
      this.waiting = [];
      if (events.length) for (const listener of this.listeners) listener(events);
    }, BATCH_MS);
  }
}

export const live = new Live();

export function useLiveState(): LiveState {
  return useSyncExternalStore(live.watch, () => live.state);
}
