/** One task: its story, why it waits, what may be done now. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Act, Badge, Card, duration, Fact, Id, Loaded, Page, PRIORITIES, Since, Time, Value } from "../parts.tsx";
import { Timeline } from "../timeline.tsx";
import type { Controls, Explanation, Story, Task } from "../types.ts";

const OPEN = ["pending", "running"];
const STORY = 1_000;

export function TaskPage({ id }: { id: string }) {
  const may = useMay();
  const path = `tasks/${encodeURIComponent(id)}`;
  const task = useQuery({ queryKey: ["task", id, "task"], queryFn: ({ signal }) => read<Task>(path, {}, signal), refetchInterval: 30_000 });
  const isWaiting = task.data?.status === "pending";
  const explained = useQuery({
    queryKey: ["task", id, "explain"],
    queryFn: ({ signal }) => read<Explanation>(`${path}/explain`, {}, signal),
    enabled: isWaiting,
    refetchInterval: 5_000,
  });
  const story = useQuery({
    queryKey: ["task", id, "story"],
    queryFn: ({ signal }) => read<Story>(`story/${encodeURIComponent(id)}`, { limit: STORY }, signal),
    enabled: may("stream.read"),
  });
  return (
    <Page title="Task" lead={<span className="id">{id}</span>}>
      <Loaded of={task}>
        {(found) => (
          <div className="grid">
            <Summary task={found} />
            <Actions task={found} />
            {isWaiting && (
              <Card title="Why it waits" className="wide">
                <Loaded of={explained}>{(why) => <Why why={why} />}</Loaded>
              </Card>
            )}
            <Values task={found} />
            {may("stream.read") && (
              <Card title="Story" className="wide">
                <Loaded of={story}>
                  {(told) => (
                    <>
                      <Timeline events={told.events} about={id} />
                      {told.has_more && <p className="faint">The first {STORY.toLocaleString()} rows are shown. <code>aragora-cp story {id}</code> has all.</p>}
                    </>
                  )}
                </Loaded>
              </Card>
            )}
          </div>
        )}
      </Loaded>
    </Page>
  );
}

function Summary({ task }: { task: Task }) {
  const { progress } = task;
  return (
    <Card title={task.task_type} more={<Badge state={task.status_detail} />}>
      {progress && task.status === "running" && (
        <div className="progress">
          {progress.percent !== null && <progress max={100} value={progress.percent} aria-label="Progress" />}
          <span>{progress.percent !== null && `${progress.percent}%`} {progress.message}</span>
        </div>
      )}
      {task.error && <p className="problem">{task.error}</p>}
      <dl className="facts">
        <Fact name="Priority">{PRIORITIES[task.priority] ?? task.priority}</Fact>
        <Fact name="Queue"><Link href={`/queue?queue=${encodeURIComponent(task.queue)}`}>{task.queue}</Link></Fact>
        <Fact name="Submitted"><Time at={task.created_at} /></Fact>
        <Fact name="Waited"><Since from={task.created_at} to={task.started_at ?? task.completed_at} /></Fact>
        {task.started_at && <Fact name="Ran"><Since from={task.started_at} to={task.status === "pending" ? task.started_at : task.completed_at} /></Fact>}
        <Fact name="Agent">{task.assigned_agent ? <Id to={`/agents/${encodeURIComponent(task.assigned_agent)}`} id={task.assigned_agent} /> : "none"}</Fact>
        <Fact name="Attempt">{task.attempt} · {task.retries} of {task.max_retries} retries spent</Fact>
        <Fact name="May run for">{duration(task.timeout_seconds)}</Fact>
        <Fact name="Needs">{task.required_capabilities.join(", ") || "no capability"}</Fact>
        {task.tenant && <Fact name="Tenant">{task.tenant}</Fact>}
        {task.target_region && <Fact name="Region">{task.target_region}</Fact>}
        {task.parent_task_id && <Fact name="Parent"><Id to={`/tasks/${task.parent_task_id}`} id={task.parent_task_id} /></Fact>}
        {task.after && task.after.length > 0 && (
          <Fact name="After">{task.after.map(({ id }) => <Id key={id} to={`/tasks/${id}`} id={id} />)}</Fact>
        )}
        {task.replayed_as && <Fact name="Replayed as"><Id to={`/tasks/${task.replayed_as}`} id={task.replayed_as} /></Fact>}
      </dl>
      {task.question?.open && task.question.question && (
        <p><strong>Asks people:</strong> {task.question.question} <Link href="/questions">Answer it</Link></p>
      )}
    </Card>
  );
}

function Actions({ task }: { task: Task }) {
  const may = useMay();
  const path = encodeURIComponent(task.id);
  const isOpen = OPEN.includes(task.status);
  const isDead = task.status_detail === "dead_lettered" || task.status === "timeout";
  const controls = useQuery({
    queryKey: ["controls"],
    queryFn: ({ signal }) => read<Controls>("queue/controls", {}, signal),
    enabled: may("queue.read"),
  });
  const isPaused = controls.data?.controls.some((control) => control.kind === "queue" && control.name === task.queue && control.paused);
  const [edited, setEdited] = useState<string | null>(null);
  let payload: unknown;
  let fits = true;
  if (edited !== null) {
    try {
      payload = JSON.parse(edited);
    } catch {
      fits = false;
    }
  }
  const noReplay =
    lacks(may, "tasks.write") ??
    (task.replayed_as ? "It was replayed before." : isDead ? null : "Only a task of the dead letter is replayed; submit another one like it.");
  const noPriority = lacks(may, "queue.write") ?? (task.status === "pending" ? null : "Only a waiting task has a priority that counts.");
  return (
    <Card title="What may be done">
      <div className="stack">
        <Act
          label="Cancel"
          tone="danger"
          confirm={task.status === "running" ? "Ask its agent to stop this task?" : "Cancel this task? It will not run."}
          refused={lacks(may, "tasks.write") ?? (isOpen ? (task.status_detail === "cancelling" ? "It is being cancelled." : null) : "It has ended.")}
          run={() => change("POST", `tasks/${path}/cancel`)}
        />
        <Act label="Replay" refused={noReplay} done="Submitted again." run={() => change("POST", `dead-letter/${path}/replay`)} />
        {noReplay === null && may("payloads.read") && (
          <details onToggle={(event) => setEdited(event.currentTarget.open ? JSON.stringify(task.payload ?? {}, null, 2) : null)}>
            <summary>Replay with another payload</summary>
            {edited !== null && (
              <div className="stack">
                <label>
                  Payload (JSON)
                  <textarea rows={8} value={edited} spellCheck={false} aria-invalid={!fits} onChange={(event) => setEdited(event.target.value)} />
                </label>
                <Act label="Replay with this payload" tone="primary" refused={fits ? null : "The payload is not JSON."} run={() => change("POST", `dead-letter/${path}/replay`, { payload })} />
              </div>
            )}
          </details>
        )}
        <div className="actions" role="group" aria-label="Priority">
          {Object.entries(PRIORITIES)
            .filter(([number]) => Number(number) !== task.priority)
            .map(([number, name]) => (
              <Act key={number} label={`Make it ${name}`} refused={noPriority} run={() => change("POST", "queue/prioritize", { task_id: task.id, priority: name })} />
            ))}
        </div>
        <Act
          label={`Pause the queue ${task.queue}`}
          confirm={`Pause the queue ${task.queue}? None of its tasks starts until it is resumed.`}
          refused={lacks(may, "queue.write") ?? (isPaused ? "It is paused." : null)}
          run={() => change("POST", "queue/pause", { kind: "queue", name: task.queue })}
        />
        <Act label={`Resume the queue ${task.queue}`} refused={lacks(may, "queue.write") ?? (isPaused === false ? "It is not paused." : null)} run={() => change("POST", "queue/resume", { kind: "queue", name: task.queue })} />
        <Link className="button" href={`/submit?like=${path}`}>Submit another one like it</Link>
      </div>
    </Card>
  );
}

function Why({ why }: { why: Explanation }) {
  return (
    <>
      {!why.reasons.some((reason) => reason.message === why.summary) && <p className="strong">{why.summary}</p>}
      <ul className="reasons">
        {why.reasons.map((reason) => (
          <li key={reason.code + reason.message}>
            {reason.message}
            {reason.unblock && <span className="unblock">{reason.unblock}</span>}
            {reason.at !== null && <span className="faint"><Time at={reason.at} /></span>}
          </li>
        ))}
      </ul>
      <p className="faint">
        {why.position !== undefined && <>Position {why.position} of its queue. </>}
        {why.able_agents.length > 0 ? <>Could run it: {why.able_agents.slice(0, 8).map((id) => <Id key={id} to={`/agents/${encodeURIComponent(id)}`} id={id} />)}</> : "No agent that is there could run it."}
      </p>
    </>
  );
}

function Values({ task }: { task: Task }) {
  const may = useMay();
  const isHidden = !may("payloads.read");
  return (
    <Card title="What it carries" className="wide">
      {isHidden ? (
        <p className="why">Your role lacks controlplane:payloads.read, so payload, result and metadata are not shown.</p>
      ) : task.redacted ? (
        <p className="faint">It is not shown here.</p>
      ) : (
        <>
          {task.left_out && <p className="faint">Too large for this page: {task.left_out.join(", ")}.</p>}
          {task.payload !== undefined && <Value title="Payload" value={task.payload} name={`${task.id}-payload.json`} />}
          {task.result !== undefined && task.result !== null && <Value title="Result" value={task.result} name={`${task.id}-result.json`} open />}
          {task.metadata && Object.keys(task.metadata).length > 0 && <Value title="Metadata" value={task.metadata} name={`${task.id}-metadata.json`} />}
          {task.checkpoint !== undefined && task.checkpoint !== null && <Value title="Checkpoint" value={task.checkpoint} name={`${task.id}-checkpoint.json`} />}
        </>
      )}
    </Card>
  );
}
