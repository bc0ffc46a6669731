/** What may be submitted and who may have it, and what was against it. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useLocation } from "wouter";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Area, Field, Form, KEEP, Select } from "../forms.tsx";
import { Act, Badge, Card, Empty, Fact, Id, Loaded, Page, plural, Time, Value, words } from "../parts.tsx";
import { Allowed, Choice, offsetOf, Offsets, Table, useAddress } from "../table.tsx";
import type { OnePolicy, Policies, Policy, PolicyTrial, PolicyVersions, Violation, ViolationNumbers, Violations } from "../types.ts";
import { filled, listed, parsed, type Values } from "../values.ts";

const SIZE = 50;
const EVERY_MS = 15_000;
const LEVELS = ["warn", "soft", "hard"];

export function PoliciesPage() {
  const may = useMay();
  const policies = useQuery({
    queryKey: ["policies"],
    queryFn: ({ signal }) => read<Policies>("policies", {}, signal),
    enabled: may("policies.read"),
    refetchInterval: EVERY_MS,
  });
  return (
    <Page title="Policies" lead="What may be submitted, which agents may have it, and what was against that.">
      <div className="grid">
        <Allowed permission="policies.read" title="Policies">
          <Card title="Policies" className="wide">
            <Loaded of={policies}>
              {(found) =>
                found.policies.length === 0 ? (
                  <Empty>There are no policies: everything may be submitted.</Empty>
                ) : (
                  <Table label="Policies" columns={["Name", "About", "Enforced", "State", "Priority", "Version", "Changed"]}>
                    {found.policies.map((policy) => (
                      <tr key={policy.id}>
                        <td><Link href={`/policies/${encodeURIComponent(policy.id)}`}>{policy.name}</Link></td>
                        <td className="long">{about(policy)}</td>
                        <td><Level level={policy.enforcement_level} /></td>
                        <td><Badge state={policy.enabled ? "completed" : "paused"}>{policy.enabled ? "enabled" : "disabled"}</Badge></td>
                        <td>{policy.priority}</td>
                        <td>{policy.version}</td>
                        <td><Time at={policy.updated_at} /> <span className="faint">by {policy.updated_by}</span></td>
                      </tr>
                    ))}
                  </Table>
                )
              }
            </Loaded>
          </Card>
        </Allowed>
        <Allowed permission="violations.read" title="Violations"><ViolationsCard /></Allowed>
        <NewPolicy />
      </div>
    </Page>
  );
}

function Level({ level }: { level: string }) {
  return <Badge state={level === "hard" ? "failed" : level === "soft" ? "paused" : "queued"}>{level}</Badge>;
}

function about(policy: Policy): string {
  const parts = [
    policy.all_workspaces ? "all workspaces" : "",
    policy.task_types.length ? `types ${policy.task_types.join(", ")}` : "",
    policy.capabilities.length ? `capabilities ${policy.capabilities.join(", ")}` : "",
  ].filter(Boolean);
  return parts.join(" · ") || "every task";
}

/** The violations of one policy, or of all by what the address says. */
function ViolationsCard({ policy }: { policy?: string }) {
  const may = useMay();
  const [asked, set] = useAddress();
  const [status, type, offset] = [asked.get("status") ?? "", asked.get("type") ?? "", offsetOf(asked)];
  const query = { policy_id: policy ?? "", status, violation_type: type, limit: SIZE, offset };
  const found = useQuery({
    queryKey: ["violations", query],
    queryFn: ({ signal }) => read<Violations>("policies/violations", query, signal),
    placeholderData: (before) => before,
    refetchInterval: EVERY_MS,
  });
  const numbers = useQuery({
    queryKey: ["violations", "numbers"],
    queryFn: ({ signal }) => read<ViolationNumbers>("policies/violations/stats", {}, signal),
    refetchInterval: EVERY_MS,
  });
  const refused = lacks(may, "violations.update");
  return (
    <Card title="Violations" className="wide" more={policy === undefined && numbers.data && <span className="faint">{numbers.data.open} open of {numbers.data.total}</span>}>
      <form className="filters" role="search" aria-label="Violations" onSubmit={(event) => event.preventDefault()}>
        <Choice label="Status" value={status} values={["open", "investigating", "resolved", "false_positive"]} set={(value) => set({ status: value })} />
        <Choice label="Type" value={type} values={["agent", "region", "sla", "condition"]} set={(value) => set({ type: value })} />
      </form>
      <Loaded of={found}>
        {(page) => (
          <>
            <p className="faint tally" role="status">{plural(page.total, "violation")}</p>
            {page.violations.length === 0 ? (
              <Empty>None matches.</Empty>
            ) : (
              <Table label="Violations" columns={["When", "Policy", "What", "Status", "Task", "By", ""]}>
                {page.violations.map((each) => <Row key={each.id} violation={each} refused={refused} />)}
              </Table>
            )}
            <Offsets offset={offset} size={SIZE} total={page.total} set={set} />
          </>
        )}
      </Loaded>
    </Card>
  );
}

