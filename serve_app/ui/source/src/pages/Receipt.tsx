/** A receipt, verified by the browser: what was fetched with the page, or a file. Nothing of it is sent anywhere. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link } from "wouter";
import { read, readText } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Badge, Card, Empty, Fact, Loaded, Page, plural, Problem, Time, Value } from "../parts.tsx";
import { around, type Difference, differencesBetween } from "../receipts/compare.ts";
import { whyNoCrypto } from "../receipts/hashes.ts";
import { canonical, type Fields, type Value as Json, whereIs } from "../receipts/json.ts";
import { MAX_CHARS, type Report, verifyText } from "../receipts/verify.ts";
import { Table } from "../table.tsx";
import type { ReceiptKeys } from "../types.ts";

const SHOWN = 10;

interface Opened {
  name: string;
  text: string;
}

/** `id` is the deliberation's; without one there is only a file to verify. */
export function ReceiptPage({ id }: { id?: string }) {
  const may = useMay();
  const refused = lacks(may, "deliberations.read") ?? lacks(may, "payloads.read");
  const keys = useQuery({
    queryKey: ["receipt-keys"],
    queryFn: async ({ signal }) => (await read<ReceiptKeys>("receipts/keys", {}, signal)).keys.map((key) => key.public_key),
    staleTime: Infinity,
  });
  const fetched = useQuery({
    queryKey: ["receipt", id],
    queryFn: ({ signal }) => readText(`deliberations/${encodeURIComponent(id ?? "")}/receipt`, {}, signal),
    enabled: id !== undefined && refused === null,
    staleTime: Infinity,
  });
  const [opened, setOpened] = useState<Opened | null>(null);
  const [fault, setFault] = useState<Error | null>(null);
  const [typed, setTyped] = useState("");
  const chosen = typed.toLowerCase().match(/\b[0-9a-f]{64}\b/g);
  const trusted = typed.trim() ? (chosen ?? []) : (keys.data ?? null);
  const why = whyNoCrypto();
  const open = async (file: File | undefined) => {
    if (file === undefined) return;
    setFault(null);
    setOpened(null);
    try {
      if (file.size > MAX_CHARS) throw new Error("A receipt has at most 64 MiB.");
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await file.arrayBuffer());
      setOpened({ name: file.name, text });
    } catch (error) {
      setFault(error instanceof TypeError ? new Error("The file is not UTF-8, so it is no receipt.") : (error as Error));
    }
  };
  const shown = opened ?? (fetched.data === undefined ? null : { name: "", text: fetched.data });
  return (
    <Page
      title="Receipt"
      lead={id === undefined ? "Verified here in the browser: the file is sent nowhere." : <Link className="id" href={`/deliberations/${encodeURIComponent(id)}`}>{id}</Link>}
      actions={opened && fetched.data !== undefined && <button type="button" onClick={() => setOpened(null)}>Back to the control plane's copy</button>}
    >
      <div className="grid">
        <Card title="What is verified">
          <div className="form">
            <label className="full">
              A receipt's file
              <input type="file" accept=".json,application/json" onChange={(event) => void open(event.target.files?.[0])} />
            </label>
            <label className="full">
              Public keys that you trust (hex, or what receipts keys gives)
              <textarea rows={3} spellCheck={false} value={typed} placeholder="empty: the keys that this control plane names" onChange={(event) => setTyped(event.target.value)} />
            </label>
          </div>
          {typed.trim() && chosen === null && <p className="bad" role="alert">There is no key of 64 hex digits in it.</p>}
          {!typed.trim() && (
            <p className="faint">
              Keys that you got from this control plane prove that it signed the receipt. Whoever does not trust it takes a key that was kept elsewhere.
            </p>
          )}
          {id !== undefined && refused !== null && <p className="why">{refused} Receipts of files can be verified.</p>}
          {fault && <Problem error={fault} />}
        </Card>
        {why ? (
          <Card title="Result"><p className="problem" role="alert">{why}</p></Card>
        ) : shown !== null ? (
          <Verified key={`${shown.name} ${String(trusted)}`} opened={shown} trusted={trusted} signed={opened === null ? null : (fetched.data ?? null)} />
        ) : id !== undefined && refused === null ? (
          <Card title="Result"><Loaded of={fetched}>{() => null}</Loaded></Card>
        ) : (
          <Card title="Result"><Empty>Choose a file.</Empty></Card>
        )}
      </div>
    </Page>
  );
}

