/** All agents in one table: only the rows that can be seen are in the page, so that 10,000 cost no more than 50. */
import { useQuery } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useMemo, useRef, useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { read } from "../api.ts";
import { Badge, Empty, Loaded, Page, plural, Time } from "../parts.tsx";
import type { Agent, AgentPage } from "../types.ts";

const PAGE = 1_000;
const MOST = 20_000;
const ROW_PX = 44;
const STATES = ["ready", "busy", "starting", "draining", "paused", "offline", "failed"];

interface Fleet {
  agents: Agent[];
  total: number;
}

/** Reads page after page; an agent that moved between two is there once. */
async function readFleet(signal: AbortSignal): Promise<Fleet> {
  const found = new Map<string, Agent>();
  for (let offset = 0; ; offset += PAGE) {
    const page = await read<AgentPage>("agents", { available: false, limit: PAGE, offset }, signal);
    for (const agent of page.agents) found.set(agent.agent_id, agent);
    if (page.agents.length < PAGE || offset + PAGE >= MOST) return { agents: [...found.values()], total: page.total };
  }
}

export function FleetPage() {
  const fleet = useQuery({ queryKey: ["agents"], queryFn: ({ signal }) => readFleet(signal), refetchInterval: 15_000 });
  return (
    <Page title="Fleet" lead="Every agent of this workspace.">
      <Loaded of={fleet}>{(found) => (found.agents.length ? <Agents fleet={found} /> : <None />)}</Loaded>
    </Page>
  );
}

function None() {
  return <Empty>No agent is registered. A worker registers itself: <code>aragora-cp worker --help</code>.</Empty>;
}

function Agents({ fleet }: { fleet: Fleet }) {
  const asked = new URLSearchParams(useSearch());
  const [, go] = useLocation();
  const [typed, setTyped] = useState(asked.get("search") ?? "");
  const text = useDeferredValue(typed.trim().toLowerCase());
  const chosen = { status: asked.get("status") ?? "", capability: asked.get("capability") ?? "", region: asked.get("region") ?? "" };
  const capabilities = useMemo(() => valuesOf(fleet.agents.flatMap((agent) => agent.capabilities)), [fleet]);
  const regions = useMemo(() => valuesOf(fleet.agents.map((agent) => agent.region_id)), [fleet]);
  const shown = useMemo(
    () =>
      fleet.agents.filter(
        (agent) =>
          (!chosen.status || agent.status === chosen.status) &&
          (!chosen.capability || agent.capabilities.includes(chosen.capability)) &&
          (!chosen.region || agent.region_id === chosen.region) &&
          (!text || `${agent.agent_id} ${agent.model} ${agent.provider} ${agent.capabilities.join(" ")}`.toLowerCase().includes(text)),
      ),
    [fleet, text, chosen.status, chosen.capability, chosen.region],
  );
  const set = (changes: Record<string, string>) => {
    for (const [name, value] of Object.entries(changes)) {
      if (value) asked.set(name, value);
      else asked.delete(name);
    }
    const query = asked.toString();
    go(query ? `/fleet?${query}` : "/fleet", { replace: true });
  };
  const choice = (name: keyof typeof chosen, label: string, values: readonly string[]) => (
    <label>
      {label}
      <select value={chosen[name]} onChange={(event) => set({ [name]: event.target.value })}>
        <option value="">all</option>
        {values.map((value) => <option key={value}>{value}</option>)}
      </select>
    </label>
  );
  return (
    <>
      <form className="filters" role="search" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
        <label className="grow">
          Find
          <input type="search" value={typed} placeholder="id, model, capability" onChange={(event) => setTyped(event.target.value)} onBlur={() => set({ search: typed.trim() })} />
        </label>
        {choice("status", "Status", STATES)}
        {choice("capability", "Capability", capabilities)}
        {choice("region", "Region", regions)}
      </form>
      <p className="faint tally" role="status">
        {shown.length === fleet.agents.length ? plural(fleet.total, "agent") : `${shown.length.toLocaleString()} of ${plural(fleet.total, "agent")}`}
        {fleet.total > fleet.agents.length && `, the first ${fleet.agents.length.toLocaleString()} are here`}
      </p>
      <Rows agents={shown} />
    </>
  );
}

function valuesOf(values: readonly string[]): string[] {
  return [...new Set(values)].sort().slice(0, 200);
}

const COLUMNS = ["Agent", "Status", "Load", "Capabilities", "Model", "Region", "Transport", "Done", "Failed", "Last sign of life"];

function Rows({ agents }: { agents: readonly Agent[] }) {
  const frame = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: agents.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_PX,
    getItemKey: (at) => agents[at]?.agent_id ?? at,
    overscan: 12,
  });
  if (agents.length === 0) return <Empty>No agent matches.</Empty>;
  return (
    <div ref={frame} className="fleet" tabIndex={0} role="region" aria-label="Agents">
      <div role="table" aria-rowcount={agents.length + 1} aria-colcount={COLUMNS.length} aria-label="Agents">
        <div role="row" aria-rowindex={1} className="row columns">
          {COLUMNS.map((name) => <span role="columnheader" key={name}>{name}</span>)}
        </div>
        <div role="rowgroup" style={{ height: rows.getTotalSize(), position: "relative" }}>
          {rows.getVirtualItems().map((item) => {
            const agent = agents[item.index];
            return agent && <Row key={item.key} agent={agent} index={item.index} top={item.start} />;
          })}
        </div>
      </div>
    </div>
  );
}

function Row({ agent, index, top }: { agent: Agent; index: number; top: number }) {
  const load = agent.max_concurrency ? agent.running_tasks / agent.max_concurrency : 0;
  return (
    <div role="row" aria-rowindex={index + 2} className="row" style={{ position: "absolute", transform: `translateY(${top}px)` }}>
      <span role="cell"><Link className="id" href={`/agents/${encodeURIComponent(agent.agent_id)}`} title={agent.agent_id}>{agent.agent_id}</Link></span>
      <span role="cell"><Badge state={agent.status} /></span>
      <span role="cell">
        <meter min={0} max={1} value={Math.min(1, load)} aria-label={`Load of ${agent.agent_id}`} /> {agent.running_tasks}/{agent.max_concurrency}
      </span>
      <span role="cell" className="faint" title={agent.capabilities.join(", ")}>{agent.capabilities.join(", ") || "–"}</span>
      <span role="cell" title={agent.model}>{agent.model}</span>
      <span role="cell">{agent.region_id}</span>
      <span role="cell">{agent.transport}</span>
      <span role="cell">{agent.tasks_completed.toLocaleString()}</span>
      <span role="cell" className={agent.tasks_failed ? "bad" : ""}>{agent.tasks_failed.toLocaleString()}</span>
      <span role="cell"><Time at={agent.last_heartbeat} /></span>
    </div>
  );
}
