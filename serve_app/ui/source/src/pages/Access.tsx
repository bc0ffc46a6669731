/** Keys that act here, and the secrets that agents' endpoints and channels are called with. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Area, Field, Form } from "../forms.tsx";
import { Act, Badge, Card, Empty, Loaded, Page, Time } from "../parts.tsx";
import { Allowed, Table } from "../table.tsx";
import type { ApiKey, Credential, Credentials, Keys, NewKey } from "../types.ts";
import { filled, listed, numbered } from "../values.ts";

const DAY_S = 86_400;

export function AccessPage() {
  const may = useMay();
  const [made, setMade] = useState<NewKey | null>(null);
  return (
    <Page title="Keys and credentials" lead="Keys that act in this workspace, and the secrets that agents' endpoints and channels are called with.">
      <div className="grid">
        {made && (
          <Card title={`The token of ${made.name}`} className="wide">
            <p role="status">{made.token === null ? made.notice : "It is shown here only, and once. Copy it now."}</p>
            {made.token !== null && <pre tabIndex={0}>{made.token}</pre>}
            <div className="actions"><button type="button" onClick={() => setMade(null)}>I have it</button></div>
          </Card>
        )}
        <Allowed permission="access.read" title="API keys"><KeyCard show={setMade} /></Allowed>
        <Card title="New key">
          <Form
            label="New key"
            action="Make a key"
            refused={lacks(may, "access.write")}
            run={async (values) => {
              const days = numbered(values.days);
              setMade(await change<NewKey>("POST", "keys", filled({ name: values.name, grants: listed(values.grants), expires_in_seconds: days === undefined ? undefined : days * DAY_S, agents: listed(values.agents) })));
            }}
          >
            <Field name="name" label="Name" required maxLength={256} />
            <Field name="grants" label="Roles or permissions" required placeholder="viewer" />
            <Field name="days" label="Ends after so many days" type="number" min={1} max={366} defaultValue={90} />
            <Field name="agents" label="Only as these agents" />
          </Form>
        </Card>
        <NewCredential />
        <Allowed permission="credentials.read" title="Credentials"><CredentialCard /></Allowed>
      </div>
    </Page>
  );
}

function KeyCard({ show }: { show: (made: NewKey) => void }) {
  const may = useMay();
  const [cursor, setCursor] = useState<string | null>(null);
  const found = useQuery({ queryKey: ["keys", cursor], queryFn: ({ signal }) => read<Keys>("keys", cursor === null ? {} : { cursor }, signal), refetchInterval: 15_000 });
  const refused = lacks(may, "access.write");
  const why = (key: ApiKey) => refused ?? (key.state === "valid" ? null : `It is ${key.state.replaceAll("_", " ")}.`);
  return (
    <Card title="API keys" className="wide">
      <Loaded of={found}>
        {({ keys }) =>
          keys.length === 0 ? (
            <Empty>There are no {cursor === null ? "keys" : "newer keys"}.</Empty>
          ) : (
            <Table label="API keys" columns={["Name", "State", "May", "In", "Made", "Ends", "Last used", ""]}>
              {keys.map((key) => (
                <tr key={key.id}>
                  <td>{key.name} <span className="faint small">{key.id}</span></td>
                  <td><Badge state={key.state === "valid" ? "completed" : "failed"}>{key.state.replaceAll("_", " ")}</Badge></td>
                  <td className="long">{key.grants.join(", ")}{key.agents && ` as ${key.agents.join(", ")}`}</td>
                  <td>{key.workspaces.join(", ")}</td>
                  <td><Time at={key.created_at} /> <span className="faint">by {key.created_by}</span></td>
                  <td>{key.expires_at === null ? "never" : <Time at={key.expires_at} />}{key.overlap_until !== null && <span className="faint">, the secret of before <Time at={key.overlap_until} /></span>}</td>
                  <td><Time at={key.last_used_at} /></td>
                  <td>
                    <div className="actions" role="group" aria-label={`Key ${key.name}`}>
                      <Act label="Rotate" refused={why(key)} confirm={`Give ${key.name} a new secret? The one of before counts for an hour more.`} run={async () => show(await change<NewKey>("POST", `keys/${encodeURIComponent(key.id)}/rotate`))} />
                      <Act label="Revoke" tone="danger" refused={why(key)} confirm={`Revoke ${key.name} for good?`} run={() => change("DELETE", `keys/${encodeURIComponent(key.id)}`)} />
                    </div>
                  </td>
                </tr>
              ))}
            </Table>
          )
        }
      </Loaded>
      <div className="actions">
        {cursor !== null && <button type="button" onClick={() => setCursor(null)}>Oldest</button>}
        {found.data?.next_cursor && <button type="button" onClick={() => setCursor(found.data.next_cursor)}>Newer</button>}
      </div>
    </Card>
  );
}

function CredentialCard() {
  const found = useQuery({ queryKey: ["credentials"], queryFn: ({ signal }) => read<Credentials>("credentials", {}, signal), refetchInterval: 30_000 });
  return (
    <Card title="Credentials" className="wide">
      <Loaded of={found}>
        {({ credentials }) =>
          credentials.length === 0 ? <Empty>There are no credentials.</Empty> : <ul className="budgets">{credentials.map((credential) => <OneCredential key={credential.name} credential={credential} />)}</ul>
        }
      </Loaded>
    </Card>
  );
}

function OneCredential({ credential }: { credential: Credential }) {
  const may = useMay();
  const refused = lacks(may, "credentials.write");
  const path = `credentials/${encodeURIComponent(credential.name)}`;
  return (
    <li>
      <div className="line">
        <h3>{credential.name}</h3>
        <span className="faint">sent to {credential.origins.join(", ") || "any origin"} · revision {credential.revision}, <Time at={credential.changed_at} /> by {credential.changed_by}</span>
        {credential.overlap_until !== null && <span className="faint">the secret of before ends <Time at={credential.overlap_until} /></span>}
      </div>
      <details>
        <summary>Rotate or delete</summary>
        <Form label={`Rotate ${credential.name}`} action="Rotate" done="Rotated." refused={refused} run={(values) => change("POST", `${path}/rotate`, filled({ secret: values.secret, overlap_seconds: numbered(values.overlap) }))}>
          <Field name="secret" label="New secret" type="password" required />
          <Field name="overlap" label="The one of before counts for seconds" type="number" min={0} defaultValue={3_600} />
        </Form>
        <Act label="Delete" tone="danger" confirm={`Delete ${credential.name} for good? Calls that name it fail from now on.`} refused={refused} run={() => change("DELETE", path)} />
      </details>
    </li>
  );
}

function NewCredential() {
  const may = useMay();
  return (
    <Card title="New credential">
      <Form label="New credential" action="Store" done="Stored, sealed." refused={lacks(may, "credentials.write")} run={(values) => change("POST", "credentials", { name: values.name, secret: values.secret, origins: listed(values.origins) })}>
        <Field name="name" label="Name" required maxLength={128} />
        <Field name="secret" label="Secret" type="password" required />
        <Area name="origins" label="Origins that it may be sent to, one a line" rows={2} placeholder="https://api.example.com" />
      </Form>
    </Card>
  );
}
