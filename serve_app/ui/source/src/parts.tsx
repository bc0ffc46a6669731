/** What several pages show in the same way. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useEffect, useId, useRef, useState, useSyncExternalStore } from "react";
import { Link } from "wouter";
import { ApiError } from "./api.ts";
import { serverNow } from "./clock.ts";

// --- times ---------------------------------------------------------------------------------------------------------------

let now = serverNow();
const tickers = new Set<() => void>();
let ticking: number | undefined;

function subscribeToTicks(listener: () => void): () => void {
  tickers.add(listener);
  ticking ??= window.setInterval(() => {
    now = serverNow();
    for (const ticker of tickers) ticker();
  }, 1_000);
  return () => {
    tickers.delete(listener);
    if (tickers.size === 0) {
      clearInterval(ticking);
      ticking = undefined;
    }
  };
}

/** Epoch seconds, a second at a time. One timer serves the whole page. */
export function useNow(): number {
  return useSyncExternalStore(subscribeToTicks, () => Math.floor(now / 1_000));
}

export function seconds(time: number | string): number {
  return typeof time === "number" ? time : Date.parse(time) / 1_000;
}

export function duration(s: number): string {
  if (s < 0.0995) return `${Math.max(0, Math.round(s * 1_000))} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  const whole = Math.round(s);
  if (whole < 3_600) return parted(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return parted(Math.floor(whole / 3_600), "h", Math.floor((whole % 3_600) / 60), "min");
  return parted(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3_600), "h");
}

function parted(large: number, unit: string, small: number, smaller: string): string {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smaller}`;
}

function ago(s: number): string {
  const future = s < -2;
  if (Math.abs(s) < 2) return "just now";
  const text = duration(Math.round(Math.abs(s))).replace(".0", "");
  return future ? `in ${text}` : `${text} ago`;
}

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3 });

/** A time in the viewer's zone, with UTC on hover. */
export function Time({ at, form = "ago" }: { at: number | string | null | undefined; form?: "ago" | "clock" | "full" }) {
  if (at === null || at === undefined) return <span className="faint">–</span>;
  const s = seconds(at);
  const moment = new Date(s * 1_000);
  return (
    <time dateTime={moment.toISOString()} title={`${moment.toISOString().replace("T", " ").replace("Z", "")} UTC`}>
      {form === "ago" ? <Ago at={s} /> : (form === "clock" ? CLOCK : FULL).format(moment)}
    </time>
  );
}

function Ago({ at }: { at: number }) {
  return <>{ago(useNow() - at)}</>;
}

/** How long something has been, or was, under way. */
export function Since({ from, to }: { from: number; to?: number | null }) {
  return to === null || to === undefined ? <Counting from={from} /> : <>{duration(Math.max(0, to - from))}</>;
}

function Counting({ from }: { from: number }) {
  return <>{duration(Math.max(0, useNow() - from))}</>;
}

// --- words ---------------------------------------------------------------------------------------------------------------

const TONES: Record<string, string> = {
  completed: "good", healthy: "good", alive: "good", ready: "good", closed: "good", DECIDED: "good", consensus_reached: "good", busy: "busy",
  running: "busy", in_progress: "busy", scheduled: "busy", starting: "busy", half_open: "warn", queued: "wait", pending: "wait", delayed: "wait",
  blocked: "wait", waiting_children: "wait", retrying: "warn", cancelling: "warn", input_required: "warn", paused: "warn", draining: "warn",
  suspect: "warn", degraded: "warn", no_consensus: "warn", failed: "bad", dead_lettered: "bad", timeout: "bad", offline: "bad", deaf: "bad",
  open: "bad", unhealthy: "bad",
};

/** A state: a colour, and always its word. */
export function Badge({ state, children }: { state: string; children?: ReactNode }) {
  return <span className={`badge ${TONES[state] ?? "plain"}`}>{children ?? words(state)}</span>;
}

export function words(name: string): string {
  return name.replaceAll("_", " ");
}

export function count(n: number): string {
  return n.toLocaleString();
}

/** Before the id of an agent, in the name of its breaker. */
export const BREAKER = "health_";

export function usd(amount: string): string {
  return Number(amount).toLocaleString(undefined, { style: "currency", currency: "USD", maximumFractionDigits: 6 });
}

