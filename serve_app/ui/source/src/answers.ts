/** Of what kinds an answer is that a JSON Schema describes, and the answer that the fields of a form give. */
import type { Json } from "./types.ts";
import { parsed, type Values } from "./values.ts";

export type Schema = Record<string, Json>;

export const isSchema = (value: Json | undefined): value is Schema => typeof value === "object" && value !== null && !Array.isArray(value);
export const text = (value: Json | undefined): string | undefined => (typeof value === "string" ? value : undefined);
export const number = (value: Json | undefined): number | undefined => (typeof value === "number" ? value : undefined);

/** The values that may be chosen, where that is all a schema says. */
export function choices(schema: Schema): Json[] | null {
  if ("const" in schema) return [schema.const as Json];
  if (Array.isArray(schema.enum)) return schema.enum;
  return schema.type === "boolean" ? [true, false] : null;
}

export function named(value: Json): string {
  return value === true ? "yes" : value === false ? "no" : typeof value === "string" ? value : JSON.stringify(value);
}

export function properties(schema: Schema | null): [string, Schema][] | null {
  if (schema === null || choices(schema) !== null || schema.type !== "object" || !isSchema(schema.properties)) return null;
  const found = Object.entries(schema.properties);
  return found.length > 0 && found.every((each): each is [string, Schema] => isSchema(each[1])) ? found : null;
}

function valueOf(schema: Schema, value: string | undefined, what: string): Json | undefined {
  if (value === undefined || value === "") return undefined;
  const options = choices(schema);
  if (options !== null) return options[Number(value)];
  if (schema.type === "integer" || schema.type === "number") return Number(value);
  return schema.type === "string" ? value : (parsed(value, what) as Json);
}

/** The answer that the fields hold; undefined if it is none. Raises an error that names a field that is not JSON. */
export function answerOf(schema: Schema | null, values: Values): Json | undefined {
  const several = properties(schema);
  if (several === null) return valueOf(schema ?? {}, values.answer, "The answer");
  const found: Record<string, Json> = {};
  for (const [name, part] of several) {
    const value = valueOf(part, values[`answer.${name}`], name);
    if (value !== undefined) Object.defineProperty(found, name, { value, enumerable: true });
  }
  return found;
}
