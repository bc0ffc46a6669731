/** What an outcome's `aggregation` holds, and the three views by which rules read a ballot: top choice, approvals, weak order. */
import type { Fields, Value } from "./json.ts";
import { isFields } from "./json.ts";

export interface Ballot {
  kind: string;
  options: string[];
  scores: Map<string, number>;
  strength: number;
}

export interface Aggregation {
  mode: string;
  denominator: string;
  q: number;
  k: number;
  escalateTo: string;
  tieBreak: string;
  seed: string;
  eligible: string[];
  options: string[];
  asked: number;
  owners: Map<string, string>;
  weights: Map<string, number>;
  minVotes: number;
  quorumRatio: number;
  ballots: Map<string, Ballot>;
  judge: string | null;
  verdicts: string[] | null;
  accepted: Map<string, number>;
  kind: string | null;
  effort: string | null;
}

/** What cannot be read of a receipt's votes. */
export class Unreadable extends Error {}

export function fieldsOf(value: Value | undefined, what: string): Fields {
  if (!isFields(value)) throw new Unreadable(`${what} is no object`);
  return value;
}

function textOf(value: Value | undefined, what: string): string {
  if (typeof value !== "string") throw new Unreadable(`${what} is no text`);
  return value;
}

export function numberOf(value: Value | undefined, what: string): number {
  if (typeof value !== "number") throw new Unreadable(`${what} is no number`);
  return value;
}

function textsOf(value: Value | undefined, what: string): string[] {
  if (!Array.isArray(value)) throw new Unreadable(`${what} is no list`);
  return value.map((item) => textOf(item, what));
}

export function mapOf<T>(value: Value | undefined, read: (value: Value | undefined, what: string) => T, what: string): Map<string, T> {
  return new Map(Object.entries(fieldsOf(value, what)).map(([name, item]) => [name, read(item, what)]));
}

export function readAggregation(document: Fields): Aggregation {
  const rule = fieldsOf(document.rule, "the rule");
  const electorate = fieldsOf(document.electorate, "the electorate");
  const judgement = document.judgement === null || document.judgement === undefined ? null : fieldsOf(document.judgement, "the judgement");
  const eligible = textsOf(electorate.eligible, "the panel");
  const found: Aggregation = {
    mode: textOf(rule.mode, "the mode"),
    denominator: textOf(rule.denominator, "the denominator"),
    q: numberOf(rule.q, "q"),
    k: numberOf(rule.k, "k"),
    escalateTo: textOf(rule.escalate_to, "escalate_to"),
    tieBreak: textOf(rule.tie_break, "tie_break"),
    seed: textOf(rule.seed, "the seed"),
    eligible,
    options: textsOf(electorate.options, "the options"),
    asked: electorate.asked === null || electorate.asked === undefined ? eligible.length : textsOf(electorate.asked, "asked").length,
    owners: mapOf(electorate.owners, textOf, "the owners"),
    weights: mapOf(electorate.weights, numberOf, "the weights"),
    minVotes: numberOf(electorate.min_votes, "min_votes"),
    quorumRatio: numberOf(electorate.quorum_ratio, "quorum_ratio"),
    ballots: mapOf(document.ballots, readBallot, "the ballots"),
    judge: judgement && textOf(judgement.judge, "the judge"),
    verdicts: judgement && textsOf(judgement.verdicts, "the verdicts"),
    accepted: mapOf(document.accepted, numberOf, "accepted"),
    kind: typeof document.kind === "string" ? document.kind : null,
    effort: typeof document.effort === "string" ? document.effort : null,
  };
  const stranger = [...found.ballots.keys()].find((agent) => !eligible.includes(agent));
  if (stranger !== undefined) throw new Unreadable(`${stranger} is not on the panel and cannot vote`);
  if (found.judge !== null && eligible.includes(found.judge)) throw new Unreadable("the judge is a member of the panel");
  return found;
}

const KINDS = ["choice", "approval", "ranking", "scores", "abstain"];

function readBallot(value: Value | undefined): Ballot {
  const ballot = fieldsOf(value, "a ballot");
  const found = {
    kind: textOf(ballot.kind, "the kind of a ballot"),
    options: textsOf(ballot.options, "the options of a ballot"),
    scores: mapOf(ballot.scores, numberOf, "the scores of a ballot"),
    strength: numberOf(ballot.strength, "the strength of a ballot"),
  };
  const { kind, options, scores, strength } = found;
  const fits =
    KINDS.includes(kind) &&
    strength > 0 && strength <= 1 &&
    (kind !== "choice" || options.length === 1) &&
    ((kind !== "approval" && kind !== "ranking") || options.length > 0) &&
    new Set(options).size === options.length &&
    (kind === "scores") === scores.size > 0;
  if (!fits) throw new Unreadable("a ballot is not valid");
  return found;
}

/** The options that a ballot names, in groups of equals, best first. */
export function order({ kind, options, scores }: Ballot): string[][] {
  if (kind === "ranking") return options.map((option) => [option]);
  if (kind === "scores") {
    const levels = [...new Set(scores.values())].sort((one, other) => other - one);
    return levels.map((level) => [...scores].filter(([, score]) => score === level).map(([option]) => option));
  }
  return options.length ? [options] : [];
}

/** The one option that a ballot puts first; null if it puts several first. */
export function top(ballot: Ballot): string | null {
  const [first] = ballot.kind === "choice" ? [ballot.options] : order(ballot);
  return first?.length === 1 ? (first[0] as string) : null;
}

export function approved({ kind, options, scores }: Ballot): string[] {
  if (kind === "scores") return [...scores].filter(([, score]) => score > 0).map(([option]) => option);
  return kind === "ranking" ? options.slice(0, 1) : options;
}

/** Orders texts by code points, as the control plane does; the language itself orders by UTF-16 code units. */
export function byCodePoint(one: string, other: string): number {
  const [left, right] = [[...one], [...other]];
  for (let at = 0; at < Math.min(left.length, right.length); at += 1) {
    const apart = (left[at] as string).codePointAt(0)! - (right[at] as string).codePointAt(0)!;
    if (apart) return apart;
  }
  return left.length - right.length;
}
