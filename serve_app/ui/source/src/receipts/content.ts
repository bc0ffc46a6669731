/** An event of a receipt: its words put back into its structure, its leaf, and what the unsigned fields say of it. */
import { bytesOf, hexOf, leafHash, sha256 } from "./hashes.ts";
import { canonical, clone, type Fields, isFields, type Value } from "./json.ts";

/** The data as it was journalled; empty if the event was erased. Raises an error if a pointer leads nowhere. */
export function eventData(event: Fields): Fields {
  if ("erased" in event) return Object.create(null) as Fields;
  const whole = clone(event.data as Value) as Fields;
  for (const [pointer, text] of Object.entries(isFields(event.text) ? event.text : {})) {
    const steps = pointer.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = steps.pop();
    let holder: Value = whole;
    for (const step of steps) holder = into(holder, step, pointer);
    if (Array.isArray(holder) && last !== undefined) holder[indexOf(holder, last, pointer)] = text;
    else if (isFields(holder) && last !== undefined) holder[last] = text;
    else throw new Error(`${pointer} leads nowhere`);
  }
  return whole;
}

function into(holder: Value, step: string, pointer: string): Value {
  if (Array.isArray(holder)) return holder[indexOf(holder, step, pointer)] as Value;
  if (isFields(holder) && Object.hasOwn(holder, step)) return holder[step] as Value;
  throw new Error(`${pointer} leads nowhere`);
}

function indexOf(holder: Value[], step: string, pointer: string): number {
  if (!/^[0-9]+$/.test(step) || Number(step) >= holder.length) throw new Error(`${pointer} leads nowhere`);
  return Number(step);
}

export async function eventLeaf(event: Fields): Promise<Uint8Array> {
  if ("erased" in event) return bytesOf(event.erased as string);
  const text =
    typeof event.redacted === "string" ? event.redacted : hexOf(await sha256(bytesOf(event.salt as string), canonical(event.text as Value)));
  return leafHash(canonical({ n: event.n, at: event.at, kind: event.kind, data: event.data, text } as Fields));
}

/** The unsigned fields, as they follow from the signed ones. */
export async function summary(receipt: Fields): Promise<Fields> {
  const head = receipt.head as Fields;
  const contract = receipt.contract as Fields | null;
  const ended = eventData((receipt.events as Fields[]).at(-1) as Fields);
  const outcome = isFields(ended.outcome) ? ended.outcome : (Object.create(null) as Fields);
  const question = contract === null ? null : shown(contract.question ?? "");
  const dissent = (outcome.dissent ?? []) as Fields[];
  const supporters = (outcome.supporters ?? []) as Value[];
  return {
    schema_version: head.schema_version as string,
    receipt_id: `rcpt_${(head.root as string).slice(0, 32)}`,
    request_id: head.request_id as string,
    timestamp: isoTime(head.ended_at as number),
    input_summary: question === null ? null : [...question].slice(0, 200).join(""),
    input_hash: question === null ? null : hexOf(await sha256(question)),
    verdict: head.outcome === "DECIDED" ? "PASS" : supporters.length ? "CONDITIONAL" : "FAIL",
    confidence: outcome.confidence ?? null,
    dissenting_views: dissent.map((view) => `${shown(view.agent as Value)}: ${shown(view.answer === undefined ? "[redacted]" : view.answer)}`),
    consensus_proof: {
      reached: head.outcome === "DECIDED",
      confidence: outcome.confidence ?? null,
      supporting_agents: supporters,
      dissenting_agents: dissent.map((view) => view.agent as Value),
      method: outcome.mode ?? null,
      evidence_hash: head.root as string,
    },
    artifact_hash: hexOf(await sha256(canonical(head))),
  };
}

/** A value as the control plane puts it into a sentence. */
function shown(value: Value): string {
  if (typeof value === "string") return value;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return String(value);
  throw new Error("a list is no answer");
}

/** Microseconds, a half to even; none if there are none. */
function isoTime(at: number): string {
  let whole = Math.floor(at);
  const scaled = (at - whole) * 1e6;
  let micros = Math.floor(scaled);
  const rest = scaled - micros;
  if (rest > 0.5 || (rest === 0.5 && micros % 2 === 1)) micros += 1;
  if (micros === 1_000_000) [whole, micros] = [whole + 1, 0];
  return `${new Date(whole * 1_000).toISOString().slice(0, 19)}${micros ? `.${String(micros).padStart(6, "0")}` : ""}+00:00`;
}
