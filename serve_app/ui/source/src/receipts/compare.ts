/** Where a receipt differs from the one that was signed. A hash says that something changed and not what, so it takes both. */
import { isFields, step, type Value } from "./json.ts";

export interface Difference {
  /** JSON pointer. */
  pointer: string;
  /** What stands there, and what was signed; undefined where there is nothing. */
  found: Value | undefined;
  signed: Value | undefined;
}

/** The first differences of two values, at most `most`. */
export function differencesBetween(found: Value | undefined, signed: Value | undefined, most: number, pointer = ""): Difference[] {
  if (Array.isArray(found) && Array.isArray(signed)) {
    const size = Math.max(found.length, signed.length);
    return several(Array.from({ length: size }, (_, at) => [String(at), found[at], signed[at]]), most, pointer);
  }
  if (isFields(found) && isFields(signed)) {
    const names = [...new Set([...Object.keys(found), ...Object.keys(signed)])].sort();
    return several(names.map((name) => [name, found[name], signed[name]]), most, pointer);
  }
  return Object.is(found, signed) ? [] : [{ pointer, found, signed }];
}

function several(items: [string, Value | undefined, Value | undefined][], most: number, pointer: string): Difference[] {
  const all: Difference[] = [];
  for (const [name, found, signed] of items) {
    if (all.length >= most) break;
    all.push(...differencesBetween(found, signed, most - all.length, `${pointer}/${step(name)}`));
  }
  return all;
}

/** Of two texts the first character that differs, from 1, and what is around it in each. */
export function around(found: string, signed: string): { at: number; found: string; signed: string } {
  let at = 0;
  while (at < found.length && found[at] === signed[at]) at += 1;
  const part = (text: string) => `${at > 20 ? "…" : ""}${text.slice(Math.max(0, at - 20), at + 21)}${text.length > at + 21 ? "…" : ""}`;
  return { at: at + 1, found: part(found), signed: part(signed) };
}
