/** Work that starts by the clock. */
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Area, Field, Form, Select } from "../forms.tsx";
import { Act, Badge, Card, duration, Empty, Fact, Id, Loaded, Page, plural, Time, Value } from "../parts.tsx";
import { Allowed, offsetOf, Offsets, Table, useAddress } from "../table.tsx";
import type { Schedule, SchedulePreview, Schedules } from "../types.ts";
import { filled, listed, numbered, parsed } from "../values.ts";

const SIZE = 50;
const EVERY_MS = 10_000;

function timing({ cron, timezone, every_seconds }: Schedule): string {
  return cron === null ? `every ${duration(every_seconds ?? 0)}` : `${cron} (${timezone})`;
}

function runPath({ workflow_name, task_type }: Schedule, id: string): string {
  const pages = workflow_name !== null ? "runs" : task_type === null ? "deliberations" : "tasks";
  return `/${pages}/${encodeURIComponent(id)}`;
}

function starts({ workflow_name, task_type }: Schedule): string | null {
  return workflow_name === null ? task_type : `workflow ${workflow_name}`;
}

function State({ schedule }: { schedule: Schedule }) {
  return <Badge state={schedule.state === "active" ? "completed" : schedule.state === "paused" ? "paused" : "pending"}>{schedule.state}</Badge>;
}

export function SchedulesPage() {
  const may = useMay();
  const [asked, set] = useAddress();
  const offset = offsetOf(asked);
  const found = useQuery({
    queryKey: ["schedules", offset],
    queryFn: ({ signal }) => read<Schedules>("schedules", { limit: SIZE, offset }, signal),
    enabled: may("tasks.read"),
    placeholderData: (before) => before,
    refetchInterval: EVERY_MS,
  });
  return (
    <Page title="Schedules" lead="Tasks, questions and workflows that start by the clock, in the name of whoever made them.">
      <Allowed permission="tasks.read" title="Schedules">
        <Loaded of={found}>
          {(page) => (
            <>
              <p className="faint tally" role="status">{plural(page.total, "schedule")}</p>
              {page.schedules.length === 0 ? (
                <Empty>There are no schedules yet.</Empty>
              ) : (
                <Table label="Schedules" columns={["Name", "State", "When", "Starts", "Next run", "Last due", "Runs", "Open"]}>
                  {page.schedules.map((schedule) => (
                    <tr key={schedule.schedule_id}>
                      <td><Link href={`/schedules/${encodeURIComponent(schedule.schedule_id)}`}>{schedule.name || schedule.schedule_id}</Link></td>
                      <td><State schedule={schedule} /></td>
                      <td><code>{timing(schedule)}</code></td>
                      <td>{starts(schedule) ?? "a deliberation"}</td>
                      <td><Time at={schedule.next_run_at} /></td>
                      <td><Time at={schedule.last_due_at} /></td>
                      <td>{schedule.runs_started}</td>
                      <td>{schedule.open_run_ids.length}</td>
                    </tr>
                  ))}
                </Table>
              )}
              <Offsets offset={offset} size={SIZE} total={page.total} set={set} />
            </>
          )}
        </Loaded>
      </Allowed>
      <NewSchedule />
    </Page>
  );
}

function NewSchedule() {
  const may = useMay();
  const [, go] = useLocation();
  return (
    <Card title="New schedule" className="after">
      <Form
        label="New schedule"
        action="Make it"
        refused={lacks(may, "tasks.write")}
        run={async (values) => {
          const task = { task_type: values.task_type, required_capabilities: listed(values.capabilities), payload: parsed(values.payload, "The payload") };
          const made = await change<Schedule>("POST", "schedules", {
            ...filled({ name: values.name, cron: values.cron, timezone: values.cron ? values.timezone : "", every_seconds: numbered(values.every), overlap: values.overlap, catch_up: values.catch_up }),
            task,
          });
          go(`/schedules/${encodeURIComponent(made.schedule_id)}`);
        }}
      >
        <Field name="name" label="Name" maxLength={200} />
        <Field name="task_type" label="Task type" required />
        <Field name="capabilities" label="Capabilities" />
        <Field name="cron" label="Cron" placeholder="0 6 * * 1-5" />
        <Field name="timezone" label="Time zone of the cron" defaultValue={Intl.DateTimeFormat().resolvedOptions().timeZone} />
        <Field name="every" label="Or every so many seconds" type="number" min={1} />
        <Select name="overlap" label="While one still runs" values={["skip", "queue", "cancel", "allow"]} />
        <Select name="catch_up" label="What was missed" values={["skip", "one", "all"]} />
        <Area name="payload" label="Payload (JSON)" />
      </Form>
    </Card>
  );
}

