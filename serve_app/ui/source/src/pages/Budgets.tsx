/** What work costs and may cost, and how much of everything the workspace may have. */
import { useQuery } from "@tanstack/react-query";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Field, Form, Select } from "../forms.tsx";
import { Act, Badge, Card, count, Empty, Fact, Loaded, Page, Time, usd } from "../parts.tsx";
import { Allowed, Table, useAddress } from "../table.tsx";
import type { Budget, Budgets, Quotas, Spent } from "../types.ts";
import { filled, numbered } from "../values.ts";

const EVERY_MS = 15_000;
const MODES = ["soft", "hard", "throttle"];

export function BudgetsPage() {
  return (
    <Page title="Budgets and quotas" lead="What work costs and may cost, and how much the workspace may have at once.">
      <div className="grid">
        <Allowed permission="budgets.read" title="Budgets"><BudgetList /></Allowed>
        <Allowed permission="quotas.read" title="Quotas"><QuotaCard /></Allowed>
        <NewBudget />
        <Allowed permission="budgets.read" title="Spending"><Spending /></Allowed>
      </div>
    </Page>
  );
}

function BudgetList() {
  const found = useQuery({ queryKey: ["budgets"], queryFn: ({ signal }) => read<Budgets>("budgets", {}, signal), refetchInterval: EVERY_MS });
  return (
    <Card title="Budgets" className="wide">
      <Loaded of={found}>
        {({ budgets }) => (budgets.length === 0 ? <Empty>There are no budgets: nothing is limited or counted.</Empty> : <ul className="budgets">{budgets.map((budget) => <One key={budget.id} budget={budget} />)}</ul>)}
      </Loaded>
    </Card>
  );
}

function One({ budget }: { budget: Budget }) {
  const may = useMay();
  const refused = lacks(may, "budgets.write");
  const path = `budgets/${encodeURIComponent(budget.id)}`;
  const { usage } = budget;
  const used = usage && Number(budget.limit_usd) > 0 ? (Number(usage.spent_usd) + Number(usage.reserved_usd)) / Number(budget.limit_usd) : 0;
  return (
    <li>
      <div className="line">
        <h3>{budget.name}</h3>
        <Badge state={budget.mode === "hard" ? "failed" : "queued"}>{budget.mode}</Badge>
        <span className="faint">{budget.scope === "workspace" ? "the workspace" : `${budget.scope.replace("_", " ")} ${budget.subject ?? ""}`}, by the {budget.period}</span>
        {used >= 1 && <Badge state="failed">exhausted</Badge>}
      </div>
      {usage && (
        <>
          <p>
            <meter className="long" min={0} max={1} high={0.8} value={Math.min(1, used)} aria-label={`Used of ${budget.name}`} /> {usd(usage.spent_usd)} spent and {usd(usage.reserved_usd)} reserved of {usd(budget.limit_usd)}
          </p>
          <dl className="facts">
            <Fact name="Left">{usd(usage.available_usd)}</Fact>
            <Fact name="Forecast">{usage.forecast_usd === null ? "–" : usd(usage.forecast_usd)}</Fact>
            <Fact name="Attempts">{count(usage.attempts)}{usage.unknown_costs > 0 && `, ${count(usage.unknown_costs)} of unknown cost`}</Fact>
            <Fact name="Begins anew"><Time at={usage.period_end} /></Fact>
          </dl>
        </>
      )}
      <details>
        <summary>Change or delete</summary>
        <Form label={`Change ${budget.name}`} action="Change" done="Changed." refused={refused} run={(values) => change("PUT", path, filled({ limit_usd: values.limit, estimate_usd: values.estimate, mode: values.mode }))}>
          <Field name="limit" label="Limit in USD" inputMode="decimal" defaultValue={budget.limit_usd} />
          <Field name="estimate" label="Estimate of an attempt in USD" inputMode="decimal" defaultValue={budget.estimate_usd} />
          <Select name="mode" label="Mode" values={MODES} value={budget.mode} />
        </Form>
        <Act label="Delete" tone="danger" confirm={`Delete the budget ${budget.name}? What attempts have cost stays.`} refused={refused} run={() => change("DELETE", path)} />
      </details>
    </li>
  );
}

