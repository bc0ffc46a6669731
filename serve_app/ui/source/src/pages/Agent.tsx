/** One agent: whether it lives, what it holds, what may be done with it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Act, Badge, BREAKER, Card, duration, Empty, Fact, Id, Loaded, Page, plural, Since, Time, usd, Value } from "../parts.tsx";
import { Timeline } from "../timeline.tsx";
import type { Agent, Breakers, HealthCheck, Spent, Story, TaskPage } from "../types.ts";

export function AgentPage({ id }: { id: string }) {
  const may = useMay();
  const path = `agents/${encodeURIComponent(id)}`;
  const agent = useQuery({ queryKey: ["agent", id, "agent"], queryFn: ({ signal }) => read<Agent>(path, {}, signal), refetchInterval: 10_000 });
  const tasks = (status: string) => ({
    queryKey: ["tasks", "of", id, status],
    queryFn: ({ signal }: { signal: AbortSignal }) => read<TaskPage>("tasks", { agent_id: id, status, limit: 20 }, signal),
    enabled: may("tasks.read"),
    refetchInterval: 10_000,
  });
  const held = useQuery(tasks("running"));
  const recent = useQuery(tasks(""));
  const story = useQuery({
    queryKey: ["agent", id, "story"],
    queryFn: ({ signal }) => read<Story>(`story/${encodeURIComponent(id)}`, { limit: 200 }, signal),
    enabled: may("stream.read"),
  });
  return (
    <Page title="Agent" lead={<span className="id">{id}</span>}>
      <Loaded of={agent}>
        {(found) => (
          <div className="grid">
            <Summary agent={found} />
            <Actions agent={found} />
            {may("tasks.read") && (
              <>
                <Card title="Holds now"><Loaded of={held}>{(page) => <Short page={page} none="It holds no lease." />}</Loaded></Card>
                <Card title="Newest work" more={<Link href={`/queue?agent=${encodeURIComponent(id)}`}>All</Link>}>
                  <Loaded of={recent}>{(page) => <Short page={page} none="It has had no task." />}</Loaded>
                </Card>
              </>
            )}
            {may("payloads.read") && found.metadata && Object.keys(found.metadata).length > 0 && (
              <Card title="What it says about itself" className="wide"><Value title="Metadata" value={found.metadata} name={`${id}-metadata.json`} /></Card>
            )}
            {may("stream.read") && (
              <Card title="Story" className="wide"><Loaded of={story}>{(told) => <Timeline events={told.events} about={id} />}</Loaded></Card>
            )}
          </div>
        )}
      </Loaded>
    </Page>
  );
}

/** What a budget has counted of an agent in the present month. */
function sumOf({ spending }: Spent, id: string): string {
  return String(spending.filter(({ agent_id }) => agent_id === id).reduce((sum, { spent_usd }) => sum + Number(spent_usd), 0));
}

/** How its endpoint is: the last probe, and the breaker, which is listed once it has counted a failure. */
function Calls({ agent }: { agent: Agent }) {
  const path = `health/${encodeURIComponent(agent.agent_id)}`;
  const probe = useQuery({ queryKey: ["agent", agent.agent_id, "probe"], queryFn: ({ signal }) => read<HealthCheck>(path, {}, signal), refetchInterval: 15_000 });
  const breakers = useQuery({ queryKey: ["numbers", "breakers"], queryFn: ({ signal }) => read<Breakers>("breakers", {}, signal), refetchInterval: 15_000 });
  const breaker = breakers.data?.breakers.find(({ name }) => name === BREAKER + agent.agent_id);
  return (
    <>
      {probe.data?.latency_ms != null && <Fact name="Last probe">{duration(probe.data.latency_ms / 1_000)}, <Time at={probe.data.timestamp} /></Fact>}
      {probe.data?.error && <Fact name="What is wrong"><span className="bad">{probe.data.error}</span></Fact>}
      {agent.transport !== "pull" && <Fact name="Breaker"><Badge state={breaker?.state ?? "closed"} />{breaker && breaker.failure_count > 0 && <span className="faint"> {plural(breaker.failure_count, "failure")}</span>}</Fact>}
    </>
  );
}

