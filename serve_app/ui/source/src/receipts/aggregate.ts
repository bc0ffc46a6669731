/**
 * From ballots to a decision, as the control plane computes it (`cluster/domain/consensus/aggregate.py`): the same input gives
 * the same result to the last bit. A test draws receipts of every rule and compares the two.
 */
import { type Aggregation, approved, type Ballot, byCodePoint, order, top } from "./ballots.ts";
import { hexOf, sha256 } from "./hashes.ts";
import { canonical, type Fields, type Value } from "./json.ts";
import { exactSum, rounded } from "./numbers.ts";
import { panelWeights, type Snapshot } from "./weights.ts";

const EPSILON = 1e-9;
const SCORED = ["weighted", "learned"];

export interface Result {
  reached: boolean;
  leader: string | null;
  confidence: number | null;
  share: number;
  dissent: string[];
  abstained: string[];
  /** The fields that an outcome may state, as JSON. */
  document: Fields;
}

interface Count {
  tally: Map<string, number>;
  whole: number;
  needed: number;
  pairwise: Map<string, Map<string, number>> | null;
  refusal: string;
}

type Weights = Map<string, number>;

export async function aggregate(asked: Aggregation, snapshot: Snapshot | null): Promise<Result> {
  const applied = appliedMode(asked, snapshot);
  const counted = count(asked, applied, snapshot);
  const { tally, whole } = counted;
  const leaders = leadersOf(tally);
  const [winner, tiePath] = await breakTie(leaders, asked, applied, snapshot);
  const reason = whyNot(asked, applied, counted, winner);
  const voting = votingWeights(asked);
  const all = wholeOf(asked, voting);
  const share = all ? (tops(asked, voting).get(winner ?? "") ?? 0) / all : 0;
  const [first, second] = topTwo(tally, winner);
  const confidence = confidenceOf(asked, winner, share, snapshot, applied);
  const cast = castOf(asked);
  const dissent = [...cast].filter(([, ballot]) => {
    const named = applied === "approval" ? approved(ballot) : (order(ballot)[0] ?? []);
    return winner === null || !named.includes(winner);
  });
  const abstained = asked.eligible.filter((agent) => !cast.has(agent));
  return {
    reached: reason === "",
    leader: winner,
    confidence,
    share,
    dissent: dissent.map(([agent]) => agent),
    abstained,
    document: {
      applied,
      reached: reason === "",
      decision: reason === "" ? winner : null,
      leader: winner,
      tally: fields(tally),
      denominator: asked.denominator,
      denominator_value: whole,
      support: whole ? first / whole : 0,
      margin: whole ? (first - second) / whole : 0,
      uncalibrated_share: share,
      eligible: asked.eligible.length,
      cast: cast.size,
      quorum: quorumOf(asked),
      tied: leaders.length > 1 ? leaders : [],
      tie_path: tiePath,
      pairwise: counted.pairwise && fields(new Map([...counted.pairwise].map(([option, row]) => [option, fields(row)]))),
      snapshot_id: snapshot && snapshot.id,
      kind: snapshot?.knows ? asked.kind : null,
    },
  };
}

function fields<T extends Value>(map: Map<string, T>): Fields {
  const found = Object.create(null) as Fields;
  for (const [name, value] of map) found[name] = value;
  return found;
}

function appliedMode(asked: Aggregation, snapshot: Snapshot | null): string {
  let { mode } = asked;
  if (mode === "agree_k") {
    const named = [...castOf(asked).values()].map(top);
    if (named.length >= asked.k && !named.includes(null) && new Set(named).size === 1) return "agree_k";
    mode = asked.escalateTo;
  }
  if (mode === "learned") return snapshot === null ? "plurality" : snapshot.choice;
  return mode === "weighted" && snapshot === null ? "plurality" : mode;
}

function castOf(asked: Aggregation): Map<string, Ballot> {
  const cast = new Map<string, Ballot>();
  for (const agent of asked.eligible) {
    const ballot = asked.ballots.get(agent);
    if (ballot !== undefined && ballot.kind !== "abstain") cast.set(agent, ballot);
  }
  return cast;
}

function quorumOf(asked: Aggregation): number {
  const byRatio = Math.ceil(asked.quorumRatio * asked.asked - 1e-9);
  return asked.asked ? Math.min(asked.asked, Math.max(asked.minVotes, byRatio)) : asked.minVotes;
}

// --- counting ------------------------------------------------------------------------------------------------------------

function sumByOption(terms: Iterable<readonly [string, number]>): Map<string, number> {
  const votes = new Map<string, number[]>();
  for (const [option, weight] of terms) votes.set(option, [...(votes.get(option) ?? []), weight]);
  return new Map([...votes].map(([option, parts]) => [option, exactSum(parts)]));
}

