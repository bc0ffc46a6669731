/** Workflows, their runs, and what may be done with a run. */
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Area, Field, Form } from "../forms.tsx";
import { Act, Badge, Card, Empty, Fact, Id, Loaded, Page, plural, Since, Time, Value, words } from "../parts.tsx";
import { Allowed, Choice, offsetOf, Offsets, Table, useAddress } from "../table.tsx";
import type { RunStep, Workflow, WorkflowRun, WorkflowRuns, Workflows } from "../types.ts";
import { numbered, parsed } from "../values.ts";

const SIZE = 50;
const EVERY_MS = 5_000;
const STATES = ["running", "failing", "cancelling", "completed", "failed", "cancelled"];
const ENDED = ["completed", "failed", "cancelled"];

export function WorkflowsPage() {
  const may = useMay();
  const [, go] = useLocation();
  const found = useQuery({ queryKey: ["workflows"], queryFn: ({ signal }) => read<Workflows>("workflows", { limit: 1_000 }, signal), enabled: may("tasks.read"), refetchInterval: 30_000 });
  return (
    <Page title="Workflows" lead="Steps of tasks and questions, and their runs.">
      <div className="grid">
        <Allowed permission="tasks.read" title="Workflows">
          <Card title="Workflows" className="wide">
            <Loaded of={found}>
              {(page) =>
                page.workflows.length === 0 ? (
                  <Empty>There are no workflows yet.</Empty>
                ) : (
                  <Table label="Workflows" columns={["Name", "Version", "Steps", "Stored"]}>
                    {page.workflows.map((workflow) => (
                      <tr key={workflow.name}>
                        <td><Link href={`/workflows/${encodeURIComponent(workflow.name)}`}>{workflow.name}</Link></td>
                        <td>{workflow.version}</td>
                        <td className="long">{workflow.steps.join(", ")}</td>
                        <td><Time at={workflow.created_at} /> <span className="faint">by {workflow.created_by}</span></td>
                      </tr>
                    ))}
                  </Table>
                )
              }
            </Loaded>
          </Card>
          <Runs />
        </Allowed>
        <Card title="Store a workflow" className="wide">
          <Form
            label="Store a workflow"
            action="Store"
            refused={lacks(may, "tasks.write")}
            run={async (values) => {
              const stored = await change<Workflow>("POST", "workflows", parsed(values.document, "The document") as object);
              go(`/workflows/${encodeURIComponent(stored.name)}`);
            }}
          >
            <Area name="document" label="Document (JSON)" rows={6} placeholder='{"name": "release", "steps": [{"id": "build", "task": {"task_type": "build"}}]}' />
          </Form>
        </Card>
      </div>
    </Page>
  );
}

/** The runs of one workflow, or of all. */
function Runs({ workflow = "" }: { workflow?: string }) {
  const [asked, set] = useAddress();
  const [status, offset] = [asked.get("status") ?? "", offsetOf(asked)];
  const query = { workflow, status, limit: SIZE, offset };
  const found = useQuery({
    queryKey: ["runs", query],
    queryFn: ({ signal }) => read<WorkflowRuns>("workflow-runs", query, signal),
    placeholderData: (before) => before,
    refetchInterval: EVERY_MS,
  });
  return (
    <Card title="Runs" className="wide">
      <form className="filters" role="search" aria-label="Runs" onSubmit={(event) => event.preventDefault()}>
        <Choice label="Status" value={status} values={STATES} set={(value) => set({ status: value })} />
      </form>
      <Loaded of={found}>
        {(page) => (
          <>
            <p className="faint tally" role="status">{page.total_exact ? plural(page.total, "run") : `more than ${page.total} runs`}</p>
            {page.runs.length === 0 ? (
              <Empty>None matches.</Empty>
            ) : (
              <Table label="Runs" columns={["Run", "Workflow", "Status", "Steps", "Started", "Took", "By"]}>
                {page.runs.map((run) => (
                  <tr key={run.run_id}>
                    <td><Id to={`/runs/${encodeURIComponent(run.run_id)}`} id={run.run_id} /></td>
                    <td><Link href={`/workflows/${encodeURIComponent(run.workflow)}`}>{run.workflow}</Link> <span className="faint">v{run.version}</span></td>
                    <td><Badge state={run.status} /></td>
                    <td>{run.steps.filter((step) => step.status === "completed").length} of {run.steps.length}</td>
                    <td><Time at={run.created_at} /></td>
                    <td><Since from={run.created_at} to={run.ended_at} /></td>
                    <td className="faint">{run.created_by}</td>
                  </tr>
                ))}
              </Table>
            )}
            <Offsets offset={offset} size={SIZE} total={page.total} set={set} />
          </>
        )}
      </Loaded>
    </Card>
  );
}

