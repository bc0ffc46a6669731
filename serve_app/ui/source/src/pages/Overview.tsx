/** Is it up, does work flow, what is wrong now. */
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useEffect, useReducer } from "react";
import { Link } from "wouter";
import { read } from "../api.ts";
import { useMay } from "../caller.ts";
import { serverNow } from "../clock.ts";
import { live, type LiveEvent } from "../live.ts";
import { Badge, BREAKER, Card, count, duration, Empty, Fact, Loaded, Page, plural, seconds, Since, Time, useNow } from "../parts.tsx";
import type { AgentPage, Breakers, DeadPage, Health, Queue, QueueNumbers } from "../types.ts";

const EVERY_MS = 15_000;

export function OverviewPage() {
  const may = useMay();
  return (
    <Page title="Overview" lead="Is it up, does work flow, and what is wrong now.">
      <div className="grid">
        {may("queue.read") && <Flow />}
        <Wrong />
        {may("stream.read") && <Activity />}
        {may("health.read") && <Up />}
      </div>
    </Page>
  );
}

// --- does work flow ------------------------------------------------------------------------------------------------------

function Flow() {
  const numbers = useQuery({
    queryKey: ["numbers", "queue"],
    queryFn: ({ signal }) => read<QueueNumbers>("queue/metrics", {}, signal),
    refetchInterval: EVERY_MS,
  });
  const oldest = useQuery({
    queryKey: ["numbers", "oldest"],
    queryFn: async ({ signal }) => (await read<Queue>("queue", { limit: 200 }, signal)).jobs,
    refetchInterval: EVERY_MS,
  });
  const waiting = oldest.data?.filter((job) => job.status === "pending") ?? [];
  waiting.sort((one, other) => seconds(one.created_at) - seconds(other.created_at));
  const [first] = waiting;
  return (
    <Card title="Work" more={<Link href="/queue">All tasks</Link>} className="wide">
      <Loaded of={numbers}>
        {(found) => (
          <dl className="numbers">
            <Number name="Waiting" value={count(found.pending)} to="/queue?status=pending" />
            <Number name="Running" value={count(found.running)} to="/queue?status=running" />
            <Number name="Done today" value={count(found.completed_today)} to="/queue?status=completed" />
            <Number name="Failed today" value={count(found.failed_today)} to="/queue?status=failed" bad={found.failed_today > 0} />
            <Number name="Done per minute" value={count(Math.round(found.throughput_per_minute * 10) / 10)} />
            <Number name="Mean wait, last hour" value={duration(found.avg_wait_time_ms / 1_000)} />
            <Number name="Mean run, last hour" value={duration(found.avg_execution_time_ms / 1_000)} />
            <Number
              name="Oldest waiting"
              value={first ? <Since from={seconds(first.created_at)} /> : found.pending ? "behind running work" : "nothing waits"}
              to={first && `/tasks/${encodeURIComponent(first.id)}`}
            />
          </dl>
        )}
      </Loaded>
    </Card>
  );
}

function Number({ name, value, to, bad = false }: { name: string; value: ReactNode; to?: string; bad?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className={bad ? "bad" : ""}>{to ? <Link href={to}>{value}</Link> : value}</dd>
    </div>
  );
}

// --- what is wrong -------------------------------------------------------------------------------------------------------

interface Fault {
  what: string;
  more: string;
  to: string;
}

function Wrong() {
  const may = useMay();
  const read_ = <T,>(name: string, path: string, query: object, permission: string) => ({
    queryKey: ["numbers", name],
    queryFn: ({ signal }: { signal: AbortSignal }) => read<T>(path, query as Record<string, string>, signal),
    refetchInterval: EVERY_MS,
    enabled: may(permission),
  });
  const dead = useQuery(read_<DeadPage>("dead", "dead-letter", { limit: 1 }, "tasks.read"));
  const asked = useQuery(read_<{ total: number }>("asked", "tasks", { limit: 1, status_detail: "input_required" }, "tasks.read"));
  const breakers = useQuery(read_<Breakers>("breakers", "breakers", {}, "health.read"));
  const offline = useQuery(read_<AgentPage>("offline", "agents", { limit: 1, available: false, status: "offline" }, "agents.read"));
  const failing = useQuery(read_<AgentPage>("failing", "agents", { limit: 1, available: false, status: "failed" }, "agents.read"));
  const health = useQuery(read_<Health>("health", "health/detailed", {}, "health.read"));
  const faults: Fault[] = [];
  for (const component of health.data?.components ?? []) {
    if (component.status !== "healthy") faults.push({ what: `${component.name} does not answer`, more: component.error ?? "", to: "#components" });
  }
  if (dead.data?.total) {
    faults.push({
      what: `${plural(dead.data.total, "task")} in the dead letter`,
      more: "Out of retries, or out of time. Look at why, then replay them.",
      to: "/queue?view=dead",
    });
  }
  if (offline.data?.total) {
    faults.push({ what: `${plural(offline.data.total, "agent")} offline`, more: "No sign of life on the channel of its work.", to: "/fleet?status=offline" });
  }
  if (failing.data?.total) {
    faults.push({ what: `${plural(failing.data.total, "agent")} failed`, more: "The endpoint fails its probes or calls.", to: "/fleet?status=failed" });
  }
  for (const breaker of breakers.data?.breakers ?? []) {
    if (breaker.state === "open") {
      const agent = breaker.name.startsWith(BREAKER) ? breaker.name.slice(BREAKER.length) : null;
      faults.push({
        what: `The breaker of ${agent ?? breaker.name} is open`,
        more: plural(breaker.failure_count, "failure"),
        to: agent === null ? "#components" : `/agents/${encodeURIComponent(agent)}`,
      });
    }
  }
  if (asked.data?.total) {
    faults.push({ what: `${plural(asked.data.total, "task")} wait for people`, more: "A question is open: answer it.", to: "/questions" });
  }
  const questions = [dead, asked, breakers, offline, failing, health];
  const unread = questions.find((each) => each.error)?.error;
  const known = questions.every((each) => !each.isLoading);
  return (
    <Card title="Wrong now">
      {unread && <p className="bad" role="alert">{unread.message}</p>}
      {faults.length > 0 ? (
        <ul className="faults">
          {faults.map((fault) => (
            <li key={fault.what}>
              {fault.to.startsWith("#") ? <a href={fault.to}>{fault.what}</a> : <Link href={fault.to}>{fault.what}</Link>}
              <span className="faint">{fault.more}</span>
            </li>
          ))}
        </ul>
      ) : known && !unread ? (
        <Empty>Nothing. No dead letters, no open breakers, no agents offline.</Empty>
      ) : (
        <p className="faint" role="status">Looking…</p>
      )}
    </Card>
  );
}

