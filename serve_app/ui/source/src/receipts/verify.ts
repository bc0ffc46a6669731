/**
 * Whether a receipt is what was signed, each check by its name in docs/receipts.md. It asks no server: WebCrypto hashes and
 * checks the signature in the browser.
 */
import { eventLeaf, summary } from "./content.ts";
import { bytesOf, hexOf, isSignature, rootOfPath, sha256, treeRoot } from "./hashes.ts";
import { canonical, type Fields, isFields, lineOf, Malformed, parse, type Value } from "./json.ts";
import { recompute, type Recomputed } from "./recompute.ts";

export interface Check {
  name: string;
  status: "passed" | "failed" | "not_checked";
  detail: string;
}

export interface Report {
  /** The receipt, or the proof of one event; null if it has the shape of neither. */
  receipt: Fields | null;
  checks: Check[];
  redacted: number[];
  /** Null unless every check passed. */
  recomputed: Recomputed | null;
}

export const MAX_CHARS = 64 * 1024 * 1024;

const TYPES = {
  text: (value: Value | undefined) => typeof value === "string",
  number: (value: Value | undefined) => typeof value === "number",
  whole: (value: Value | undefined) => Number.isSafeInteger(value),
  fields: isFields,
};
type Shape = Record<string, keyof typeof TYPES>;
const HEAD: Shape = {
  schema_version: "text", request_id: "text", contract_hash: "text", tree_size: "whole", root: "text", chain: "text", outcome: "text",
  outcome_hash: "text", ended_at: "number", key_id: "text",
};
const SIGNATURE: Shape = { algorithm: "text", public_key: "text", value: "text" };
const EVENT: Shape = { n: "whole", at: "number", kind: "text", data: "fields" };
const SUMMARY = [
  "schema_version", "receipt_id", "request_id", "timestamp", "input_summary", "input_hash", "verdict", "confidence", "dissenting_views",
  "consensus_proof", "artifact_hash",
];
const NAMES = [...SUMMARY, "head", "signature", "contract", "events"];
const VERSION = "2.0";
const PROOF = ["schema_version", "head", "signature", "event", "path"];
const PROOF_VERSION = "2.0-proof";
const WITHHELD = "the contract is withheld";

class NotAReceipt extends Error {}

/** Verifies the text of a file. `trusted`: public keys in hex; null leaves the check `key` out. Raises nothing. */
export async function verifyText(text: string, trusted: readonly string[] | null): Promise<Report> {
  if (text.length > MAX_CHARS) return unreadable("A receipt has at most 64 MiB.");
  try {
    return await verify(parse(text), trusted);
  } catch (error) {
    if (!(error instanceof Malformed)) return unreadable(String(error));
    const { line, column } = lineOf(text, error.offset);
    return unreadable(`line ${line}, column ${column}: ${error.message}`);
  }
}

function unreadable(detail: string): Report {
  return { receipt: null, checks: [{ name: "format", status: "failed", detail }], redacted: [], recomputed: null };
}

export async function verify(value: Value, trusted: readonly string[] | null): Promise<Report> {
  const isProof = isFields(value) && value.schema_version === PROOF_VERSION;
  try {
    if (isProof) checkProof(value);
    else checkShape(value);
  } catch (error) {
    if (error instanceof NotAReceipt) return unreadable(error.message);
    throw error;
  }
  const receipt = value as Fields;
  const events = isProof ? [receipt.event as Fields] : (receipt.events as Fields[]);
  const leaves = await Promise.all(events.map(eventLeaf));
  const checks: Check[] = [{ name: "format", status: "passed", detail: "" }];
  for (const [name, check] of Object.entries(isProof ? PROOF_CHECKS : CHECKS)) {
    // A check that cannot be made has failed.
    const problem = await check(receipt, leaves).catch((error: unknown) => `it cannot be checked: ${String(error)}`);
    const open = problem === WITHHELD || problem === NO_ED25519;
    checks.push({ name, status: problem === "" ? "passed" : open ? "not_checked" : "failed", detail: problem });
  }
  checks.push(checkKey(receipt, trusted));
  const redacted = events.filter((event) => "redacted" in event || "erased" in event).map((event) => event.n as number);
  const valid = checks.every(({ status }) => status !== "failed");
  return {
    receipt,
    checks,
    redacted: receipt.contract === null ? [0, ...redacted] : redacted,
    recomputed: valid && !isProof ? await recompute(receipt) : null,
  };
}