interface Found {
  report: Report;
  differences: Difference[];
}

/** `signed`: the control plane's copy, with which a file that fails is compared. */
async function look(text: string, trusted: readonly string[] | null, signed: string | null): Promise<Found> {
  const report = await verifyText(text, trusted);
  if (signed === null || report.receipt === null || "event" in report.receipt || report.checks.every(({ status }) => status !== "failed")) return { report, differences: [] };
  const theirs = (await verifyText(signed, null)).receipt;
  return { report, differences: theirs === null || !isSameReceipt(report.receipt, theirs) ? [] : differencesBetween(report.receipt, theirs, SHOWN) };
}

/** Whether the two were one. One that was signed again with another key has other salts, and differs everywhere. */
function isSameReceipt(one: Fields, other: Fields): boolean {
  const [left, right] = [one.head as Fields, other.head as Fields];
  return left.root === right.root || (one.signature as Fields).value === (other.signature as Fields).value || canonical(one.events as Json) === canonical(other.events as Json);
}

function Verified({ opened, trusted, signed }: { opened: Opened; trusted: readonly string[] | null; signed: string | null }) {
  const [found, setFound] = useState<Found | null>(null);
  const [error, setError] = useState<Error | null>(null);
  const names = trusted === null ? null : trusted.join(" ");
  useEffect(() => {
    let isCurrent = true;
    setFound(null);
    look(opened.text, names === null ? null : names.split(" "), signed).then(
      (done) => isCurrent && setFound(done),
      (failure: Error) => isCurrent && setError(failure),
    );
    return () => {
      isCurrent = false;
    };
  }, [opened.text, names, signed]);
  if (error) return <Card title="Result"><Problem error={error} /></Card>;
  if (found === null) return <Card title="Result"><p role="status">Verifying…</p></Card>;
  const { report, differences } = found;
  const failed = report.checks.filter(({ status }) => status === "failed");
  const isOpen = (check: string) => report.checks.some(({ name, status }) => status === "not_checked" && name === check);
  const isChanged = failed.some(({ name }) => name !== "key");
  const different = report.recomputed?.verdict === "different";
  const { receipt } = report;
  const isProof = receipt !== null && "event" in receipt;
  return (
    <>
      <Card title={opened.name || "The control plane's copy"} more={<Badge state={failed.length || different ? "failed" : isOpen("signature") ? "degraded" : "completed"}>{VERDICTS[receipt === null ? "unreadable" : isChanged ? "changed" : failed.length ? "untrusted" : different ? "different" : isOpen("signature") ? "unsigned" : "valid"]}</Badge>}>
        <p role="status">
          {isChanged
            ? `Do not trust it: ${plural(failed.length, "check")} of ${report.checks.length} failed.`
            : different
              ? "It is what was signed, but its decision does not follow from its votes."
              : isOpen("signature")
                ? "Its parts fit together, but nobody's signature was checked."
                : failed.length
                  ? "It is what was signed, but by a key that you do not trust."
                  : isOpen("key")
                    ? "It is what was signed; by whom was not checked."
                    : "It is what was signed."}
        </p>
        <ul className="checks">
          {report.checks.map(({ name, status, detail }) => (
            <li key={name}>
              <Badge state={status === "passed" ? "completed" : status === "failed" ? "failed" : "pending"}>{status.replace("_", " ")}</Badge>
              <strong>{name}</strong> <span className="faint">{detail || MEANINGS[name]}</span>
            </li>
          ))}
          {report.recomputed && (
            <li>
              <Badge state={report.recomputed.verdict === "equal" ? "completed" : different ? "failed" : "pending"}>{report.recomputed.verdict.replaceAll("_", " ")}</Badge>
              <strong>recomputed</strong>{" "}
              <span className="faint">
                {report.recomputed.reason || (different ? `different: ${report.recomputed.differences.join(", ")}` : "the votes, counted again here, give this decision")}
              </span>
            </li>
          )}
        </ul>
      </Card>
      {isChanged && receipt !== null && !isProof && <Changed text={opened.text} differences={differences} isCompared={signed !== null} failed={failed.map(({ name }) => name)} />}
      {receipt !== null && (isProof ? <Card title="The event" className="wide"><Value title={`Event ${String((receipt.event as Fields).n)}`} value={receipt.event} name="event.json" open /></Card> : <Summary receipt={receipt} redacted={report.redacted} />)}
    </>
  );
}