const NEXT: Record<Violation["status"], [string, Violation["status"]][]> = {
  open: [["Look into it", "investigating"], ["Resolve", "resolved"], ["False positive", "false_positive"]],
  investigating: [["Resolve", "resolved"], ["False positive", "false_positive"]],
  resolved: [["Open again", "open"]],
  false_positive: [["Open again", "open"]],
};

function Row({ violation, refused }: { violation: Violation; refused: string | null }) {
  return (
    <tr>
      <td><Time at={violation.timestamp} /></td>
      <td><Link href={`/policies/${encodeURIComponent(violation.policy_id)}`}>{violation.policy_name}</Link> <span className="faint">v{violation.policy_version}</span></td>
      <td className="long">
        <Level level={violation.enforcement_level} /> {violation.description}
        {violation.resolution_notes && <p className="faint small">{violation.resolution_notes}</p>}
      </td>
      <td><Badge state={violation.status === "open" ? "failed" : violation.status === "investigating" ? "running" : "completed"}>{words(violation.status)}</Badge></td>
      <td>{violation.task_id ? <Id to={`/tasks/${encodeURIComponent(violation.task_id)}`} id={violation.task_id} /> : <span className="faint">refused</span>} <span className="faint">{violation.task_type}</span></td>
      <td className="faint">{violation.submitted_by}</td>
      <td>
        <div className="actions" role="group" aria-label={`Violation of ${violation.policy_name}`}>
          {NEXT[violation.status].map(([label, status]) => (
            <Act key={status} label={label} refused={refused} run={() => change("PATCH", `policies/violations/${encodeURIComponent(violation.id)}`, { status })} />
          ))}
        </div>
      </td>
    </tr>
  );
}

const fieldsOf = (values: Values) =>
  filled({
    name: values.name,
    description: values.description,
    task_types: listed(values.task_types),
    capabilities: listed(values.capabilities),
    agent_allowlist: listed(values.agent_allowlist),
    agent_blocklist: listed(values.agent_blocklist),
    region_constraint: values.regions ? { allowed_regions: listed(values.regions) } : undefined,
    deny_when: values.deny_when,
    enforcement_level: values.enforcement_level,
  });

function NewPolicy() {
  const may = useMay();
  const [, go] = useLocation();
  const [trial, setTrial] = useState<PolicyTrial | null>(null);
  return (
    <Card title="New policy" className="wide">
      <Form
        label="New policy"
        action="Go on"
        refused={lacks(may, "policies.write")}
        run={async (values) => {
          if (values.what === "try it on the newest tasks") {
            setTrial(await change<PolicyTrial>("POST", "policies/dry-run", fieldsOf(values)));
            return KEEP;
          }
          const made = await change<OnePolicy>("POST", "policies", fieldsOf(values));
          go(`/policies/${encodeURIComponent(made.id)}`);
          return made;
        }}
      >
        <Field name="name" label="Name" required maxLength={256} />
        <Field name="task_types" label="Task types (none: all)" placeholder="deploy, migrate" />
        <Field name="capabilities" label="Capabilities (none: all)" />
        <Field name="agent_allowlist" label="Only these agents" />
        <Field name="agent_blocklist" label="Never these agents" />
        <Field name="regions" label="Only these regions" />
        <Field name="deny_when" label="Deny when" placeholder='payload.environment == "production"' />
        <Select name="enforcement_level" label="Enforced" values={LEVELS} value="warn" />
        <Field name="description" label="What it is for" />
        <Select name="what" label="What to do" values={["try it on the newest tasks", "make it"]} />
      </Form>
      {trial && (
        <p role="status">
          Of the newest {plural(trial.tried, "task")} it is about {trial.matched}: it would have denied {trial.denied}, warned of {trial.warned}, and refused the agent of {trial.agent_refused}.
        </p>
      )}
    </Card>
  );
}