function tops(asked: Aggregation, weights: Weights): Map<string, number> {
  return sumByOption(
    [...castOf(asked)].flatMap(([agent, ballot]) => {
      const option = top(ballot);
      return option === null ? [] : [[option, (weights.get(agent) as number) * ballot.strength] as const];
    }),
  );
}

function votingWeights(asked: Aggregation): Weights {
  return new Map(asked.eligible.map((agent) => [agent, asked.weights.get(agent) ?? 1]));
}

function modelWeights(asked: Aggregation, model: string, snapshot: Snapshot): Weights {
  return panelWeights(model === "weighted" ? snapshot.logOdds : snapshot.learned, asked.eligible, asked.owners, snapshot.ownerCap);
}

function wholeOf(asked: Aggregation, weights: Weights): number {
  const counted = asked.denominator === "eligible" ? asked.eligible : [...castOf(asked).keys()];
  return exactSum(counted.map((agent) => weights.get(agent) as number));
}

function count(asked: Aggregation, applied: string, snapshot: Snapshot | null): Count {
  if (applied === "borda" || applied === "schulze") return countRanked(asked, applied);
  const scored = SCORED.includes(applied) && snapshot !== null;
  const weights = scored ? modelWeights(asked, applied, snapshot) : votingWeights(asked);
  const whole = wholeOf(asked, weights);
  const found: Count = { tally: new Map(), whole, needed: 0, pairwise: null, refusal: "" };
  if (applied === "approval") {
    const given = [...castOf(asked)].flatMap(([agent, ballot]) =>
      approved(ballot).map((option) => [option, (weights.get(agent) as number) * ballot.strength] as const),
    );
    return { ...found, tally: sumByOption(given) };
  }
  found.tally = tops(asked, weights);
  if (applied === "majority") found.needed = whole / 2 + 2 * EPSILON;
  if (applied === "supermajority") found.needed = whole * asked.q;
  if (applied === "unanimous") found.needed = whole;
  if (applied === "none") found.refusal = "mode_none";
  if (applied === "judge") found.refusal = judged(asked, found.tally);
  return found;
}

function judged(asked: Aggregation, tally: Map<string, number>): string {
  if (asked.verdicts === null) return "no_judgement";
  if (new Set(asked.verdicts).size !== 1) return "judge_inconsistent";
  return tally.has(asked.verdicts[0] as string) ? "" : "judged_no_candidate";
}

function countRanked(asked: Aggregation, applied: string): Count {
  const weights = votingWeights(asked);
  const cast = [...castOf(asked)].map(([agent, ballot]) => [ballot, (weights.get(agent) as number) * ballot.strength] as const);
  const options = [...new Set([...asked.options, ...cast.flatMap(([ballot]) => order(ballot).flat())])].sort(byCodePoint);
  const ranks = cast.map(([ballot, weight]) => [rankOf(ballot, options), weight] as const);
  const pairwise = new Map(
    options.map((a) => [
      a,
      new Map(options.filter((b) => b !== a).map((b) => [b, exactSum(ranks.filter(([rank]) => rank(a) < rank(b)).map(([, weight]) => weight))])),
    ]),
  );
  const beaten = Math.max(1, options.length - 1);
  if (applied === "schulze") {
    return { tally: cast.length ? schulzeWins(pairwise) : new Map(), whole: beaten, needed: 0, pairwise, refusal: "" };
  }
  const points = new Map(
    options.map((option) => [
      option,
      exactSum(
        ranks.map(([rank, weight]) => {
          const below = options.filter((other) => rank(other) > rank(option)).length;
          const equal = options.filter((other) => rank(other) === rank(option)).length - 1;
          return weight * (below + equal / 2);
        }),
      ),
    ]),
  );
  return { tally: cast.length ? points : new Map(), whole: wholeOf(asked, weights) * beaten, needed: 0, pairwise, refusal: "" };
}

/** Option to the rank of its group, 0 is best; options that the ballot leaves out share the last rank. */
function rankOf(ballot: Ballot, options: readonly string[]): (option: string) => number {
  const groups = order(ballot);
  const ranks = new Map(groups.flatMap((group, depth) => group.map((option) => [option, depth] as const)));
  return (option) => (options.includes(option) ? (ranks.get(option) ?? groups.length) : groups.length);
}