const VERDICTS = {
  unreadable: "Not a receipt",
  changed: "Changed",
  untrusted: "Key not trusted",
  different: "Does not follow",
  unsigned: "Signature not checked",
  valid: "Valid",
};

const MEANINGS: Record<string, string> = {
  format: "it has exactly the fields of a receipt",
  contract: "question, panel and rule are those that were signed",
  events: "as many events as were signed, without gaps",
  inclusion: "the event is under the signed Merkle root",
  tree: "the events lead to the signed Merkle root",
  chain: "contract and events are in the signed sequence",
  outcome: "the last event is the signed outcome",
  summary: "verdict, confidence and dissent follow from what was signed",
  signature: "Ed25519, over exactly this head",
  key: "it is one that you trust",
};

/** Parts that a check vouches for alone, so that it says where the change is without another copy. */
const PARTS: Record<string, string> = { contract: "/contract", outcome: "the last event", summary: "the fields that are not signed", signature: "/head or /signature" };

function Changed({ text, differences, isCompared, failed }: { text: string; differences: Difference[]; isCompared: boolean; failed: string[] }) {
  if (differences.length === 0) {
    const parts = failed.filter((name) => name in PARTS).map((name) => PARTS[name]);
    return (
      <Card title="Where it was changed">
        <p>{parts.length ? `In ${parts.join(", and ")}.` : "In an event."}</p>
        <p className="faint">
          {isCompared ? "It is another receipt than the control plane's copy." : "A hash says that something changed, and not what. Open the file on the page of its deliberation: there it is compared with the control plane's copy."}
        </p>
      </Card>
    );
  }
  return (
    <Card title="Where it was changed" className="wide">
      <p className="faint">Compared with the control plane's copy, which the page had before.{differences.length === SHOWN && ` The first ${SHOWN} differences.`}</p>
      <Table label="Differences" columns={["Place in the document", "In the file", "The file says", "Signed was"]}>
        {differences.map((difference) => (
          <tr key={difference.pointer}>
            <td><code>{difference.pointer || "/"}</code></td>
            <td>{where(text, difference)}</td>
            {sides(difference).map((side, at) => <td className="long" key={at}><code>{side}</code></td>)}
          </tr>
        ))}
      </Table>
    </Card>
  );
}

function where(text: string, { pointer, found, signed }: Difference): string {
  const at = whereIs(text, pointer);
  if (at === null) return "it is missing";
  const character = typeof found === "string" && typeof signed === "string" ? `, character ${around(found, signed).at}` : "";
  return `line ${at.line}, column ${at.column}${character}`;
}

function sides({ found, signed }: Difference): [string, string] {
  if (typeof found === "string" && typeof signed === "string") {
    const parts = around(found, signed);
    return [parts.found, parts.signed];
  }
  return [brief(found), brief(signed)];
}

function brief(value: Json | undefined): string {
  if (value === undefined) return "nothing";
  const text = canonical(value);
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

function Summary({ receipt, redacted }: { receipt: Fields; redacted: number[] }) {
  const head = receipt.head as Fields;
  return (
    <Card title="What it says" className="wide">
      {typeof receipt.input_summary === "string" && <p className="prose">{receipt.input_summary}</p>}
      <dl className="facts">
        <Fact name="Verdict">{String(receipt.verdict)}</Fact>
        <Fact name="Outcome">{String(head.outcome)}</Fact>
        <Fact name="Confidence">{typeof receipt.confidence === "number" ? `${Math.round(receipt.confidence * 100)}%` : "–"}</Fact>
        <Fact name="Ended"><Time at={Number(head.ended_at)} form="full" /></Fact>
        <Fact name="Events">{String(head.tree_size)}</Fact>
        <Fact name="Withheld">{redacted.length ? redacted.map((n) => (n === 0 ? "contract" : `event ${n}`)).join(", ") : "nothing"}</Fact>
        <Fact name="Key"><code>{String(head.key_id)}</code></Fact>
        <Fact name="Root"><code>{String(head.root)}</code></Fact>
      </dl>
    </Card>
  );
}
