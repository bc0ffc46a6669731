/**
 * Fields for an answer that a JSON Schema describes: one for each property of a simple type, and JSON for what is none. The
 * server checks the answer; here is only what spares people a refusal.
 */
import { Area, Field, parsed, type Values } from "./forms.tsx";
import { words } from "./parts.tsx";
import type { Json } from "./types.ts";

type Schema = Record<string, Json>;

const isSchema = (value: Json | undefined): value is Schema => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value: Json | undefined): string | undefined => (typeof value === "string" ? value : undefined);
const number = (value: Json | undefined): number | undefined => (typeof value === "number" ? value : undefined);

/** The values that may be chosen, where that is all a schema says. */
function choices(schema: Schema): Json[] | null {
  if ("const" in schema) return [schema.const as Json];
  if (Array.isArray(schema.enum)) return schema.enum;
  return schema.type === "boolean" ? [true, false] : null;
}

function named(value: Json): string {
  return value === true ? "yes" : value === false ? "no" : typeof value === "string" ? value : JSON.stringify(value);
}

function properties(schema: Schema | null): [string, Schema][] | null {
  if (schema === null || choices(schema) !== null || schema.type !== "object" || !isSchema(schema.properties)) return null;
  const found = Object.entries(schema.properties);
  return found.length > 0 && found.every((each): each is [string, Schema] => isSchema(each[1])) ? found : null;
}

/** `schema` null: any JSON. */
export function SchemaFields({ schema }: { schema: Schema | null }) {
  const several = properties(schema);
  if (several === null) return <One name="answer" label="Answer" schema={schema ?? {}} isRequired />;
  const required = Array.isArray(schema?.required) ? schema.required : [];
  return several.map(([name, part]) => <One key={name} name={`answer.${name}`} label={text(part.title) ?? words(name)} schema={part} isRequired={required.includes(name)} />);
}

function One({ name, label: title, schema, isRequired }: { name: string; label: string; schema: Schema; isRequired: boolean }) {
  const options = choices(schema);
  const label = `${title}${isRequired ? "" : " (may be left out)"}${text(schema.description) ? `: ${text(schema.description)}` : ""}`;
  if (options !== null) {
    const first = schema.default === undefined ? -1 : options.findIndex((each) => JSON.stringify(each) === JSON.stringify(schema.default));
    return (
      <label>
        {label}
        <select name={name} required={isRequired} defaultValue={first < 0 ? "" : String(first)}>
          <option value="">choose</option>
          {options.map((option, at) => <option key={at} value={at}>{named(option)}</option>)}
        </select>
      </label>
    );
  }
  if (schema.type === "integer" || schema.type === "number") {
    return (
      <Field name={name} label={label} type="number" required={isRequired} step={schema.type === "integer" ? 1 : "any"} min={number(schema.minimum)} max={number(schema.maximum)} defaultValue={number(schema.default)} />
    );
  }
  if (schema.type === "string") {
    const type = { date: "date", email: "email", uri: "url" }[text(schema.format) ?? ""] ?? "text";
    return <Field name={name} label={label} type={type} required={isRequired} minLength={number(schema.minLength)} maxLength={number(schema.maxLength)} defaultValue={text(schema.default)} />;
  }
  return <Area name={name} label={`${label} (JSON)`} value={schema.default === undefined ? "" : JSON.stringify(schema.default)} />;
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