export function WorkflowPage({ name }: { name: string }) {
  const may = useMay();
  const [, go] = useLocation();
  const path = `workflows/${encodeURIComponent(name)}`;
  const found = useQuery({ queryKey: ["workflows", name], queryFn: ({ signal }) => read<Workflow>(path, {}, signal), enabled: may("tasks.read") });
  const refused = lacks(may, "tasks.write");
  return (
    <Page title={name} lead={found.data && `Version ${found.data.version}: ${found.data.steps.join(", ")}`}>
      <div className="grid">
        <Allowed permission="tasks.read" title="Workflow">
          <Loaded of={found}>
            {(workflow) => (
              <>
                <Card title="Start a run">
                  <Form
                    label="Start a run"
                    action="Start"
                    refused={refused}
                    run={async (values) => {
                      const run = await change<WorkflowRun>("POST", `${path}/runs`, { input: parsed(values.input, "The input"), version: numbered(values.version) });
                      go(`/runs/${encodeURIComponent(run.run_id)}`);
                    }}
                  >
                    <Area name="input" label="Input (JSON)" />
                    <Field name="version" label="Version (empty: the newest)" type="number" min={1} max={workflow.version} />
                  </Form>
                </Card>
                <Card title="Document">
                  {workflow.document && <Value title={`Version ${workflow.version}`} value={workflow.document} name={`${name}.json`} open />}
                  <Act
                    label="Delete"
                    tone="danger"
                    confirm={`Delete all versions of ${name}? Its runs stay.`}
                    refused={refused}
                    run={async () => {
                      await change("DELETE", path);
                      go("/workflows");
                    }}
                  />
                </Card>
              </>
            )}
          </Loaded>
          <Runs workflow={name} />
        </Allowed>
      </div>
    </Page>
  );
}