export function PolicyPage({ id }: { id: string }) {
  const may = useMay();
  const [, go] = useLocation();
  const path = `policies/${encodeURIComponent(id)}`;
  const found = useQuery({ queryKey: ["policies", id], queryFn: ({ signal }) => read<OnePolicy>(path, {}, signal), enabled: may("policies.read") });
  const versions = useQuery({ queryKey: ["policies", id, "versions"], queryFn: ({ signal }) => read<PolicyVersions>(`${path}/versions`, {}, signal), enabled: may("policies.read") });
  const refused = lacks(may, "policies.write");
  return (
    <Page title={found.data?.name ?? "Policy"} lead={found.data?.description ?? <span className="id">{id}</span>}>
      <div className="grid">
        <Allowed permission="policies.read" title="Policy">
          <Loaded of={found}>
            {(policy) => (
              <>
                <Card title="What it says" more={<Level level={policy.enforcement_level} />}>
                  {policy.conflicts.map((conflict) => <p key={conflict.policy_id} className="problem">It contradicts <Link href={`/policies/${encodeURIComponent(conflict.policy_id)}`}>another</Link>: {conflict.reason}</p>)}
                  <dl className="facts">
                    <Fact name="About">{about(policy)}</Fact>
                    <Fact name="State">{policy.enabled ? "enabled" : "disabled"}</Fact>
                    <Fact name="Only agents">{policy.agent_allowlist.join(", ") || "any"}</Fact>
                    <Fact name="Never agents">{policy.agent_blocklist.join(", ") || "none"}</Fact>
                    <Fact name="Regions">{policy.region_constraint.allowed_regions.join(", ") || "any"}{policy.region_constraint.blocked_regions.length > 0 && `, but ${policy.region_constraint.blocked_regions.join(", ")}`}</Fact>
                    {policy.sla.max_execution_seconds !== null && <Fact name="Runs at most">{policy.sla.max_execution_seconds} s</Fact>}
                    {policy.deny_when && <Fact name="Denies when"><code>{policy.deny_when}</code></Fact>}
                    <Fact name="Version">{policy.version}, <Time at={policy.updated_at} /> by {policy.updated_by}</Fact>
                  </dl>
                </Card>
                <Card title="What may be done">
                  <div className="stack">
                    {policy.enabled ? (
                      <Act label="Disable" refused={refused} run={() => change("PUT", path, { enabled: false })} />
                    ) : (
                      <Act label="Enable" tone="primary" refused={refused} run={() => change("PUT", path, { enabled: true })} />
                    )}
                    {LEVELS.filter((level) => level !== policy.enforcement_level).map((level) => (
                      <Act key={level} label={`Enforce it ${level === "warn" ? "by a warning only" : `as ${level}`}`} refused={refused} run={() => change("PUT", path, { enforcement_level: level })} />
                    ))}
                    <Act
                      label="Delete"
                      tone="danger"
                      confirm={`Delete ${policy.name}? Its versions and violations stay.`}
                      refused={refused}
                      run={async () => {
                        await change("DELETE", path);
                        go("/policies");
                      }}
                    />
                  </div>
                </Card>
                <Card title="Change it" className="wide">
                  <Form label="Change it" action="Store as the next version" done="Stored." refused={refused} run={(values) => change("PUT", path, parsed(values.fields, "What it says") as object)}>
                    <Area name="fields" label="Fields (JSON); what is left out stays" rows={6} value={JSON.stringify({ deny_when: policy.deny_when, task_types: policy.task_types, agent_allowlist: policy.agent_allowlist, priority: policy.priority }, null, 2)} />
                  </Form>
                </Card>
              </>
            )}
          </Loaded>
          <Card title="Versions" className="wide">
            <Loaded of={versions}>
              {(told) => (
                <ul className="short">
                  {told.versions.map((version) => (
                    <li key={version.version}>
                      <strong>{version.version}</strong> <Time at={version.updated_at} /> <span className="faint">by {version.updated_by}</span>
                      <Act label={`Go back to ${version.version}`} refused={refused ?? (version.version === found.data?.version ? "It is this one." : found.error && !found.data ? "It was deleted." : null)} run={() => change("POST", `${path}/rollback`, { version: version.version })} />
                      <Value title="What it said" value={version} name={`${id}-${version.version}.json`} />
                    </li>
                  ))}
                </ul>
              )}
            </Loaded>
          </Card>
        </Allowed>
        <Allowed permission="violations.read" title="Violations"><ViolationsCard policy={id} /></Allowed>
      </div>
    </Page>
  );
}