export function plural(n: number, noun: string): string {
  return `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
}

export const PRIORITIES: Record<number, string> = { 0: "low", 50: "normal", 75: "high", 100: "urgent" };

export function Id({ to, id }: { to: string; id: string }) {
  return (
    <Link href={to} className="id" title={id}>
      {id}
    </Link>
  );
}

// --- frames --------------------------------------------------------------------------------------------------------------

export function Page({ title, lead, actions, children }: { title: string; lead?: ReactNode; actions?: ReactNode; children: ReactNode }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Aragora`;
  }, [title]);
  return (
    <>
      <header className="head">
        <div>
          <h1 ref={heading} tabIndex={-1}>
            {title}
          </h1>
          {lead && <p className="lead">{lead}</p>}
        </div>
        {actions && <div className="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

export function Card({ title, more, children, className = "" }: { title: string; more?: ReactNode; children: ReactNode; className?: string }) {
  const id = useId();
  return (
    <section className={`card ${className}`} aria-labelledby={id}>
      <div className="cardhead">
        <h2 id={id}>{title}</h2>
        {more}
      </div>
      {children}
    </section>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** What a call answered, or why it did not. What was shown before stays while it is read anew. */
export function Loaded<T>({ of, children }: { of: { data: T | undefined; error: Error | null }; children: (data: T) => ReactNode }) {
  if (of.data !== undefined) {
    return (
      <>
        {of.error && <Problem error={of.error} />}
        {children(of.data)}
      </>
    );
  }
  return of.error ? <Problem error={of.error} /> : <p className="faint" role="status">Loading…</p>;
}

export function Problem({ error }: { error: Error }) {
  return (
    <div className="problem" role="alert">
      <p>{error.message}</p>
      {error instanceof ApiError && error.trace && <p className="faint">Trace id {error.trace}</p>}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}

// --- actions -------------------------------------------------------------------------------------------------------------

interface ActProps {
  label: string;
  run: () => Promise<unknown>;
  /** Why it cannot be done; null if it can. */
  refused?: string | null;
  /** Is asked before. */
  confirm?: string;
  tone?: "primary" | "danger" | "";
  done?: string;
}

/** A button for one change. A forbidden one stays, can be focused, and says why. */
export function Act({ label, run, refused = null, confirm, tone = "", done }: ActProps) {
  const client = useQueryClient();
  const dialog = useRef<HTMLDialogElement>(null);
  const reason = useId();
  const change = useMutation({ mutationFn: run, onSettled: () => client.invalidateQueries() });
  const start = () => {
    if (refused !== null || change.isPending) return;
    if (confirm === undefined) change.mutate();
    else dialog.current?.showModal();
  };
  return (
    <span className="act">
      <button
        type="button"
        className={tone}
        aria-disabled={refused !== null || change.isPending}
        aria-describedby={refused === null ? undefined : reason}
        title={refused ?? undefined}
        onClick={start}
      >
        {change.isPending ? `${label}…` : label}
      </button>
      {refused !== null && <span id={reason} className="why">{refused}</span>}
      {change.error && <Problem error={change.error} />}
      {change.isSuccess && done && <span role="status" className="done">{done}</span>}
      {confirm !== undefined && (
        <dialog ref={dialog} aria-label={label}>
          <form method="dialog" onSubmit={() => change.mutate()}>
            <p>{confirm}</p>
            <div className="actions">
              <button type="button" onClick={() => dialog.current?.close()}>Keep it as it is</button>
              <button className={tone || "primary"}>{label}</button>
            </div>
          </form>
        </dialog>
      )}
    </span>
  );
}

/** JSON that somebody wrote: folded, copied, downloaded. */
export function Value({ title, value, name, open = false }: { title: string; value: unknown; name: string; open?: boolean }) {
  const [copied, setCopied] = useState(false);
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const download = () => {
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <details className="value" open={open}>
      <summary>
        {title} <span className="faint">{plural(text.length, "character")}</span>
      </summary>
      <div className="actions">
        <button
          type="button"
          onClick={() => {
            // The clipboard is there for pages from https and from this machine only.
            void navigator.clipboard?.writeText(text).then(() => setCopied(true));
          }}
        >
          {copied ? "Copied" : "Copy"}
        </button>
        <button type="button" onClick={download}>Download</button>
      </div>
      <pre tabIndex={0}>{text.length > 200_000 ? `${text.slice(0, 200_000)}\n… download it to see the rest` : text}</pre>
    </details>
  );
}
