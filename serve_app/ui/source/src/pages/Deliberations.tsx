/** Questions that were put to panels, and a form to ask one. */
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Link, useLocation, useSearch } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Badge, Card, Empty, Id, Loaded, Page, plural, Problem, Since, seconds, Time } from "../parts.tsx";
import type { DeliberationPage } from "../types.ts";

const PAGE = 50;
const STATES = ["pending", "scheduled", "in_progress", "consensus_reached", "no_consensus", "timeout", "cancelled", "failed"];

export function DeliberationsPage() {
  const search = useSearch();
  const [, go] = useLocation();
  const asked = new URLSearchParams(search);
  const status = asked.get("status") ?? "";
  const cursor = asked.get("cursor") ?? "";
  const found = useQuery({
    queryKey: ["deliberations", status, cursor],
    queryFn: ({ signal }) => read<DeliberationPage>("deliberations", { status, cursor, limit: PAGE }, signal),
    placeholderData: (before) => before,
    refetchInterval: 30_000,
  });
  return (
    <Page
      title="Deliberations"
      lead="Questions put to several agents, newest first."
      actions={<Link className="button primary" href="/ask">Ask a question</Link>}
    >
      <form className="filters" role="search" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
        <label>
          Status
          <select value={status} onChange={(event) => go(event.target.value ? `/deliberations?status=${event.target.value}` : "/deliberations")}>
            <option value="">all</option>
            {STATES.map((state) => <option key={state} value={state}>{state.replaceAll("_", " ")}</option>)}
          </select>
        </label>
      </form>
      <Loaded of={found}>
        {(page) => (
          <>
            <p className="faint tally" role="status">{page.total_exact ? plural(page.total, "deliberation") : `more than ${page.total}`}</p>
            {page.deliberations.length === 0 ? <Empty>{status ? "None is in this state." : "No question has been asked yet."}</Empty> : <Table page={page} />}
            <nav className="pages" aria-label="Pages of the list">
              {cursor && <button type="button" onClick={() => history.back()}>Back</button>}
              {page.next_cursor && (
                <button type="button" onClick={() => go(`/deliberations?${new URLSearchParams({ ...(status ? { status } : {}), cursor: page.next_cursor ?? "" }).toString()}`)}>Older</button>
              )}
            </nav>
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Table({ page }: { page: DeliberationPage }) {
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Deliberations">
      <table>
        <thead>
          <tr>
            <th scope="col">Question</th>
            <th scope="col">State</th>
            <th scope="col">Answer</th>
            <th scope="col">Confidence</th>
            <th scope="col">Asked</th>
            <th scope="col">Took</th>
          </tr>
        </thead>
        <tbody>
          {page.deliberations.map((each) => (
            <tr key={each.request_id}>
              <td className="long">
                {each.question ? <Link href={`/deliberations/${encodeURIComponent(each.request_id)}`}>{each.question}</Link> : <Id to={`/deliberations/${encodeURIComponent(each.request_id)}`} id={each.request_id} />}
              </td>
              <td><Badge state={each.deliberation_status} /></td>
              <td className="long">{each.result?.answer ?? <span className="faint">–</span>}</td>
              <td>{each.result?.confidence == null ? <span className="faint">–</span> : `${Math.round(each.result.confidence * 100)}%`}</td>
              <td><Time at={each.created_at} /></td>
              <td><Since from={seconds(each.created_at)} to={each.completed_at === null ? null : seconds(each.completed_at)} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function AskPage() {
  const may = useMay();
  const [, go] = useLocation();
  const [content, setContent] = useState("");
  const [options, setOptions] = useState("");
  const [capability, setCapability] = useState("deliberation");
  const [rounds, setRounds] = useState("2");
  const [minAgents, setMinAgents] = useState("2");
  const refused = lacks(may, "deliberations.write");
  const chosen = options.split("\n").map((line) => line.trim()).filter(Boolean);
  const ask = useMutation({
    mutationFn: () =>
      change<{ request_id: string }>("POST", "deliberations", {
        content,
        async: true,
        required_capabilities: capability.split(",").map((name) => name.trim()).filter(Boolean),
        config: { rounds: Number(rounds), min_agents: Number(minAgents), ...(chosen.length ? { options: chosen } : {}) },
      }),
    onSuccess: ({ request_id }) => go(`/deliberations/${encodeURIComponent(request_id)}`),
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    if (refused === null && !ask.isPending) ask.mutate();
  };
  return (
    <Page title="Ask a question" lead="A panel of agents votes first, and debates only if it disagrees.">
      <Card title="Question">
        <form className="form" onSubmit={send}>
          <label className="full">
            Question
            <textarea required rows={4} maxLength={20_000} value={content} onChange={(event) => setContent(event.target.value)} />
          </label>
          <label className="full">
            Options, one a line (none: a free answer)
            <textarea rows={3} value={options} onChange={(event) => setOptions(event.target.value)} />
          </label>
          <label>
            Capabilities of the panel
            <input value={capability} onChange={(event) => setCapability(event.target.value)} />
          </label>
          <label>
            Rounds of debate at most
            <input type="number" min={0} max={9} value={rounds} onChange={(event) => setRounds(event.target.value)} />
          </label>
          <label>
            Votes that it needs at least
            <input type="number" min={1} max={100} value={minAgents} onChange={(event) => setMinAgents(event.target.value)} />
          </label>
          <div className="full actions">
            <button className="primary" aria-describedby={refused === null ? undefined : "refused"} aria-disabled={refused !== null || ask.isPending}>{ask.isPending ? "Asking…" : "Ask"}</button>
            {refused !== null && <span id="refused" className="why">{refused}</span>}
          </div>
        </form>
        {ask.error && <Problem error={ask.error} />}
      </Card>
    </Page>
  );
}
