/** What the workspace keeps, what would go, and when it went last. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Field, Form } from "../forms.tsx";
import { Act, Badge, Card, count, Fact, Loaded, Page, plural, Time } from "../parts.tsx";
import { Allowed } from "../table.tsx";
import type { Retention, RetentionRun } from "../types.ts";
import { filled, numbered } from "../values.ts";

const EVERY_MS = 10_000;
const RULES = [
  ["task_days", "Tasks, days after their end"],
  ["task_count", "Tasks, the newest"],
  ["deliberation_days", "Deliberations, days after their end"],
  ["deliberation_count", "Deliberations, the newest"],
  ["workflow_run_days", "Runs of workflows, days after their end"],
  ["workflow_run_count", "Runs of workflows, the newest"],
  ["spending_days", "What days have cost, days"],
  ["violation_days", "Violations of policies, days"],
] as const;

export function RetentionPage() {
  return (
    <Page title="Retention" lead="What this workspace keeps of what has ended. What is open is always kept.">
      <div className="grid">
        <Allowed permission="tasks.read" title="What is kept"><Kept /></Allowed>
      </div>
    </Page>
  );
}

function Kept() {
  const may = useMay();
  const refused = lacks(may, "payloads.erase");
  const found = useQuery({ queryKey: ["retention"], queryFn: ({ signal }) => read<Retention>("retention", {}, signal), refetchInterval: EVERY_MS });
  return (
    <Loaded of={found}>
      {(rule) => (
        <>
          <Card title="What is kept" more={<Badge state="plain">{rule.is_default ? "as the deployment says" : "set for this workspace"}</Badge>}>
            <dl className="facts">
              {RULES.map(([name, label]) => <Fact key={name} name={label}>{rule[name] === 0 ? "all" : count(rule[name])}</Fact>)}
            </dl>
          </Card>
          <Gone rule={rule} refused={refused} />
          <Card title="Change it" className="wide">
            <Form
              label="Retention"
              action="Change what is kept"
              done="Changed. What is not kept any more goes within a quarter of an hour."
              refused={refused}
              run={(values) => change("PUT", "retention", filled(Object.fromEntries(RULES.filter(([name]) => numbered(values[name]) !== rule[name]).map(([name]) => [name, numbered(values[name])]))))}
            >
              {RULES.map(([name, label]) => (
                <Field key={name} name={name} label={`${label} (0: all)`} type="number" min={0} step={name.endsWith("_days") ? "any" : 1} defaultValue={rule[name]} />
              ))}
            </Form>
          </Card>
        </>
      )}
    </Loaded>
  );
}

/** A dry run says how many before anything goes. */
function Gone({ rule, refused }: { rule: Retention; refused: string | null }) {
  const [counted, setCounted] = useState<RetentionRun | null>(null);
  const last = rule.last_run;
  return (
    <Card title="What would go now">
      {counted ? (
        <p role="status">
          {counted.complete ? "" : "At least "}
          {told(counted)} would go by what is kept now.
        </p>
      ) : (
        <p className="faint">A dry run counts it and removes nothing. What has ended just now stays in any case, so that repeats of a call find it.</p>
      )}
      <div className="stack after">
        <Act label="Count what would go" refused={refused} run={async () => setCounted(await change<RetentionRun>("POST", "retention/run", { dry_run: true }))} />
        <Act
          label="Remove it now"
          tone="danger"
          refused={refused ?? (counted === null ? "Count it first." : rule.run_requested ? "A pass was asked for." : null)}
          confirm={counted ? `Remove ${told(counted)} for good?` : undefined}
          done="It begins within seconds."
          run={async () => {
            await change("POST", "retention/run", {});
            setCounted(null);
          }}
        />
      </div>
      <p className="faint after">
        {rule.run_requested && "A pass was asked for. "}
        {last ? <>The last pass ended <Time at={last.ended_at} /> and removed {told(last)}.</> : "No pass has ended in this region yet."}
      </p>
    </Card>
  );
}

function told(counts: { tasks: number | null; deliberations: number | null; workflow_runs: number | null }): string {
  return `${plural(counts.tasks ?? 0, "task")}, ${plural(counts.deliberations ?? 0, "deliberation")} and ${plural(counts.workflow_runs ?? 0, "run")}`;
}