function Summary({ agent }: { agent: Agent }) {
  const may = useMay();
  const spent = useQuery({ queryKey: ["spending", "", ""], queryFn: ({ signal }) => read<Spent>("spending", {}, signal), enabled: may("budgets.read"), refetchInterval: 60_000 });
  return (
    <Card title={agent.model === "unknown" ? "State" : agent.model} more={<Badge state={agent.status} />}>
      {agent.status_detail && <p className="faint">{agent.status_detail}</p>}
      <dl className="facts">
        <Fact name="Liveness"><Badge state={agent.liveness} /></Fact>
        <Fact name="Health"><Badge state={agent.health} /></Fact>
        <Fact name="Meant to be"><Badge state={agent.intent} />{agent.intent_by && <span className="faint"> by {agent.intent_by}</span>}</Fact>
        <Fact name="Last sign of life"><Time at={agent.last_heartbeat} /></Fact>
        <Fact name="Load">{agent.running_tasks} of {agent.max_concurrency}</Fact>
        <Fact name="Done">{agent.tasks_completed.toLocaleString()}</Fact>
        <Fact name="Failed">{agent.tasks_failed.toLocaleString()}</Fact>
        <Fact name="Mean latency">{agent.avg_latency_ms ? duration(agent.avg_latency_ms / 1_000) : "–"}</Fact>
        <Fact name="Capabilities">{agent.capabilities.join(", ") || "none"}</Fact>
        <Fact name="Transport">{agent.transport}{agent.dedicated && ", an actor of its own"}</Fact>
        <Fact name="Region">{agent.region_id}</Fact>
        <Fact name="Provider">{agent.provider}</Fact>
        {agent.endpoint && <Fact name="Endpoint">{agent.endpoint}</Fact>}
        {agent.price && <Fact name="Price">{Object.entries(agent.price).map(([name, value]) => `${name.replaceAll("_", " ")} ${String(value)}`).join(", ")}</Fact>}
        {may("health.read") && <Calls agent={agent} />}
        {spent.data && <Fact name="Spent this month"><Link href="/budgets">{usd(sumOf(spent.data, agent.agent_id))}</Link></Fact>}
        <Fact name="Registered"><Time at={agent.registered_at} /></Fact>
      </dl>
    </Card>
  );
}

function Actions({ agent }: { agent: Agent }) {
  const may = useMay();
  const [, go] = useLocation();
  const path = `agents/${encodeURIComponent(agent.agent_id)}`;
  const forbidden = lacks(may, "agents.write");
  const is = (intent: Agent["intent"], why: string) => forbidden ?? (agent.intent === intent ? why : null);
  return (
    <Card title="What may be done">
      <div className="stack">
        <Act label="Pause" refused={is("paused", "It is paused.")} run={() => change("POST", `${path}/pause`)} />
        <Act label="Drain" refused={is("draining", "It drains.")} run={() => change("POST", `${path}/drain`)} />
        <Act label="Resume" refused={is("active", "It takes work.")} tone="primary" run={() => change("POST", `${path}/resume`)} />
        <Act
          label="Deregister"
          tone="danger"
          refused={lacks(may, "agents.connect")}
          confirm={`Deregister ${agent.agent_id}? What it holds is given to others.`}
          run={async () => {
            await change("DELETE", path);
            go("/fleet");
          }}
        />
        <p className="faint">Paused: it gets no work and keeps what it has. Draining: it gets no work and ends what it has.</p>
      </div>
    </Card>
  );
}

function Short({ page, none }: { page: TaskPage; none: string }) {
  if (page.tasks.length === 0) return <Empty>{none}</Empty>;
  return (
    <ul className="short">
      {page.tasks.map((task) => (
        <li key={task.id}>
          <Badge state={task.status_detail} /> <span>{task.task_type}</span>
          <Id to={`/tasks/${encodeURIComponent(task.id)}`} id={task.id} />
          {task.started_at && <span className="faint"><Since from={task.started_at} to={task.completed_at} /></span>}
        </li>
      ))}
    </ul>
  );
}