// --- is it up ------------------------------------------------------------------------------------------------------------

function Up() {
  const health = useQuery({
    queryKey: ["numbers", "health"],
    queryFn: ({ signal }) => read<Health>("health/detailed", {}, signal),
    refetchInterval: EVERY_MS,
  });
  return (
    <Card title="Components" more={health.data && <Badge state={health.data.status} />} className="wide">
      <span id="components" />
      <Loaded of={health}>
        {(found) => (
          <>
            <ul className="components">
              {found.components.map((component) => (
                <li key={component.name}>
                  <Badge state={component.status} />
                  <strong>{component.name}</strong>
                  <span className="faint">{component.error ?? (component.latency_ms === undefined ? "" : `${component.latency_ms.toFixed(1)} ms`)}</span>
                  {component.warnings?.map((warning) => <p key={warning} className="warning">{warning}</p>)}
                </li>
              ))}
            </ul>
            <dl className="facts">
              <Fact name="Version">{found.version}</Fact>
              <Fact name="Up for">{duration(found.uptime_seconds)}</Fact>
            </dl>
          </>
        )}
      </Loaded>
    </Card>
  );
}

// --- what happens --------------------------------------------------------------------------------------------------------

const BIN_S = 20;
const BINS = 30;
const KINDS = [
  ["task_submitted", "submitted"],
  ["task_claimed", "started"],
  ["task_completed", "done"],
] as const;

type Bins = Map<number, number[]>;

/** Events of the last ten minutes by when they happened. Kept outside of the page: it is there again when one comes back. */
const bins: Bins = new Map();
const latest: LiveEvent[] = [];
const seen = { seq: 0 };

function note(events: readonly LiveEvent[]): void {
  const newest = serverNow() / 1_000;
  for (const event of events) {
    if (event.seq <= seen.seq) continue;
    seen.seq = event.seq;
    latest.unshift(event);
    const kind = KINDS.findIndex(([type]) => type === event.type);
    if (kind < 0) continue;
    const at = Math.floor(event.timestamp / BIN_S);
    const bin = bins.get(at) ?? [0, 0, 0];
    bin[kind] = (bin[kind] ?? 0) + 1;
    bins.set(at, bin);
  }
  latest.length = Math.min(latest.length, 12);
  for (const at of bins.keys()) if (at < newest / BIN_S - BINS - 1) bins.delete(at);
}

/** Another workspace's events are not this one's. */
export function forgetActivity(): void {
  bins.clear();
  latest.length = 0;
  seen.seq = 0;
}

live.listen(note);

function Activity() {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => live.listen(redraw), []);
  const last = Math.floor(useNow() / BIN_S);
  const columns = Array.from({ length: BINS }, (_, at) => bins.get(last - BINS + 1 + at) ?? [0, 0, 0]);
  const highest = Math.max(3, ...columns.flat());
  const totals = KINDS.map((_, kind) => columns.reduce((sum, bin) => sum + (bin[kind] ?? 0), 0));
  return (
    <Card title="Last ten minutes">
      <figure className="chart">
        <svg viewBox={`0 0 ${BINS * 24} 120`} preserveAspectRatio="none" role="img" aria-label={KINDS.map(([, name], kind) => `${totals[kind]} ${name}`).join(", ")}>
          {columns.map((bin, at) =>
            bin.map((value, kind) => (
              <rect key={`${at} ${kind}`} className={`kind${kind}`} x={at * 24 + 3 + kind * 6} width={5} y={120 - (value / highest) * 116} height={(value / highest) * 116} rx={1} />
            )),
          )}
        </svg>
        <figcaption>
          {KINDS.map(([, name], kind) => (
            <span key={name}><i className={`key kind${kind}`} /> {count(totals[kind] ?? 0)} {name}</span>
          ))}
          <span className="faint">of the newest thousand rows of the log and what came since, by 20 s</span>
        </figcaption>
      </figure>
      <Latest />
    </Card>
  );
}

function Latest() {
  if (latest.length === 0) return <Empty>Nothing has happened yet. <Link href="/submit">Submit a task</Link></Empty>;
  return (
    <details>
      <summary>Newest events</summary>
      <ol className="events">
        {latest.map((event) => (
          <li key={event.seq}>
            <Time at={event.timestamp} form="clock" /> <span>{event.type.replaceAll("_", " ")}</span> <Subject event={event} />
          </li>
        ))}
      </ol>
    </details>
  );
}

function Subject({ event: { data } }: { event: LiveEvent }) {
  for (const [name, path] of [["task_id", "tasks"], ["agent_id", "agents"]] as const) {
    const id = data[name];
    if (typeof id === "string") return <Link href={`/${path}/${encodeURIComponent(id)}`} className="id">{id}</Link>;
  }
  return null;
}
