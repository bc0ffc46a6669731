/** One deliberation as it goes on: who says what, the votes by round, the decision and the dissent. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Act, Badge, Card, duration, Empty, Fact, Id, Loaded, Page, Since, seconds, Time, Value } from "../parts.tsx";
import { Timeline } from "../timeline.tsx";
import type { Deliberation, Story, StoryEvent } from "../types.ts";

export function DeliberationPage({ id }: { id: string }) {
  const may = useMay();
  const path = `deliberations/${encodeURIComponent(id)}`;
  const found = useQuery({ queryKey: ["deliberation", id, "itself"], queryFn: ({ signal }) => read<Deliberation>(path, {}, signal), refetchInterval: 15_000 });
  const story = useQuery({
    queryKey: ["deliberation", id, "story"],
    queryFn: ({ signal }) => read<Story>(`story/${encodeURIComponent(id)}`, { limit: 1_000 }, signal),
    enabled: may("stream.read"),
  });
  return (
    <Page title="Deliberation" lead={found.data?.question ?? <span className="id">{id}</span>}>
      <Loaded of={found}>
        {(deliberation) => (
          <div className="grid">
            <Decided deliberation={deliberation} />
            <State deliberation={deliberation} />
            {may("stream.read") && (
              <>
                <Card title="Votes by round" className="wide"><Loaded of={story}>{(told) => <Votes events={told.events} />}</Loaded></Card>
                <Card title="Story" className="wide"><Loaded of={story}>{(told) => <Timeline events={told.events} about={id} />}</Loaded></Card>
              </>
            )}
          </div>
        )}
      </Loaded>
    </Page>
  );
}

function Decided({ deliberation }: { deliberation: Deliberation }) {
  const decision = deliberation.result;
  if (decision === null || deliberation.completed_at === null) {
    return (
      <Card title="Decision">
        {deliberation.status_detail === "input_required" ? <p>It waits for a person. <Link href="/questions">Answer its question</Link></p> : <Empty>The panel is at work.</Empty>}
      </Card>
    );
  }
  return (
    <Card title="Decision" more={<Badge state={deliberation.deliberation_status} />}>
      {deliberation.redacted ? (
        <p className="why">Your role lacks controlplane:payloads.read, so the answer is not shown.</p>
      ) : (
        <p className="answer">{decision.answer ?? "No answer."}</p>
      )}
      {decision.confidence !== null && (
        <p>
          <meter min={0} max={1} value={decision.confidence} aria-label="Confidence" /> {Math.round(decision.confidence * 100)}% confidence,{" "}
          {decision.confidence_calibrated ? "calibrated by outcomes" : "not calibrated yet"}
        </p>
      )}
      {decision.reasoning && <p className="prose">{decision.reasoning}</p>}
      {decision.error && <p className="problem">{decision.error}</p>}
      {decision.dissenting_views && decision.dissenting_views.length > 0 && (
        <>
          <h3>Dissent</h3>
          <ul className="dissent">{decision.dissenting_views.map((view) => <li key={view}>{view}</li>)}</ul>
        </>
      )}
      <dl className="facts">
        {decision.person && (
          <Fact name="A person">
            {decision.person.verdict ?? "has not answered"}{decision.person.answered_by && ` by ${decision.person.answered_by}`}
            {decision.person.decided && ", and has decided"}
          </Fact>
        )}
        <Fact name="For it">{decision.supporters.join(", ") || "nobody"}</Fact>
        {decision.abstained.length > 0 && <Fact name="Abstained">{decision.abstained.map(({ agent }) => agent).join(", ")}</Fact>}
        {decision.stop && <Fact name="Ended by">{decision.stop.replaceAll("_", " ")}</Fact>}
        {decision.tie_path.length > 0 && <Fact name="Tie broken by">{decision.tie_path.join(", ")}</Fact>}
      </dl>
      {decision.debate_delta && <Value title="What the debate changed" value={decision.debate_delta} name="debate.json" />}
    </Card>
  );
}

function State({ deliberation }: { deliberation: Deliberation }) {
  const may = useMay();
  const decision = deliberation.result;
  const ended = deliberation.completed_at;
  return (
    <Card title="Course" more={<Badge state={deliberation.deliberation_status} />}>
      <dl className="facts">
        <Fact name="Phase">{deliberation.state.toLowerCase().replaceAll("_", " ")}</Fact>
        <Fact name="Asked"><Time at={deliberation.created_at} /></Fact>
        <Fact name="Took"><Since from={seconds(deliberation.created_at)} to={ended === null ? null : seconds(ended)} /></Fact>
        {decision && (
          <>
            <Fact name="Panel">{decision.panel.map((agent) => <Id key={agent} to={`/agents/${encodeURIComponent(agent)}`} id={agent} />)}</Fact>
            <Fact name="Rounds">{decision.rounds_completed}</Fact>
            <Fact name="Calls">{decision.agent_calls}</Fact>
            <Fact name="Tokens">{decision.total_tokens.toLocaleString()}</Fact>
            <Fact name="Cost">{decision.total_cost_usd.toLocaleString(undefined, { style: "currency", currency: "USD", maximumFractionDigits: 6 })}</Fact>
            {decision.duration_seconds !== null && <Fact name="Work">{duration(decision.duration_seconds)}</Fact>}
          </>
        )}
        {deliberation.metrics && <Fact name="Service level">{deliberation.metrics.sla_compliance}</Fact>}
      </dl>
      <div className="stack">
        {ended !== null && (
          <p><Link href={`/receipts/${encodeURIComponent(deliberation.request_id)}`}>Verify its receipt</Link> <span className="faint">in this browser</span></p>
        )}
        <Act
          label="Cancel"
          tone="danger"
          confirm="Cancel this deliberation? What its agents have said so far was paid for."
          refused={lacks(may, "deliberations.write") ?? (ended === null ? null : "It has ended.")}
          run={() => change("POST", `deliberations/${encodeURIComponent(deliberation.request_id)}/cancel`)}
        />
      </div>
    </Card>
  );
}

const TURNS: Record<string, string> = {
  "deliberation.agent_proposal": "proposal",
  "deliberation.agent_revision": "revision",
  "deliberation.vote": "vote",
  "deliberation.agent_error": "no answer",
};

interface Turn {
  agent?: string;
  agents?: string[];
  round?: number;
  phase?: string;
  choice?: string;
  proposal_preview?: string;
  because?: string;
  confidence?: number | string | null;
  fault?: string;
  changed?: boolean;
}

function Votes({ events }: { events: readonly StoryEvent[] }) {
  const turns = events
    .filter((event) => event.type in TURNS)
    .flatMap(({ type, data }) => {
      const turn = data as Turn;
      // One row says of several agents that they are not waited for any more.
      return (turn.agents ?? [turn.agent]).map((agent) => ({ type, turn: { ...turn, agent } }));
    });
  const columns = [...new Set(turns.map(({ turn }) => columnOf(turn)))];
  const agents = [...new Set(turns.map(({ turn }) => turn.agent ?? ""))].filter(Boolean);
  if (agents.length === 0) return <Empty>Nobody has answered yet.</Empty>;
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Votes by round">
      <table className="votes">
        <thead>
          <tr>
            <th scope="col">Agent</th>
            {columns.map((column) => <th scope="col" key={column}>{column}</th>)}
          </tr>
        </thead>
        <tbody>
          {agents.map((agent) => (
            <tr key={agent}>
              <th scope="row"><Id to={`/agents/${encodeURIComponent(agent)}`} id={agent} /></th>
              {columns.map((column) => (
                <td key={column}>
                  {turns.filter(({ turn }) => turn.agent === agent && columnOf(turn) === column).map(({ type, turn }, at) => <Said key={at} type={type} turn={turn} />)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function columnOf({ phase, round }: Turn): string {
  return `${(phase ?? "").toLowerCase()}${round ? ` ${round}` : ""}`;
}

function Said({ type, turn }: { type: string; turn: Turn }) {
  if (type === "deliberation.agent_error") return <Badge state="failed">{turn.fault ?? "no answer"}</Badge>;
  return (
    <div className={turn.changed ? "changed" : ""}>
      {turn.choice ?? turn.proposal_preview ?? <span className="faint">not shown</span>}
      <span className="faint small">
        {turn.changed && " · changed its mind"}
        {turn.confidence !== null && turn.confidence !== undefined && ` · ${String(turn.confidence)}`}
      </span>
      {turn.because && <p className="faint small">{turn.because}</p>}
    </div>
  );
}
