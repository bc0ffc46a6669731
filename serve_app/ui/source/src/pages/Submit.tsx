/** A form that submits a task. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useLocation, useSearch } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Card, Loaded, Page, Problem, PRIORITIES } from "../parts.tsx";
import type { Task } from "../types.ts";

interface Draft {
  task_type: string;
  payload: string;
  required_capabilities: string;
  priority: string;
  queue: string;
  delay_seconds: string;
  timeout_seconds: string;
  max_retries: string;
}

const EMPTY: Draft = {
  task_type: "", payload: "{}", required_capabilities: "", priority: "normal", queue: "default", delay_seconds: "", timeout_seconds: "", max_retries: "",
};

export function SubmitPage() {
  const like = new URLSearchParams(useSearch()).get("like");
  const model = useQuery({
    queryKey: ["task", like, "like"],
    queryFn: ({ signal }) => read<Task>(`tasks/${encodeURIComponent(like ?? "")}`, {}, signal),
    enabled: like !== null,
    staleTime: Infinity,
  });
  return (
    <Page title="Submit a task" lead="It is durable before it is answered.">
      {like === null ? <Form draft={EMPTY} /> : <Loaded of={model}>{(task) => <Form draft={draftOf(task)} />}</Loaded>}
    </Page>
  );
}

function draftOf(task: Task): Draft {
  return {
    ...EMPTY,
    task_type: task.task_type,
    payload: JSON.stringify(task.payload ?? {}, null, 2),
    required_capabilities: task.required_capabilities.join(", "),
    priority: PRIORITIES[task.priority] ?? "normal",
    queue: task.queue,
    timeout_seconds: String(task.timeout_seconds),
    max_retries: String(task.max_retries),
  };
}

function Form({ draft }: { draft: Draft }) {
  const may = useMay();
  const [, go] = useLocation();
  const [fields, setFields] = useState(draft);
  const set = (name: keyof Draft) => (event: { target: { value: string } }) => setFields({ ...fields, [name]: event.target.value });
  const refused = lacks(may, "tasks.write");
  let payload: unknown;
  let problem = "";
  try {
    payload = JSON.parse(fields.payload);
  } catch (error) {
    problem = `The payload is not JSON: ${(error as Error).message}`;
  }
  const submit = useMutation({
    mutationFn: () =>
      change<{ task_id: string }>("POST", "tasks", {
        task_type: fields.task_type.trim(),
        payload,
        required_capabilities: fields.required_capabilities.split(",").map((name) => name.trim()).filter(Boolean),
        priority: fields.priority,
        queue: fields.queue.trim() || "default",
        ...numbers(fields),
      }),
    onSuccess: ({ task_id }) => go(`/tasks/${encodeURIComponent(task_id)}`),
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (!problem && refused === null && !submit.isPending) submit.mutate();
  };
  return (
    <Card title="Task">
      <form className="form" onSubmit={send}>
        <label>
          Type
          <input required maxLength={256} value={fields.task_type} onChange={set("task_type")} placeholder="review" autoComplete="off" />
        </label>
        <label>
          Priority
          <select value={fields.priority} onChange={set("priority")}>
            {Object.values(PRIORITIES).map((name) => <option key={name}>{name}</option>)}
          </select>
        </label>
        <label>
          Queue
          <input value={fields.queue} onChange={set("queue")} autoComplete="off" />
        </label>
        <label>
          Capabilities that it needs
          <input value={fields.required_capabilities} onChange={set("required_capabilities")} placeholder="python, review" autoComplete="off" />
        </label>
        <label className="full">
          Payload (JSON)
          <textarea rows={10} spellCheck={false} value={fields.payload} onChange={set("payload")} aria-invalid={problem !== ""} aria-describedby="payload-problem" />
          <span id="payload-problem" className="bad" role="status">{problem}</span>
        </label>
        <label>
          Not before (seconds from now)
          <input type="number" min={0} step="any" value={fields.delay_seconds} onChange={set("delay_seconds")} />
        </label>
        <label>
          May run for (seconds)
          <input type="number" min={0} step="any" value={fields.timeout_seconds} onChange={set("timeout_seconds")} placeholder="300" />
        </label>
        <label>
          Retries
          <input type="number" min={0} max={100} value={fields.max_retries} onChange={set("max_retries")} placeholder="3" />
        </label>
        <div className="full actions">
          <button className="primary" aria-describedby={refused === null ? undefined : "refused"} aria-disabled={refused !== null || problem !== "" || submit.isPending}>{submit.isPending ? "Submitting…" : "Submit"}</button>
          {refused !== null && <span id="refused" className="why">{refused}</span>}
        </div>
      </form>
      {submit.error && <Problem error={submit.error} />}
    </Card>
  );
}

function numbers(fields: Draft): Record<string, number> {
  const found: Record<string, number> = {};
  for (const name of ["delay_seconds", "timeout_seconds", "max_retries"] as const) {
    if (fields[name] !== "") found[name] = Number(fields[name]);
  }
  return found;
}
