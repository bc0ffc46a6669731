/**
 * JSON as receipts have it: read so strictly that no two readers can see two different receipts in a file, and written in the
 * one form that is signed (RFC 8785). `JSON.parse` takes names that occur twice and numbers that no double holds.
 */

export type Value = null | boolean | number | string | Value[] | Fields;
/** Made without a prototype, so that no name in it means anything to the language. */
export interface Fields {
  [name: string]: Value;
}

/** Not JSON of the strict kind. `offset` is where, in UTF-16 code units. */
export class Malformed extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\n\r]*/y;
const DEEPEST = 500;

class Reader {
  private at = 0;
  private readonly text: string;
  /** Is told where each value begins, by its JSON pointer. */
  private readonly note: ((pointer: string, offset: number) => void) | undefined;

  constructor(text: string, note?: (pointer: string, offset: number) => void) {
    this.text = text;
    this.note = note;
  }

  whole(): Value {
    const value = this.value("", 0);
    this.space();
    if (this.at < this.text.length) this.fail("something follows its end");
    return value;
  }

  private fail(message: string, offset = this.at): never {
    throw new Malformed(message, offset);
  }

  private space(): void {
    SPACE.lastIndex = this.at;
    SPACE.test(this.text);
    this.at = SPACE.lastIndex;
  }

  private take(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) return null;
    this.at += found[0].length;
    return found[0];
  }

  private is(mark: string): boolean {
    this.space();
    if (!this.text.startsWith(mark, this.at)) return false;
    this.at += mark.length;
    return true;
  }

  private string(): string | null {
    const start = this.at;
    const found = this.take(STRING);
    if (found === null) return null;
    const text = JSON.parse(found) as string;
    if (!text.isWellFormed()) this.fail("half of a surrogate pair is no character", start);
    return text;
  }

  private value(pointer: string, depth: number): Value {
    this.space();
    if (depth > DEEPEST) this.fail("it is nested too deep");
    const start = this.at;
    this.note?.(pointer, start);
    if (this.is("{")) return this.object(pointer, depth);
    if (this.is("[")) return this.list(pointer, depth);
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const) if (this.is(word)) return value;
    const text = this.string();
    if (text !== null) return text;
    const digits = this.take(NUMBER);
    if (digits === null) this.fail("there is no value here", start);
    const number = Number(digits);
    if (!Number.isFinite(number) || plain(String(number)) !== plain(digits)) this.fail(`the number ${digits} cannot be held by a double`, start);
    return number;
  }

  private object(pointer: string, depth: number): Fields {
    const found = Object.create(null) as Fields;
    if (this.is("}")) return found;
    do {
      this.space();
      const start = this.at;
      const name = this.string();
      if (name === null) this.fail("there is no name here");
      if (name in found) this.fail(`the name ${JSON.stringify(name)} occurs twice in one object`, start);
      if (!this.is(":")) this.fail("a colon is missing here");
      found[name] = this.value(`${pointer}/${step(name)}`, depth + 1);
    } while (this.is(","));
    if (!this.is("}")) this.fail("the object does not end here");
    return found;
  }

  private list(pointer: string, depth: number): Value[] {
    const found: Value[] = [];
    if (this.is("]")) return found;
    do found.push(this.value(`${pointer}/${found.length}`, depth + 1));
    while (this.is(","));
    if (!this.is("]")) this.fail("the list does not end here");
    return found;
  }
}

/** A number's digits without zeros at either end, and its exponent: the same text for the same number. */
function plain(digits: string): string {
  const sign = digits.startsWith("-") ? "-" : "";
  const [mantissa = "", exponent = "0"] = digits.slice(sign.length).toLowerCase().split("e");
  const [whole = "", part = ""] = mantissa.split(".");
  const all = (whole + part).replace(/^0+/, "");
  const kept = all.replace(/0+$/, "");
  return kept === "" ? "0" : `${sign}${kept}e${Number(exponent) - part.length + all.length - kept.length}`;
}

/** A step of a JSON pointer (RFC 6901). */
export function step(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

/** Raises `Malformed`. */
export function parse(text: string): Value {
  return new Reader(text).whole();
}

/** Where in the text the value of a JSON pointer begins: line and column, from 1. Null if there is none. */
export function whereIs(text: string, pointer: string): { line: number; column: number } | null {
  let offset: number | null = null;
  try {
    new Reader(text, (at, start) => {
      if (at === pointer) offset = start;
    }).whole();
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
  }
  return offset === null ? null : lineOf(text, offset);
}

export function lineOf(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  return { line: before.split("\n").length, column: offset - before.lastIndexOf("\n") };
}

export function isFields(value: Value | undefined): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The canonical form. A list of strings sorts by UTF-16 code units, as RFC 8785 has it. */
export function canonical(value: Value): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (isFields(value)) {
    return `{${Object.keys(value).sort().map((name) => `${canonical(name)}:${canonical(value[name] as Value)}`).join(",")}}`;
  }
  if (typeof value === "string" && !value.isWellFormed()) throw new Error("half of a surrogate pair has no canonical form");
  if (typeof value === "number" && !Number.isFinite(value)) throw new Error("a number that is not finite has no canonical form");
  return JSON.stringify(value);
}

export function clone(value: Value): Value {
  if (Array.isArray(value)) return value.map(clone);
  if (!isFields(value)) return value;
  const copy = Object.create(null) as Fields;
  for (const [name, item] of Object.entries(value)) copy[name] = clone(item);
  return copy;
}
