/** The weights that a panel had: what a journal's `panel` event holds as its `snapshot`. */
import { fieldsOf, mapOf, numberOf } from "./ballots.ts";
import { hexOf, sha256 } from "./hashes.ts";
import { canonical, type Fields, isFields, type Value } from "./json.ts";
import { exactSum, rounded } from "./numbers.ts";

export interface Snapshot {
  id: string;
  learned: Map<string, number>;
  logOdds: Map<string, number>;
  choice: string;
  ownerCap: number | null;
  calibration: Map<string, (statistic: number) => number>;
  /** Whether it holds weights, or a confidence, of the question's own kind. */
  knows: boolean;
}

const LEAST_SURE = 0.005;

export async function readSnapshot(document: Fields, kind: string | null): Promise<Snapshot> {
  const kinds = isFields(document.kinds) ? document.kinds : null;
  const named = Object.assign(Object.create(null) as Fields, document);
  if (kinds === null) delete named.kinds;
  const gate = fieldsOf(document.gate, "the gate");
  const found: Snapshot = {
    id: hexOf(await sha256(canonical(named))),
    learned: mapOf(document.learned, numberOf, "learned"),
    logOdds: mapOf(document.log_odds, numberOf, "log_odds"),
    choice: String(gate.choice),
    ownerCap: document.owner_cap === null ? null : numberOf(document.owner_cap, "owner_cap"),
    calibration: mapOf(document.calibration, (map) => isotonic(fieldsOf(map, "a calibration")), "calibration"),
    knows: false,
  };
  const own = kind === null || kinds === null ? undefined : fieldsOf(kinds.by_kind, "by_kind")[kind];
  if (kinds === null || !isFields(own)) return found;
  const tilts = isFields(own.tilts) ? own.tilts : (Object.create(null) as Fields);
  for (const [name, map] of Object.entries(fieldsOf(kinds.calibration, "calibration"))) {
    found.calibration.set(name, tilted(isotonic(fieldsOf(map, "a calibration")), tilts[name]));
  }
  return { ...found, knows: true, learned: mapOf(own.learned, numberOf, "learned"), choice: own.earned === true ? "learned" : found.choice };
}

/** A map that never falls: linear between its knots, flat outside. */
function isotonic(map: Fields): (statistic: number) => number {
  const knots = (map.knots as Value[]).map((knot) => numberOf(knot, "a knot"));
  const values = (map.values as Value[]).map((value) => numberOf(value, "a value"));
  const trust = numberOf(map.trust, "trust");
  return (at) => {
    const right = knots.filter((knot) => knot <= at).length;
    let mapped: number;
    if (right === 0) mapped = values[0] as number;
    else if (right === knots.length) mapped = values[values.length - 1] as number;
    else {
      const [x0, x1, y0, y1] = [knots[right - 1], knots[right], values[right - 1], values[right]] as [number, number, number, number];
      mapped = y0 + ((y1 - y0) * (at - x0)) / (x1 - x0);
    }
    return rounded(trust * mapped + (1 - trust) * at, 6);
  };
}

function tilted(map: (statistic: number) => number, tilt: Value | undefined): (statistic: number) => number {
  const slope = isFields(tilt) ? numberOf(tilt.slope, "a slope") : 1;
  const shift = isFields(tilt) ? numberOf(tilt.shift, "a shift") : 0;
  return (at) => {
    const held = Math.min(Math.max(map(at), LEAST_SURE), 1 - LEAST_SURE);
    return rounded(1 / (1 + Math.exp(-(slope * Math.log(held / (1 - held)) + shift))), 6);
  };
}

/** The weights of a panel: an agent without a record has the mean of the others. */
export function panelWeights(known: Map<string, number>, agents: readonly string[], owners: Map<string, string>, cap: number | null): Map<string, number> {
  const mean = known.size ? exactSum(known.values()) / known.size : 1;
  return capOwners(new Map(agents.map((agent) => [agent, known.get(agent) ?? mean])), owners, cap);
}

/** Scales owners down until none holds more than its share of the whole weight; no one, where that cannot be. */
function capOwners(weights: Map<string, number>, owners: Map<string, string>, cap: number | null): Map<string, number> {
  const parts = new Map<string, number[]>();
  const unowned: number[] = [];
  for (const [agent, weight] of weights) {
    const owner = owners.get(agent);
    if (owner !== undefined) parts.set(owner, [...(parts.get(owner) ?? []), weight]);
    else if (weight > 0) unowned.push(weight);
  }
  const held = new Map([...parts].map(([owner, each]) => [owner, exactSum(each)] as const).filter(([, sum]) => sum > 0));
  if (cap === null || (held.size + unowned.length) * cap < 1) return weights;
  const capped = new Set<string>();
  let limit: number;
  for (;;) {
    const free = exactSum([...unowned, ...[...held].filter(([owner]) => !capped.has(owner)).map(([, weight]) => weight)]);
    limit = (cap * free) / (1 - cap * capped.size);
    const over = [...held].filter(([owner, weight]) => !capped.has(owner) && weight > limit * (1 + 1e-12));
    if (over.length === 0) break;
    over.sort(([one, a], [other, b]) => b - a || (one < other ? 1 : -1));
    capped.add((over[0] as [string, number])[0]);
  }
  return new Map(
    [...weights].map(([agent, weight]) => {
      const owner = owners.get(agent);
      return [agent, owner !== undefined && capped.has(owner) ? weight * Math.min(1, limit / (held.get(owner) as number)) : weight];
    }),
  );
}