export function RunPage({ id }: { id: string }) {
  const may = useMay();
  const [, go] = useLocation();
  const path = `workflow-runs/${encodeURIComponent(id)}`;
  const shown = may("payloads.read");
  const found = useQuery({ queryKey: ["runs", "one", id], queryFn: ({ signal }) => read<WorkflowRun>(path, { results: shown }, signal), enabled: may("tasks.read"), refetchInterval: 3_000 });
  const document = useQuery({
    queryKey: ["workflows", found.data?.workflow, found.data?.version],
    queryFn: ({ signal }) => read<Workflow>(`workflows/${encodeURIComponent(found.data?.workflow ?? "")}`, { version: found.data?.version }, signal),
    enabled: found.data !== undefined,
    staleTime: Infinity,
    retry: false, // it may have been deleted since
  });
  const refused = lacks(may, "tasks.write");
  return (
    <Page title="Run" lead={<span className="id">{id}</span>}>
      <div className="grid">
        <Allowed permission="tasks.read" title="Run">
          <Loaded of={found}>
            {(run) => {
              const hasEnded = ENDED.includes(run.status);
              return (
                <>
                  <Card title={run.workflow} more={<Badge state={run.status} />}>
                    <dl className="facts">
                      <Fact name="Workflow"><Link href={`/workflows/${encodeURIComponent(run.workflow)}`}>{run.workflow}</Link>, version {run.version}</Fact>
                      <Fact name="Started"><Time at={run.created_at} /> by {run.created_by}</Fact>
                      <Fact name="Took"><Since from={run.created_at} to={run.ended_at} /></Fact>
                      {run.replays && <Fact name="Replays"><Id to={`/runs/${encodeURIComponent(run.replays)}`} id={run.replays} /></Fact>}
                    </dl>
                    {run.metadata && Object.keys(run.metadata).length > 0 && <Value title="Metadata" value={run.metadata} name={`${id}-metadata.json`} />}
                  </Card>
                  <Card title="What may be done">
                    <div className="stack">
                      <Act label="Cancel" tone="danger" confirm="Cancel this run? No step starts any more, and its open tasks are cancelled." refused={refused ?? (hasEnded ? "It has ended." : null)} run={() => change("POST", `${path}/cancel`)} />
                      <Act
                        label="Replay what failed"
                        refused={refused ?? (hasEnded ? (run.status === "completed" ? "Every step has completed; replay from a step." : null) : "It has not ended.")}
                        run={async () => go(`/runs/${encodeURIComponent((await change<WorkflowRun>("POST", `${path}/replay`)).run_id)}`)}
                      />
                      {!hasEnded && signalsOf(document.data).map((signal) => <Signal key={signal} path={path} signal={signal} refused={refused} />)}
                    </div>
                  </Card>
                  <Card title="Steps" className="wide">
                    <Table label="Steps" columns={["Step", "Status", "Tasks", "Open", "Failed", "Started", "Took", "Why", ""]}>
                      {run.steps.map((step) => (
                        <tr key={step.id}>
                          <th scope="row">{step.id}</th>
                          <td><Badge state={step.status === "waiting" ? "pending" : step.status} >{words(step.status)}</Badge></td>
                          <td><First step={step} /></td>
                          <td>{step.open}</td>
                          <td>{step.failed}</td>
                          <td><Time at={step.started_at} /></td>
                          <td>{step.started_at ? <Since from={step.started_at} to={step.ended_at} /> : <span className="faint">–</span>}</td>
                          <td className="long">
                            {step.reason}
                            {step.waits_until !== null && step.status === "running" && <> until <Time at={step.waits_until} /></>}
                            {step.result !== undefined && step.status === "completed" && <Value title="Result" value={step.result} name={`${id}-${step.id}.json`} />}
                            {step.result_left_out && <span className="faint">its result is too large for this page</span>}
                          </td>
                          <td>
                            <div role="group" aria-label={step.id}>
                            <Act
                              label={`Replay from ${step.id}`}
                              refused={refused ?? (hasEnded ? null : "It has not ended.")}
                              run={async () => go(`/runs/${encodeURIComponent((await change<WorkflowRun>("POST", `${path}/replay`, { from_step: step.id })).run_id)}`)}
                            />
                            </div>
                          </td>
                        </tr>
                      ))}
                    </Table>
                    {!shown && <p className="why">Your role lacks controlplane:payloads.read, so results are not shown.</p>}
                  </Card>
                </>
              );
            }}
          </Loaded>
        </Allowed>
      </div>
    </Page>
  );
}

function First({ step }: { step: RunStep }) {
  if (step.first_deliberation_id) return <Id to={`/deliberations/${encodeURIComponent(step.first_deliberation_id)}`} id={step.first_deliberation_id} />;
  if (!step.first_task_id) return <span className="faint">–</span>;
  return <><Id to={`/tasks/${encodeURIComponent(step.first_task_id)}`} id={step.first_task_id} />{step.started > 1 && <span className="faint"> and {step.started - 1} more</span>}</>;
}

/** The signals that steps wait for, by the document. */
function signalsOf(workflow: Workflow | undefined): string[] {
  const steps = workflow?.document?.steps;
  if (!Array.isArray(steps)) return [];
  const named = steps.map((step) => (step as { signal?: { name?: string } | null }).signal?.name);
  return [...new Set(named.filter((name) => typeof name === "string"))];
}

function Signal({ path, signal, refused }: { path: string; signal: string; refused: string | null }) {
  return (
    <Form label={`Signal ${signal}`} action={`Send ${signal}`} done="Sent." refused={refused} run={(values) => change("POST", `${path}/signals/${encodeURIComponent(signal)}`, { value: parsed(values.value, "The value") })}>
      <Area name="value" label={`Value of the signal ${signal} (JSON)`} rows={2} />
    </Form>
  );
}