/** Against how many others an option is at least as strong as they are against it (Schulze 2011). */
function schulzeWins(pairwise: Map<string, Map<string, number>>): Map<string, number> {
  const options = [...pairwise.keys()];
  const won = (a: string, b: string) => (pairwise.get(a) as Map<string, number>).get(b) as number;
  const strength = new Map(options.map((a) => [a, new Map(options.filter((b) => b !== a).map((b) => [b, won(a, b) > won(b, a) ? won(a, b) : 0]))]));
  const path = (a: string, b: string) => (strength.get(a) as Map<string, number>).get(b) as number;
  for (const via of options) {
    for (const a of options) {
      if (a === via) continue;
      for (const b of options) {
        if (b !== a && b !== via) (strength.get(a) as Map<string, number>).set(b, Math.max(path(a, b), Math.min(path(a, via), path(via, b))));
      }
    }
  }
  return new Map(options.map((a) => [a, options.filter((b) => b !== a && path(a, b) >= path(b, a)).length]));
}

// --- ties, thresholds, confidence ----------------------------------------------------------------------------------------

function leadersOf(tally: Map<string, number>): string[] {
  const highest = tally.size ? Math.max(...tally.values()) : 0;
  return [...tally].filter(([, value]) => value >= highest - EPSILON).map(([option]) => option).sort(byCodePoint);
}

async function breakTie(leaders: string[], asked: Aggregation, applied: string, snapshot: Snapshot | null): Promise<[string | null, string[]]> {
  if (applied === "judge" && asked.verdicts !== null && new Set(asked.verdicts).size === 1) {
    return [asked.verdicts[0] as string, leaders.length > 1 ? ["judge"] : []];
  }
  if (leaders.length < 2) return [leaders[0] ?? null, []];
  const path: string[] = [];
  let left = leaders;
  if (snapshot !== null && !SCORED.includes(applied)) {
    const model = snapshot.choice === "learned" ? "learned" : "weighted";
    left = best(left, tops(asked, modelWeights(asked, model, snapshot)));
    path.push(`${model}_score`);
  }
  if (left.length > 1 && asked.accepted.size) {
    left = best(left, asked.accepted);
    path.push("accepted_rationales");
  }
  if (left.length === 1) return [left[0] as string, path];
  path.push(asked.tieBreak);
  if (asked.tieBreak === "alpha") return [left[0] as string, path];
  if (asked.tieBreak !== "seeded") return [null, path];
  const digest = hexOf(await sha256(canonical({ seed: asked.seed, options: left })));
  return [left[Number(BigInt(`0x${digest}`) % BigInt(left.length))] as string, path];
}

function best(options: string[], scores: Map<string, number>): string[] {
  const highest = Math.max(...options.map((option) => scores.get(option) ?? 0));
  return options.filter((option) => (scores.get(option) ?? 0) >= highest - EPSILON);
}

function whyNot(asked: Aggregation, applied: string, counted: Count, winner: string | null): string {
  const cast = castOf(asked).size;
  if (cast === 0) return "no_votes";
  if (cast < quorumOf(asked)) return "quorum";
  if (counted.refusal) return counted.refusal;
  if (winner === null) return leadersOf(counted.tally).length ? "tie" : "no_votes";
  return applied !== "judge" && (counted.tally.get(winner) as number) < counted.needed - EPSILON ? "threshold" : "";
}

function topTwo(tally: Map<string, number>, winner: string | null): [number, number] {
  if (tally.size === 0) return [0, 0];
  const first = winner !== null && tally.has(winner) ? winner : ([...tally].sort(([, a], [, b]) => b - a)[0] as [string, number])[0];
  const others = [...tally].filter(([option]) => option !== first).map(([, value]) => value);
  return [tally.get(first) as number, others.length ? Math.max(...others) : 0];
}

/** The map for answers of as many as were asked for; snapshots of earlier releases have none by effort. */
function ofFew(asked: Aggregation, snapshot: Snapshot): string {
  return asked.effort !== null && snapshot.calibration.has(asked.effort) ? asked.effort : "agree_k";
}

function confidenceOf(asked: Aggregation, winner: string | null, share: number, snapshot: Snapshot | null, applied: string): number | null {
  if (snapshot === null || winner === null || ["borda", "schulze", "approval", "judge", "none"].includes(applied)) return null;
  const modelled = asked.mode === "agree_k" || SCORED.includes(applied);
  const calibration = snapshot.calibration.get(asked.mode === "agree_k" ? ofFew(asked, snapshot) : modelled ? applied : "share");
  if (calibration === undefined) return null;
  if (!modelled) return calibration(rounded(share, 9));
  const scores = tops(asked, modelWeights(asked, "learned", snapshot));
  for (const option of [...asked.options, winner]) if (!scores.has(option)) scores.set(option, 0);
  const highest = Math.max(...scores.values());
  const total = exactSum([...scores.values()].map((score) => Math.exp(score - highest)));
  return calibration(rounded(Math.exp((scores.get(winner) as number) - highest) / total, 9));
}
