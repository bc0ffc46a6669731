/** Workspaces, who has which role in them, and what roles allow. */
import { useQuery } from "@tanstack/react-query";
import { change, read, withQuery } from "../api.ts";
import { lacks, useCaller, useMay } from "../caller.ts";
import { Area, Field, Form, Select } from "../forms.tsx";
import { Act, Badge, Card, Empty, Loaded, Page, plural, Time } from "../parts.tsx";
import { Allowed, Table, useAddress } from "../table.tsx";
import type { Members, Roles, Workspace, Workspaces } from "../types.ts";
import { filled, listed } from "../values.ts";

const EVERY_MS = 15_000;
/** Who has a role in all workspaces is listed under this name. */
const EVERYWHERE = "*";

export function WorkspacesPage() {
  const caller = useCaller();
  const [asked, set] = useAddress();
  const of = asked.get("of") || caller.workspace || "";
  return (
    <Page title="Workspaces and members" lead="Who has which role where, and what roles allow. You see the workspaces that you may look after.">
      <div className="grid">
        <Allowed permission="access.read" title="Workspaces">
          <WorkspaceCard of={of} choose={(id) => set({ of: id })} />
          <MemberCard of={of} />
          <RoleCard />
        </Allowed>
        <NewMemberCard of={of} />
        <NewRole />
        <NewWorkspaceCard />
      </div>
    </Page>
  );
}

function useRoles(): string[] {
  const may = useMay();
  const found = useQuery({ queryKey: ["roles"], queryFn: ({ signal }) => read<Roles>("roles", {}, signal), enabled: may("access.read"), refetchInterval: EVERY_MS });
  return found.data?.roles.map(({ name }) => name) ?? ["viewer"];
}

function WorkspaceCard({ of, choose }: { of: string; choose: (id: string) => void }) {
  const found = useQuery({ queryKey: ["workspaces"], queryFn: ({ signal }) => read<Workspaces>("workspaces", {}, signal), refetchInterval: EVERY_MS });
  return (
    <Card title="Workspaces" className="wide">
      <Loaded of={found}>
        {({ workspaces }) => (
          <>
            <Table label="Workspaces" columns={["Workspace", "State", "Zone", "Made", "Changed", ""]}>
              {workspaces.map((each) => <Row key={each.id} workspace={each} isChosen={each.id === of} choose={choose} />)}
            </Table>
            <p className="after actions">
              <button type="button" aria-pressed={of === EVERYWHERE} onClick={() => choose(EVERYWHERE)}>Who has a role in all workspaces</button>
            </p>
          </>
        )}
      </Loaded>
    </Card>
  );
}

function Row({ workspace, isChosen, choose }: { workspace: Workspace; isChosen: boolean; choose: (id: string) => void }) {
  const may = useMay();
  // What is suspended can be resumed: the permission for it stays.
  const refused = lacks(may, "access.write");
  const path = `workspaces/${encodeURIComponent(workspace.id)}`;
  const isOpen = workspace.state === "active";
  return (
    <tr>
      <td>{workspace.name} {workspace.name !== workspace.id && <span className="faint small">{workspace.id}</span>}</td>
      <td><Badge state={isOpen ? "ready" : "paused"}>{workspace.state}</Badge></td>
      <td>{workspace.zone ?? <span className="faint">nowhere in particular</span>}</td>
      <td><Time at={workspace.created_at} /></td>
      <td><Time at={workspace.changed_at} /></td>
      <td>
        <div className="actions" role="group" aria-label={`Workspace ${workspace.id}`}>
          <button type="button" aria-pressed={isChosen} onClick={() => choose(workspace.id)}>Members</button>
          <Act label="Suspend" refused={refused ?? (isOpen ? null : "It is suspended.")} confirm={`Suspend ${workspace.id}? Nothing new is submitted or claimed there until it is resumed; what runs may end.`} run={() => change("PATCH", path, { state: "suspended" })} />
          <Act label="Resume" refused={refused ?? (isOpen ? "It is active." : null)} run={() => change("PATCH", path, { state: "active" })} />
          <Act label="Delete" tone="danger" refused={refused} confirm={`Delete ${workspace.id} for good? Nobody has access to it afterwards, its open work is cancelled, and its id is not free again.`} run={() => change("DELETE", path)} />
        </div>
      </td>
    </tr>
  );
}