// --- shape ---------------------------------------------------------------------------------------------------------------

function checkFields(value: Value | undefined, what: string, shape: Shape): asserts value is Fields {
  const names = Object.keys(shape);
  if (!isFields(value) || Object.keys(value).length !== names.length || !names.every((name) => name in value)) {
    throw new NotAReceipt(`${what} must have exactly ${names.join(", ")}`);
  }
  for (const name of names) if (!TYPES[shape[name] as keyof typeof TYPES](value[name])) throw new NotAReceipt(`${what}.${name} has the wrong type`);
}

function checkHex(value: Value | undefined, what: string, size: number): void {
  if (typeof value !== "string" || value.length !== 2 * size || !/^[0-9a-f]*$/.test(value)) {
    throw new NotAReceipt(`${what} must be ${2 * size} lower-case hex digits`);
  }
}

function checkShape(value: Value): void {
  if (!isFields(value) || Object.keys(value).length !== NAMES.length || !NAMES.every((name) => name in value)) {
    if (isFields(value) && isFields(value.head) && !("events" in value)) {
      throw new NotAReceipt("it is the signed head alone, as a role without controlplane:payloads.read gets it");
    }
    throw new NotAReceipt(`a receipt must have exactly ${NAMES.join(", ")}`);
  }
  const { contract, events } = value;
  checkSigned(value, VERSION);
  if (contract !== null && !isFields(contract)) throw new NotAReceipt("contract must be an object, or null where it is withheld");
  if (!Array.isArray(events) || events.length === 0) throw new NotAReceipt("events must be a list that is not empty");
  events.forEach((event, at) => checkEvent(event, `event ${at + 1}`));
}

/** Head and signature, as receipts and proofs have them. */
function checkSigned({ head, signature, schema_version }: Fields, version: string): void {
  checkFields(head, "head", HEAD);
  checkFields(signature, "signature", SIGNATURE);
  for (const name of ["contract_hash", "root", "chain", "outcome_hash"]) checkHex(head[name], `head.${name}`, 32);
  checkHex(signature.public_key, "signature.public_key", 32);
  checkHex(signature.value, "signature.value", 64);
  if (schema_version !== version || head.schema_version !== VERSION) throw new NotAReceipt(`schema_version must be ${version}`);
  if (signature.algorithm !== "Ed25519") throw new NotAReceipt("signature.algorithm must be Ed25519");
}

function checkProof(proof: Fields): void {
  if (Object.keys(proof).length !== PROOF.length || !PROOF.every((name) => name in proof)) throw new NotAReceipt(`a proof must have exactly ${PROOF.join(", ")}`);
  checkSigned(proof, PROOF_VERSION);
  checkEvent(proof.event as Value, "event");
  if (!Array.isArray(proof.path)) throw new NotAReceipt("path must be a list of hashes");
  for (const step of proof.path) checkHex(step, "path", 32);
}

function checkEvent(event: Value, what: string): void {
  if (isFields(event) && "erased" in event) {
    checkFields(event, what, { n: "whole", erased: "text" });
    checkHex(event.erased, `${what}.erased`, 32);
    return;
  }
  const withheld = isFields(event) && "redacted" in event;
  checkFields(event, what, withheld ? { ...EVENT, redacted: "text" } : { ...EVENT, text: "fields", salt: "text" });
  const name = withheld ? "redacted" : "salt";
  checkHex(event[name], `${what}.${name}`, 32);
}

