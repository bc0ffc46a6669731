/** Decides again: runs the aggregation on the signed votes and weights, and compares the result with what the outcome states. */
import { aggregate, type Result } from "./aggregate.ts";
import { readAggregation, Unreadable } from "./ballots.ts";
import { eventData } from "./content.ts";
import { canonical, type Fields, isFields, type Value } from "./json.ts";
import { readSnapshot, type Snapshot } from "./weights.ts";

export interface Recomputed {
  verdict: "equal" | "different" | "not_recomputable";
  reason: string;
  differences: string[];
}

const REQUIRED = ["option", "confidence", "tally", "dissent", "abstained", "cast", "quorum", "tie_path"];

/** Call it only on a receipt that was found valid. Raises nothing: what it cannot read is `not_recomputable`, with the reason. */
export async function recompute(receipt: Fields): Promise<Recomputed> {
  try {
    const events = receipt.events as Fields[];
    const last = events.at(-1) as Fields;
    if ("erased" in last) return not("its votes were erased");
    const ended = eventData(last);
    if (!isFields(ended.aggregation)) {
      return not("its journal records no aggregation: it is from an older version, or no panel was chosen");
    }
    const asked = readAggregation(ended.aggregation);
    const result = await aggregate(asked, await snapshotOf(events, asked.kind));
    const outcome = ended.outcome as Fields;
    const missing = REQUIRED.filter((name) => !(name in outcome));
    if (missing.length) return not(`the outcome does not state ${missing.join(", ")}`);
    const differences = differencesOf(receipt, ended, result);
    return { verdict: differences.length ? "different" : "equal", reason: "", differences };
  } catch (error) {
    return not(error instanceof Unreadable ? `its votes cannot be read: ${error.message}` : `its votes cannot be read: ${String(error)}`);
  }
}

function not(reason: string): Recomputed {
  return { verdict: "not_recomputable", reason, differences: [] };
}

/** The weights as they were when the panel was chosen: the newest `panel` event holds them. */
async function snapshotOf(events: Fields[], kind: string | null): Promise<Snapshot | null> {
  const panel = events.findLast((event) => event.kind === "panel");
  const document = panel && eventData(panel).snapshot;
  return isFields(document) ? readSnapshot(document, kind) : null;
}

function differencesOf(receipt: Fields, ended: Fields, result: Result): string[] {
  const outcome = ended.outcome as Fields;
  const stated: Fields = { ...outcome, dissent: agents(outcome.dissent), abstained: agents(outcome.abstained) };
  const expected: Fields = {
    ...result.document,
    option: result.leader,
    confidence: result.confidence ?? result.share,
    confidence_calibrated: result.confidence !== null,
    dissent: result.dissent,
    abstained: result.abstained,
  };
  const wrong = Object.keys(expected).filter((name) => name in stated && canonical(expected[name] as Value) !== canonical(stated[name] as Value));
  wrong.push(...unsupported(receipt, ended).map((agent) => `ballot of ${agent}`));
  const { outcome: terminal } = receipt.head as Fields;
  const follows = terminal === "DECIDED" ? result.reached : terminal === "NO_CONSENSUS" || terminal === "QUORUM_LOST" ? !result.reached : true;
  return follows ? wrong : ["decision", ...wrong];
}

function agents(entries: Value | undefined): Value[] {
  return (entries as Fields[]).map((entry) => entry.agent as Value);
}

/** Agents whose counted ballot is not journalled as cast by them. An agent whose words are withheld is not accused. */
function unsupported(receipt: Fields, ended: Fields): string[] {
  const counts = ballotEvents(receipt, ended);
  if (counts === null) return [];
  const cast = new Map<string, string[]>();
  const withheld = new Set<string>();
  for (const event of receipt.events as Fields[]) {
    if (event.kind !== "answered" || !counts(event.data as Fields)) continue;
    const { answer } = eventData(event);
    if (!isFields(answer)) continue;
    const agent = (event.data as Fields).agent as string;
    const given = [typeof answer.choice === "string" ? [answer.choice] : [], (answer.ranked ?? []) as Value[]];
    cast.set(agent, [...(cast.get(agent) ?? []), ...given.map(canonical)]);
    if (typeof event.redacted === "string" && !("choice" in answer)) withheld.add(agent);
  }
  const ballots = (ended.aggregation as Fields).ballots as Fields;
  return Object.keys(ballots)
    .filter((agent) => {
      const options = (ballots[agent] as Fields).options as Value[];
      return options.length > 0 && !withheld.has(agent) && !(cast.get(agent) ?? []).includes(canonical(options));
    })
    .sort();
}

/** Which journalled answers are ballots as they were counted; null if what is counted is not an answer itself. */
function ballotEvents(receipt: Fields, ended: Fields): ((data: Fields) => boolean) | null {
  const contract = isFields(receipt.contract) ? receipt.contract : (Object.create(null) as Fields);
  const typed = isFields(contract.answer_type) ? contract.answer_type : (Object.create(null) as Fields);
  const options = contract.options;
  const kind = typed.kind || (Array.isArray(options) && options.length ? "choice" : null);
  if (kind === "text") {
    const isVote = (data: Fields) => data.phase === "VOTE" && data.round === (ended.aggregation_round ?? null);
    const asked = (receipt.events as Fields[]).filter((event) => event.kind === "asked").map((event) => event.data as Fields);
    return asked.some(isVote) ? isVote : null;
  }
  return kind === null || (kind === "number" && typed.tolerance) ? null : () => true;
}