function MemberCard({ of }: { of: string }) {
  const may = useMay();
  const path = `workspaces/${encodeURIComponent(of)}/members`;
  const found = useQuery({ queryKey: ["members", of], queryFn: ({ signal }) => read<Members>(path, {}, signal), refetchInterval: EVERY_MS });
  const refused = lacks(may, "access.write");
  return (
    <Card title={of === EVERYWHERE ? "Members of all workspaces" : `Members of ${of}`} className="wide">
      <Loaded of={found}>
        {({ members, total }) =>
          members.length === 0 ? (
            <Empty>Nobody has a role here by name. Keys have theirs of their own.</Empty>
          ) : (
            <>
              <p className="faint tally" role="status">{plural(total, "role")}</p>
              <Table label="Members" columns={["Who", "Role", "Since", "Given by", ""]}>
                {members.slice(0, 500).map(({ subject, role, created_at, created_by }) => (
                  <tr key={`${subject} ${role}`}>
                    <td className="long">{subject}</td>
                    <td>{role}</td>
                    <td><Time at={created_at} /></td>
                    <td>{created_by}</td>
                    <td>
                      <div role="group" aria-label={`${subject} as ${role}`}>
                        <Act label="Take away" tone="danger" refused={refused} confirm={`Take the role ${role} from ${subject}?`} run={() => change("DELETE", withQuery(path, { subject, role }))} />
                      </div>
                    </td>
                  </tr>
                ))}
              </Table>
              {total > 500 && <p className="faint">The first 500 are shown; <code>aragora-cp workspaces members</code> has all.</p>}
            </>
          )
        }
      </Loaded>
    </Card>
  );
}

function NewMemberCard({ of }: { of: string }) {
  const may = useMay();
  const roles = useRoles();
  return (
    <Card title={of === EVERYWHERE ? "Give a role in all workspaces" : `Give a role in ${of}`}>
      <Form label="New member" action="Give it" done="Given." refused={lacks(may, "access.write")} run={(values) => change("PUT", `workspaces/${encodeURIComponent(of)}/members`, { subject: values.subject, role: values.role })}>
        <Field name="subject" label="Who" required maxLength={256} placeholder="user:EMAIL, group:NAME, key:ID or agent:ID" />
        <Select name="role" label="Role" values={roles} />
      </Form>
    </Card>
  );
}

function RoleCard() {
  const may = useMay();
  const found = useQuery({ queryKey: ["roles"], queryFn: ({ signal }) => read<Roles>("roles", {}, signal), refetchInterval: EVERY_MS });
  const refused = lacks(may, "access.write");
  return (
    <Card title="Roles" className="wide">
      <Loaded of={found}>
        {({ roles }) => (
          <ul className="budgets">
            {roles.map((role) => (
              <li key={role.name}>
                <div className="line">
                  <h3>{role.name}</h3>
                  <span className="faint">{role.built_in ? "the same everywhere" : "of this workspace"}, {plural(role.permissions.length, "permission")}</span>
                  <span role="group" aria-label={`Role ${role.name}`}>
                    <Act label="Remove" tone="danger" refused={refused ?? (role.built_in ? "Built-in roles stay." : null)} confirm={`Remove the role ${role.name}?`} run={() => change("DELETE", `roles/${encodeURIComponent(role.name)}`)} />
                  </span>
                </div>
                <details><summary>What it allows</summary><p className="long">{role.permissions.map((each) => each.replace("controlplane:", "")).join(", ") || "nothing"}</p></details>
              </li>
            ))}
          </ul>
        )}
      </Loaded>
    </Card>
  );
}

function NewRole() {
  const may = useMay();
  return (
    <Card title="Define a role">
      <Form
        label="New role"
        action="Define it"
        done="Defined."
        refused={lacks(may, "access.write")}
        run={({ name = "", permissions }) => change("PUT", `roles/${encodeURIComponent(name)}`, { permissions: listed(permissions).map((each) => (each.includes(":") ? each : `controlplane:${each}`)) })}
      >
        <Field name="name" label="Name" required pattern="[a-z][a-z0-9_\-]{0,63}" title="Small letters, digits, - and _" placeholder="releaser" />
        <Area name="permissions" label="Permissions, by commas or lines" placeholder="tasks.read, tasks.write" />
      </Form>
    </Card>
  );
}

function NewWorkspaceCard() {
  const may = useMay();
  return (
    <Card title="New workspace">
      <Form label="New workspace" action="Make it" done="Made." refused={lacks(may, "access.write")} run={(values) => change("POST", "workspaces", filled({ id: values.id, name: values.name, zone: values.zone }))}>
        <Field name="id" label="Id" required maxLength={128} />
        <Field name="name" label="Name for people" maxLength={256} />
        <Field name="zone" label="Resident in the zone (for good)" maxLength={128} />
      </Form>
      <p className="faint after">It takes a role in all workspaces.</p>
    </Card>
  );
}
