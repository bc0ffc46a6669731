/** What a form holds, as a call takes it. */

export type Values = Record<string, string>;

/** Names that commas or lines part. */
export function listed(text: string | undefined): string[] {
  return (text ?? "").split(/[,\n]/).map((part) => part.trim()).filter(Boolean);
}

/** Of what a form has, the fields that somebody filled in. */
export function filled(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== "" && value !== undefined && !(Array.isArray(value) && value.length === 0)));
}

export function numbered(text: string | undefined): number | undefined {
  return text === undefined || text === "" ? undefined : Number(text);
}

/** Raises an error that names the field. */
export function parsed(text: string | undefined, what: string): unknown {
  if (text === undefined || text === "") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new Error(`${what} is not JSON.`);
  }
}