// --- checks: each says what is wrong, or nothing -------------------------------------------------------------------------

const NO_ED25519 = "this browser has no Ed25519; use a newer one, or aragora-cp receipts verify";

const CHECKS: Record<string, (receipt: Fields, leaves: Uint8Array[]) => Promise<string>> = {
  async contract({ contract, head }) {
    if (contract === null) return WITHHELD;
    const same = hexOf(await sha256(canonical(contract as Value))) === (head as Fields).contract_hash;
    return same ? "" : "the contract is not the one that was signed";
  },
  async events({ events, head }, leaves) {
    const size = (head as Fields).tree_size;
    if (leaves.length !== size) return `${leaves.length} events, but ${String(size)} were signed`;
    const wrong = (events as Fields[]).findIndex((event, at) => event.n !== at + 1);
    return wrong < 0 ? "" : `the events are not numbered from 1 without gaps: at ${wrong + 1} stands ${String((events as Fields[])[wrong]?.n)}`;
  },
  async tree({ head }, leaves) {
    return hexOf(await treeRoot(leaves)) === (head as Fields).root ? "" : "an event is not what it was when it was signed";
  },
  async chain({ head }, leaves) {
    let link: Uint8Array = bytesOf((head as Fields).contract_hash as string);
    for (const leaf of leaves) link = await sha256(link, leaf);
    return hexOf(link) === (head as Fields).chain ? "" : "contract and events are not the sequence that was signed";
  },
  async outcome({ events, head: signed }, leaves) {
    const head = signed as Fields;
    const last = (events as Fields[]).at(-1) as Fields;
    if (hexOf(leaves.at(-1) as Uint8Array) !== head.outcome_hash) return "the last event is not the outcome that was signed";
    if ("erased" in last) return "";
    if (last.kind !== "ended") return "the last event is not the outcome that was signed";
    if (last.at !== head.ended_at) return "the time of the end is not the one that was signed";
    return (last.data as Fields).terminal === head.outcome ? "" : "the outcome is not the one that was signed";
  },
  async summary(receipt) {
    const derived = await summary(receipt);
    const wrong = SUMMARY.filter((name) => canonical(derived[name] as Value) !== canonical(receipt[name] as Value));
    return wrong.length ? `${wrong.join(", ")} does not follow from what was signed` : "";
  },
  async signature({ head: signed, signature: given }) {
    const [head, signature] = [signed as Fields, given as Fields];
    const key = signature.public_key as string;
    if (hexOf(await sha256(bytesOf(key))).slice(0, 32) !== head.key_id) return "the key is not the one that the head names";
    const good = await isSignature(key, signature.value as string, canonical(head));
    if (good === null) return NO_ED25519;
    return good ? "" : "the head was not signed by this key, or was changed since";
  },
};

const PROOF_CHECKS: typeof CHECKS = {
  async inclusion({ event, path, head }, leaves) {
    const n = (event as Fields).n as number;
    const steps = (path as string[]).map(bytesOf);
    const root = await rootOfPath(leaves[0] as Uint8Array, n - 1, (head as Fields).tree_size as number, steps);
    return root !== null && hexOf(root) === (head as Fields).root ? "" : `event ${n} is not under the root`;
  },
  signature: CHECKS.signature as (receipt: Fields, leaves: Uint8Array[]) => Promise<string>,
};

function checkKey(receipt: Fields, trusted: readonly string[] | null): Check {
  const { public_key } = receipt.signature as Fields;
  if (trusted === null) return { name: "key", status: "not_checked", detail: "no trusted key was given; the key is the receipt's own" };
  if (trusted.includes(public_key as string)) return { name: "key", status: "passed", detail: "" };
  return { name: "key", status: "failed", detail: `key ${String((receipt.head as Fields).key_id)} is not among the trusted ones` };
}
