/**
 * Fields for an answer that a JSON Schema describes: one for each property of a simple type, and JSON for what is none. The
 * server checks the answer; here is only what spares people a refusal.
 */
import { choices, named, number, properties, type Schema, text } from "./answers.ts";
import { Area, Field } from "./forms.tsx";
import { words } from "./parts.tsx";

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
