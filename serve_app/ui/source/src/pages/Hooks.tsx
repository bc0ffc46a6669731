/** What webhooks of others start. A secret is shown once, to whoever made it. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Area, Field, Form, Select } from "../forms.tsx";
import { Act, Badge, Card, count, Empty, Id, Loaded, Page, Time, Value } from "../parts.tsx";
import { Allowed } from "../table.tsx";
import type { Hook, Hooks, NewHook } from "../types.ts";
import { filled, numbered, parsed } from "../values.ts";

const EVERY_MS = 15_000;

export function HooksPage() {
  const [made, setMade] = useState<NewHook | null>(null);
  return (
    <Page title="Hooks" lead="What the webhooks of other systems start here: a task, a run of a workflow, or a signal to one that waits.">
      <div className="grid">
        {made && (
          <Card title={`The secret of ${made.name}`} className="wide">
            <p role="status">{made.secret === null ? made.notice : "It is shown here only, and once. Give it to the sender now."}</p>
            {made.secret !== null && <pre tabIndex={0}>{made.secret}</pre>}
            <p className="faint">Webhooks are sent to <code>{location.origin + made.path}</code></p>
            <div className="actions"><button type="button" onClick={() => setMade(null)}>I have it</button></div>
          </Card>
        )}
        <Allowed permission="hooks.read" title="Hooks"><HookList show={setMade} /></Allowed>
        <NewHookCard show={setMade} />
      </div>
    </Page>
  );
}

function HookList({ show }: { show: (made: NewHook) => void }) {
  const found = useQuery({ queryKey: ["hooks"], queryFn: ({ signal }) => read<Hooks>("hooks", {}, signal), refetchInterval: EVERY_MS });
  return (
    <Card title="Hooks" className="wide">
      <Loaded of={found}>
        {({ hooks }) => (hooks.length === 0 ? <Empty>There are no hooks: no webhook starts anything.</Empty> : <ul className="budgets">{hooks.map((hook) => <One key={hook.name} hook={hook} show={show} />)}</ul>)}
      </Loaded>
    </Card>
  );
}

function One({ hook, show }: { hook: Hook; show: (made: NewHook) => void }) {
  const may = useMay();
  const refused = lacks(may, "hooks.write");
  const path = `hooks/${encodeURIComponent(hook.name)}`;
  const ends = hook.secrets.filter(({ ends_at }) => ends_at !== null);
  return (
    <li>
      <div className="line">
        <h3>{hook.name}</h3>
        <Badge state={hook.paused ? "paused" : "ready"}>{hook.paused ? "paused" : "active"}</Badge>
        <span><Starts hook={hook} /></span>
        <span className="faint">up to {count(hook.rate_per_minute)} a minute · changed <Time at={hook.changed_at} /> by {hook.changed_by}</span>
      </div>
      <p className="long"><code>{location.origin + hook.path}</code></p>
      {hook.secrets.length === 0 && <p className="bad">No secret of it counts any more: rotate it, else it refuses each webhook.</p>}
      {ends.map(({ ends_at }) => <p key={ends_at} className="faint">A secret of before counts until <Time at={ends_at} form="full" /></p>)}
      <div className="actions" role="group" aria-label={`Hook ${hook.name}`}>
        <Act label="Pause" refused={refused ?? (hook.paused ? "It is paused." : null)} confirm={`Pause ${hook.name}? Its webhooks are refused meanwhile.`} run={() => change("POST", `${path}/pause`)} />
        <Act label="Resume" refused={refused ?? (hook.paused ? null : "It is not paused.")} run={() => change("POST", `${path}/resume`)} />
        <Act label="Rotate" refused={refused} confirm={`Give ${hook.name} a new secret? The one of before counts for a day more.`} run={async () => show(await change<NewHook>("POST", `${path}/rotate`))} />
        <Act label="Delete" tone="danger" refused={refused} confirm={`Delete ${hook.name} for good? What it has started goes on.`} run={() => change("DELETE", path)} />
      </div>
      {refused !== null && <p className="why">{refused}</p>}
      {(hook.task ?? hook.signal ?? hook.input) !== undefined && may("payloads.read") && (
        <Value title="What it starts, and with what" value={{ task: hook.task ?? undefined, signal: hook.signal ?? undefined, metadata: hook.metadata ?? undefined, input: hook.input }} name={`${hook.name}.json`} />
      )}
    </li>
  );
}

function Starts({ hook }: { hook: Hook }) {
  if (hook.workflow !== null) return <>a run of <Id to={`/workflows/${encodeURIComponent(hook.workflow)}`} id={hook.workflow} />{hook.version !== null && `, version ${hook.version}`}</>;
  return <>{hook.task_type === null ? "a signal to a run" : `a task ${hook.task_type}`}</>;
}

function NewHookCard({ show }: { show: (made: NewHook) => void }) {
  const may = useMay();
  return (
    <Card title="New hook" className="wide">
      <Form
        label="New hook"
        action="Make it"
        done="Made."
        refused={lacks(may, "hooks.write")}
        run={async (values) => {
          const started: Record<string, object> = {
            task: { task: filled({ task_type: values.starts, queue: values.queue }) },
            workflow: { workflow: values.starts },
            signal: { signal: { name: values.starts, run_id: { from: "body", path: values.run || "/run_id" } } },
          };
          show(await change<NewHook>("POST", "hooks", { ...started[values.kind ?? "task"], ...filled({ name: values.name, secret: values.secret, rate_per_minute: numbered(values.rate), input: parsed(values.input, "The input") }) }));
        }}
      >
        <Field name="name" label="Name" required maxLength={128} placeholder="builds" />
        <Select name="kind" label="It starts a" values={["task", "workflow", "signal"]} />
        <Field name="starts" label="Task type, workflow, or name of the signal" required />
        <Field name="queue" label="Queue (of a task)" />
        <Field name="run" label="Where the body names the run (of a signal)" placeholder="/run_id" />
        <Field name="rate" label="Webhooks a minute" type="number" min={1} max={60_000} />
        <Field name="secret" label="Secret, if the sender makes its own" type="password" />
        <Area name="input" label="Input (JSON; empty: the whole body)" placeholder='{"pr": {"from": "body", "path": "/number"}}' />
      </Form>
    </Card>
  );
}
