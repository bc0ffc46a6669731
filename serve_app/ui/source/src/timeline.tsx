/** A story as a timeline: every row of the log about something, oldest first. */
import { Link } from "wouter";
import { duration, PRIORITIES, Time, words } from "./parts.tsx";
import type { StoryEvent } from "./types.ts";

const TONES: [RegExp, string][] = [
  [/completed|answered|resumed|unblocked/, "good"],
  [/failed|dead_lettered|timeout|error|offline/, "bad"],
  [/retried|requeued|cancel|asked|parked|paused|violat|warning/, "warn"],
  [/claimed|started|vote|proposal|revision/, "busy"],
];
/** What the row's own line says already. */
const SAID = new Set(["task_id", "request_id", "agent_id", "agent", "task_type", "claim_id"]);

export function Timeline({ events, about }: { events: readonly StoryEvent[]; about: string }) {
  return (
    <ol className="timeline">
      {events.map((event, at) => {
        const before = events[at - 1];
        const agent = event.data as { agent_id?: unknown; agent?: unknown };
        const who = [agent.agent_id, agent.agent].find((each) => typeof each === "string") as string | undefined;
        return (
          <li key={event.seq} className={TONES.find(([kind]) => kind.test(event.type))?.[1] ?? "plain"}>
            <div className="line">
              <Time at={event.timestamp} form="clock" />
              <strong>{words(event.type.slice(event.type.indexOf(".") + 1))}</strong>
              {event.entity !== about && <Entity event={event} />}
              {who && who !== about && <Link className="id" href={`/agents/${encodeURIComponent(who)}`}>{who}</Link>}
              {event.attempt !== null && event.attempt > 0 && <span className="faint">attempt {event.attempt}</span>}
              {before && event.timestamp - before.timestamp >= 0.0005 && <span className="faint">+{duration(event.timestamp - before.timestamp)}</span>}
            </div>
            <Details data={event.data} />
            <div className="faint small">
              {event.principal && <>by {event.principal} · </>}row {event.seq}
              {event.cause && <> · cause {event.cause}</>}
            </div>
          </li>
        );
      })}
    </ol>
  );
}

function Entity({ event }: { event: StoryEvent }) {
  const kind = event.type.split(".")[0];
  const path = { task: "tasks", agent: "agents", deliberation: "deliberations" }[kind ?? ""];
  return path ? <Link className="id" href={`/${path}/${encodeURIComponent(event.entity)}`}>{event.entity}</Link> : <span className="id">{event.entity}</span>;
}

function shownValue(name: string, value: unknown) {
  if (typeof value === "number") {
    if (name.endsWith("seconds")) return duration(value);
    if (name.endsWith("_at") && value > 1e9) return <Time at={value} form="full" />;
    if (name === "priority") return PRIORITIES[value] ?? value;
    return value.toLocaleString();
  }
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function Details({ data }: { data: object }) {
  const shown = Object.entries(data).filter(([name, value]) => !SAID.has(name) && value !== null && value !== "" && !(Array.isArray(value) && value.length === 0));
  if (shown.length === 0) return null;
  return (
    <dl className="details">
      {shown.map(([name, value]) => (
        <div key={name}>
          <dt>{words(name.replace(/_seconds$/, ""))}</dt>
          <dd>{shownValue(name, value)}</dd>
        </div>
      ))}
    </dl>
  );
}