export function SchedulePage({ id }: { id: string }) {
  const may = useMay();
  const [, go] = useLocation();
  const path = `schedules/${encodeURIComponent(id)}`;
  const found = useQuery({ queryKey: ["schedules", "one", id], queryFn: ({ signal }) => read<Schedule>(path, {}, signal), enabled: may("tasks.read"), refetchInterval: EVERY_MS });
  const preview = useQuery({ queryKey: ["schedules", "preview", id], queryFn: ({ signal }) => read<SchedulePreview>(`${path}/preview`, { count: 10 }, signal), enabled: may("tasks.read"), refetchInterval: 60_000 });
  const refused = lacks(may, "tasks.write");
  return (
    <Page title={found.data?.name || "Schedule"} lead={<span className="id">{id}</span>}>
      <div className="grid">
        <Allowed permission="tasks.read" title="Schedule">
          <Loaded of={found}>
            {(schedule) => (
              <>
                <Card title={starts(schedule) ?? "A deliberation"} more={<State schedule={schedule} />}>
                  <dl className="facts">
                    <Fact name="When"><code>{timing(schedule)}</code></Fact>
                    <Fact name="Next run"><Time at={schedule.next_run_at} /></Fact>
                    <Fact name="Last due"><Time at={schedule.last_due_at} /></Fact>
                    <Fact name="Runs">{schedule.runs_started}</Fact>
                    <Fact name="While one still runs">{schedule.overlap}</Fact>
                    <Fact name="What was missed">{schedule.catch_up}</Fact>
                    {schedule.starts_at !== null && <Fact name="From"><Time at={schedule.starts_at} form="full" /></Fact>}
                    {schedule.ends_at !== null && <Fact name="Until"><Time at={schedule.ends_at} form="full" /></Fact>}
                    <Fact name="In the name of">{schedule.created_by}</Fact>
                    {schedule.last_run_id && <Fact name="Last run"><Id to={runPath(schedule, schedule.last_run_id)} id={schedule.last_run_id} /></Fact>}
                    {schedule.open_run_ids.length > 0 && <Fact name="Open runs">{schedule.open_run_ids.map((run) => <Id key={run} to={runPath(schedule, run)} id={run} />)}</Fact>}
                  </dl>
                </Card>
                <Card title="What may be done">
                  <div className="stack">
                    <Act label="Run now" tone="primary" done="Started." refused={refused} run={() => change("POST", `${path}/run`)} />
                    <Act label="Pause" refused={refused ?? (schedule.paused ? "It is paused." : schedule.state === "ended" ? "It has ended." : null)} run={() => change("POST", `${path}/pause`)} />
                    <Act label="Resume" refused={refused ?? (schedule.paused ? null : "It is not paused.")} run={() => change("POST", `${path}/resume`)} />
                    <Act
                      label="Delete"
                      tone="danger"
                      confirm="Delete this schedule? Runs that have started go on."
                      refused={refused}
                      run={async () => {
                        await change("DELETE", path);
                        go("/schedules");
                      }}
                    />
                  </div>
                </Card>
                <Card title="Next runs">
                  <Loaded of={preview}>
                    {({ runs, timezone }) =>
                      runs.length === 0 ? <Empty>None is due.</Empty> : <ol className="short">{runs.map((run) => <li key={run.due_at}><Time at={run.due_at} form="full" /> <span className="faint">{run.due} in {timezone}</span></li>)}</ol>
                    }
                  </Loaded>
                </Card>
                {(schedule.task ?? schedule.deliberation) && <Card title="What it starts"><Value title="Its body" value={schedule.task ?? schedule.deliberation} name={`${id}.json`} open /></Card>}
              </>
            )}
          </Loaded>
        </Allowed>
      </div>
    </Page>
  );
}
