/** Who did what: the entries of the workspace's audit, and whether the log is what was sealed. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { read, readText } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Act, Badge, Card, count, Empty, Fact, Loaded, Page, Time, Value } from "../parts.tsx";
import { Allowed, offsetOf, Offsets, Table, useAddress } from "../table.tsx";
import type { Audit, AuditNumbers, AuditVerified } from "../types.ts";

const SIZE = 50;
/** What a call of the verification checks at most. */
const ROWS_A_CALL = 20_000;
/** Names of the address, and what they are called. */
const FILTERS = [
  ["actions", "Action", "task.submitted"],
  ["actor_ids", "Who", "ann@example.com"],
  ["actor_types", "Of the kind", "user, key, system"],
  ["resource_types", "About", "task, policy"],
] as const;

export function AuditPage() {
  return (
    <Page title="Audit" lead="Who did what: each row of the log is an entry, sealed into a chain within seconds.">
      <div className="grid">
        <Allowed permission="audit.read" title="Audit"><Chain /></Allowed>
        <Verify />
        <Allowed permission="audit.read" title="Entries"><Entries /></Allowed>
      </div>
    </Page>
  );
}

function Chain() {
  const numbers = useQuery({ queryKey: ["audit", "numbers"], queryFn: ({ signal }) => read<AuditNumbers>("audit/stats", {}, signal), refetchInterval: 10_000 });
  const [asked] = useAddress();
  const times = { start_time: instant(asked.get("from")), end_time: instant(asked.get("until")) };
  const save = async (format: string, ending: string) => {
    const text = await readText("audit/export", { format, ...times });
    const address = URL.createObjectURL(new Blob([text]));
    const link = document.createElement("a");
    link.href = address;
    link.download = `audit.${ending}`;
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <Card title="Chain">
      <Loaded of={numbers}>
        {(found) => (
          <dl className="facts">
            <Fact name="Entries">{found.total_exact ? count(found.total_entries) : `more than ${count(found.total_entries)}`}</Fact>
            <Fact name="Sealed through row">{count(found.sealed_through)}</Fact>
            <Fact name="Last hash">{found.last_hash ? <code className="id" title={found.last_hash}>{found.last_hash}</code> : "none yet"}</Fact>
          </dl>
        )}
      </Loaded>
      <div className="actions">
        <Act label="Download as JSON" run={() => save("json", "jsonl")} />
        <Act label="Download as CSV" run={() => save("csv", "csv")} />
      </div>
    </Card>
  );
}

/** Goes through the chain, so many rows a call as the server checks. */
function Verify() {
  const may = useMay();
  const [through, setThrough] = useState<number | null>(null);
  const [result, setResult] = useState<AuditVerified | null>(null);
  const run = async () => {
    setResult(null);
    setThrough(0);
    // A call that checked fewer rows has come to the end of the log.
    let start = 0;
    for (;;) {
      const found = await read<AuditVerified>("audit/verify", { start_seq: start });
      setThrough(found.end_seq);
      if (!found.valid || found.end_seq < start + ROWS_A_CALL - 1) {
        setResult(found);
        return;
      }
      start = found.end_seq + 1;
    }
  };
  return (
    <Card title="Is the log what was sealed?" more={result && <Badge state={result.valid ? "completed" : "failed"}>{result.valid ? "It is" : "Changed"}</Badge>}>
      <p className="faint">Order, content and checkpoints of all rows, of all workspaces, are checked by the control plane; no row is shown.</p>
      <div className="stack">
        <Act label="Verify" refused={lacks(may, "audit.verify")} run={run} />
        {through !== null && <p role="status">{result ? `${result.message}${result.first_bad_seq === null ? "" : ` The first bad row is ${result.first_bad_seq}.`}` : `Through row ${count(through)}…`}</p>}
      </div>
    </Card>
  );
}

/** What a field for a local time has, as the API takes times; empty if it is none. */
function instant(local: string | null): string {
  const at = local ? new Date(local) : null;
  return at === null || Number.isNaN(at.getTime()) ? "" : at.toISOString();
}

function Entries() {
  const [asked, set] = useAddress();
  const offset = offsetOf(asked);
  const query = {
    ...Object.fromEntries(FILTERS.map(([name]) => [name, asked.get(name) ?? ""])),
    start_time: instant(asked.get("from")),
    end_time: instant(asked.get("until")),
    limit: SIZE,
    offset,
  };
  const found = useQuery({
    queryKey: ["audit", query],
    queryFn: ({ signal }) => read<Audit>("audit", query, signal),
    placeholderData: (before) => before,
    refetchInterval: 10_000,
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    set(Object.fromEntries([...new FormData(event.currentTarget)].map(([name, value]) => [name, String(value).trim()])));
  };
  return (
    <Card title="Entries" className="wide">
      <form key={asked.toString()} className="filters" role="search" aria-label="Entries" onSubmit={submit}>
        {FILTERS.map(([name, label, hint]) => (
          <label key={name}>{label}<input name={name} defaultValue={asked.get(name) ?? ""} placeholder={hint} spellCheck={false} autoComplete="off" /></label>
        ))}
        <label>From<input name="from" type="datetime-local" defaultValue={asked.get("from") ?? ""} /></label>
        <label>Until<input name="until" type="datetime-local" defaultValue={asked.get("until") ?? ""} /></label>
        <div className="actions"><button className="primary">Show</button></div>
      </form>
      <Loaded of={found}>
        {(page) => (
          <>
            <p className="faint tally" role="status">{page.total_exact ? "" : "more than "}{page.total === 1 ? "1 entry" : `${count(page.total)} entries`}</p>
            {page.entries.length === 0 ? (
              <Empty>None matches.</Empty>
            ) : (
              <Table label="Entries" columns={["When", "Who", "Action", "About", "Outcome", "Row", "Details"]}>
                {page.entries.map((entry) => (
                  <tr key={entry.entry_id}>
                    <td><Time at={entry.timestamp} form="full" /></td>
                    <td>{entry.actor.type}:{entry.actor.id}</td>
                    <td>{entry.action}</td>
                    <td><span className="id" title={entry.resource_id}>{entry.resource_id}</span></td>
                    <td><Badge state={entry.outcome === "success" ? "completed" : "failed"}>{entry.outcome}</Badge> {entry.error_message && <span className="bad">{entry.error_message}</span>}</td>
                    <td>{entry.sequence_number} {entry.entry_hash === null && <span className="faint">not sealed yet</span>}</td>
                    <td className="long"><Value title="Details" value={entry} name={`${entry.entry_id}.json`} /></td>
                  </tr>
                ))}
              </Table>
            )}
            <Offsets offset={offset} size={SIZE} total={page.total} set={set} />
          </>
        )}
      </Loaded>
    </Card>
  );
}