function NewBudget() {
  const may = useMay();
  return (
    <Card title="New budget">
      <Form
        label="New budget"
        action="Make it"
        done="Made."
        refused={lacks(may, "budgets.write")}
        run={(values) =>
          change("POST", "budgets", filled({ name: values.name, mode: values.mode, limit_usd: values.limit, estimate_usd: values.estimate, scope: values.scope, subject: values.subject, period: values.period }))
        }
      >
        <Field name="name" label="Name" required maxLength={256} />
        <Field name="limit" label="Limit in USD" required inputMode="decimal" placeholder="25.00" />
        <Field name="estimate" label="Estimate of an attempt in USD" inputMode="decimal" placeholder="0.05" />
        <Select name="mode" label="Mode" values={MODES} />
        <Select name="scope" label="About" values={["workspace", "agent", "task_type"]} />
        <Field name="subject" label="Which agent or task type" />
        <Select name="period" label="By the" values={["month", "day"]} />
      </Form>
    </Card>
  );
}

const QUOTAS = [
  ["agents", "Agents"],
  ["queued_tasks", "Tasks that wait"],
  ["running_tasks", "Tasks that run"],
  ["submits_per_minute", "Submits a minute"],
] as const;

function QuotaCard() {
  const may = useMay();
  const found = useQuery({ queryKey: ["quotas"], queryFn: ({ signal }) => read<Quotas>("quotas", {}, signal), refetchInterval: EVERY_MS });
  return (
    <Card title="Quotas">
      <Loaded of={found}>
        {({ quotas, used, updated_at, updated_by }) => (
          <>
            <dl className="facts">
              {QUOTAS.map(([name, label]) => (
                <Fact key={name} name={label}>
                  {name === "submits_per_minute" ? "" : `${count(used[name])} of `}
                  {quotas[name] === null ? "no quota" : count(quotas[name])}
                </Fact>
              ))}
            </dl>
            {updated_at && <p className="faint">Set <Time at={updated_at} /> by {updated_by}.</p>}
            <Form
              label="Quotas"
              action="Set"
              done="Set."
              refused={lacks(may, "quotas.write")}
              run={(values) => change("PUT", "quotas", Object.fromEntries(QUOTAS.map(([name]) => [name, numbered(values[name]) ?? null])))}
            >
              {QUOTAS.map(([name, label]) => <Field key={name} name={name} label={`${label} (empty: none)`} type="number" min={1} max={1_000_000} defaultValue={quotas[name] ?? ""} />)}
            </Form>
          </>
        )}
      </Loaded>
    </Card>
  );
}

function Spending() {
  const [asked, set] = useAddress();
  const [start, end] = [asked.get("start") ?? "", asked.get("end") ?? ""];
  const found = useQuery({
    queryKey: ["spending", start, end],
    queryFn: ({ signal }) => read<Spent>("spending", { start, end }, signal),
    placeholderData: (before) => before,
    refetchInterval: 60_000,
  });
  return (
    <Card title="Spending" className="wide">
      <form className="filters" role="search" aria-label="Spending" onSubmit={(event) => event.preventDefault()}>
        <label>From the day<input type="date" value={start} onChange={(event) => set({ start: event.target.value })} /></label>
        <label>Until before the day<input type="date" value={end} onChange={(event) => set({ end: event.target.value })} /></label>
      </form>
      <Loaded of={found}>
        {(page) => (
          <>
            <p className="tally" role="status">{usd(page.total_spent_usd)} spent and {usd(page.total_reserved_usd)} reserved from {page.start} until before {page.end}{page.truncated && "; the last rows are left out"}</p>
            {page.spending.length === 0 ? (
              <Empty>Nothing that a budget counts.</Empty>
            ) : (
              <Table label="Spending" columns={["Day", "Agent", "Task type", "Spent", "Reserved", "Attempts", "Of unknown cost"]}>
                {page.spending.slice(0, 500).map((row) => (
                  <tr key={`${row.day} ${row.agent_id} ${row.task_type}`}>
                    <td>{row.day}</td><td>{row.agent_id}</td><td>{row.task_type}</td><td>{usd(row.spent_usd)}</td><td>{usd(row.reserved_usd)}</td><td>{count(row.attempts)}</td><td>{count(row.unknown_costs)}</td>
                  </tr>
                ))}
              </Table>
            )}
            {page.spending.length > 500 && <p className="faint">The first 500 of {count(page.spending.length)} rows.</p>}
          </>
        )}
      </Loaded>
    </Card>
  );
}
