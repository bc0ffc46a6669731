/** Tasks by filters that live in the address, so that a view can be shared and kept. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { read } from "../api.ts";
import { Badge, count, Empty, Id, Loaded, Page, plural, PRIORITIES, Since, Time } from "../parts.tsx";
import { CancelAll, DeadLetters } from "./Bulk.tsx";
import type { DeadPage, Task, TaskPage } from "../types.ts";

const PAGE = 50;
/** The API takes no more. */
const MOST_CONDITIONS = 16;
const STATES = ["pending", "running", "completed", "failed", "cancelled", "timeout"];
const DETAILS = ["queued", "delayed", "retrying", "blocked", "input_required", "waiting_children", "cancelling", "dead_lettered"];
/** Names of the address, and the calls' names for them. */
const FILTERS = { status: "status", detail: "status_detail", type: "task_type", queue: "queue", agent: "agent_id" } as const;

/** Names of the address with what they are to be: `where` several times, one for each condition. */
type Changes = Record<string, string | string[]>;

interface Shown {
  tasks: Task[];
  total: number;
  total_exact: boolean;
  next_cursor: string | null;
}

export function QueuePage() {
  const search = useSearch();
  const [, go] = useLocation();
  const asked = new URLSearchParams(search);
  const dead = asked.get("view") === "dead";
  const cursor = asked.get("cursor") ?? undefined;
  const query: Record<string, string | string[]> = { where: asked.getAll("where") };
  for (const [name, parameter] of Object.entries(FILTERS)) {
    const value = asked.get(name);
    if (value && (!dead || name === "type" || name === "queue")) query[parameter] = value;
  }
  if (dead) delete query.where;
  const tasks = useQuery({
    queryKey: ["tasks", dead, query, cursor],
    queryFn: ({ signal }): Promise<Shown> =>
      dead
        ? read<DeadPage>("dead-letter", { ...query, cursor, limit: PAGE }, signal)
        : read<TaskPage>("tasks", { ...query, cursor, limit: PAGE }, signal),
    placeholderData: (before) => before,
    refetchInterval: 30_000,
  });
  const set = (changes: Changes) => {
    const next = new URLSearchParams(search);
    next.delete("cursor");
    for (const [name, value] of Object.entries(changes)) {
      next.delete(name);
      for (const each of typeof value === "string" ? [value] : value) if (each) next.append(name, each);
    }
    const text = next.toString();
    go(text ? `/queue?${text}` : "/queue");
  };
  return (
    <Page
      title={dead ? "Dead letter" : "Queue"}
      lead={dead ? "Tasks that are out of retries or out of time, newest first." : "Tasks of this workspace, newest first."}
      actions={<Link className="button primary" href="/submit">Submit a task</Link>}
    >
      <Filters key={search} asked={asked} dead={dead} set={set} />
      {dead ? <DeadLetters key={search} type={asked.get("type")} queue={asked.get("queue")} /> : <CancelAll key={search} query={query} />}
      <Loaded of={tasks}>
        {(page) => (
          <>
            <p className="faint tally" role="status">
              {page.total_exact ? plural(page.total, "task") : query.where?.length ? `${plural(page.tasks.length, "task")} on this page` : `more than ${count(page.total)} tasks`}
              {tasks.isPlaceholderData && " …"}
            </p>
            {page.tasks.length === 0 ? (
              <Empty>{search ? "No task matches." : "There are no tasks yet."}</Empty>
            ) : (
              <Tasks tasks={page.tasks} />
            )}
            <nav className="pages" aria-label="Pages of the list">
              {cursor && <button type="button" onClick={() => set({})}>Newest</button>}
              {cursor && <button type="button" onClick={() => history.back()}>Back</button>}
              {page.next_cursor && <button type="button" onClick={() => set({ cursor: page.next_cursor ?? "" })}>Older</button>}
            </nav>
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Filters({ asked, dead, set }: { asked: URLSearchParams; dead: boolean; set: (changes: Changes) => void }) {
  const [rows, setRows] = useState(Math.max(1, asked.getAll("where").length));
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const given = (name: string) => form.getAll(name).map((value) => String(value).trim()).filter(Boolean);
    set(Object.fromEntries([...new Set(form.keys())].map((name) => [name, given(name)])));
  };
  const text = (name: string, label: string, hint: string) => (
    <label>
      {label}
      <input name={name} defaultValue={asked.get(name) ?? ""} placeholder={hint} spellCheck={false} autoComplete="off" />
    </label>
  );
  const choice = (name: string, label: string, values: readonly string[]) => (
    <label>
      {label}
      <select name={name} defaultValue={asked.get(name) ?? ""} onChange={(event) => set({ [name]: event.target.value })}>
        <option value="">all</option>
        {values.map((value) => <option key={value} value={value}>{value.replaceAll("_", " ")}</option>)}
      </select>
    </label>
  );
  return (
    <form className="filters" role="search" aria-label="Filters" onSubmit={submit}>
      <label>
        List
        <select value={dead ? "dead" : ""} onChange={(event) => set({ view: event.target.value, status: "", detail: "", where: "", agent: "" })}>
          <option value="">all tasks</option>
          <option value="dead">dead letter</option>
        </select>
      </label>
      {!dead && choice("status", "Status", STATES)}
      {!dead && choice("detail", "In detail", DETAILS)}
      {text("type", "Type", "review")}
      {text("queue", "Queue", "default")}
      {!dead && text("agent", "Agent", "agent id")}
      {!dead && (
        <fieldset className="grow conditions">
          <legend>Where (all of them)</legend>
          {Array.from({ length: rows }, (_, at) => (
            <input key={at} name="where" aria-label={`Condition ${at + 1}`} defaultValue={asked.getAll("where")[at] ?? ""} placeholder="tag=nightly" spellCheck={false} autoComplete="off" />
          ))}
          {rows < MOST_CONDITIONS && <button type="button" onClick={() => setRows(rows + 1)}>And</button>}
        </fieldset>
      )}
      <div className="actions">
        <button className="primary">Show</button>
        <Link className="button" href="/queue">Clear</Link>
      </div>
    </form>
  );
}

function Tasks({ tasks }: { tasks: readonly Task[] }) {
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Tasks">
      <table>
        <thead>
          <tr>
            <th scope="col">Task</th>
            <th scope="col">Type</th>
            <th scope="col">State</th>
            <th scope="col">Priority</th>
            <th scope="col">Queue</th>
            <th scope="col">Needs</th>
            <th scope="col">Agent</th>
            <th scope="col">Submitted</th>
            <th scope="col">Waited</th>
            <th scope="col">Ran</th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <tr key={task.id}>
              <td><Id to={`/tasks/${encodeURIComponent(task.id)}`} id={task.id} /></td>
              <td>{task.task_type}</td>
              <td><Badge state={task.status_detail} /></td>
              <td className={task.priority >= 75 ? "strong" : ""}>{PRIORITIES[task.priority] ?? task.priority}</td>
              <td>{task.queue}</td>
              <td className="faint">{task.required_capabilities.join(", ") || "–"}</td>
              <td>{task.assigned_agent ? <Id to={`/agents/${encodeURIComponent(task.assigned_agent)}`} id={task.assigned_agent} /> : <span className="faint">–</span>}</td>
              <td><Time at={task.created_at} /></td>
              <td><Since from={task.created_at} to={task.started_at ?? task.completed_at} /></td>
              <td>{task.started_at ? <Since from={task.started_at} to={task.status === "pending" ? task.started_at : task.completed_at} /> : <span className="faint">–</span>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
