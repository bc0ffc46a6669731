/** Tables, pages of lists and what a role may not read: the same on every page that lists something. */
import type { ReactNode } from "react";
import { useLocation, useSearch } from "wouter";
import { lacks, useMay } from "./caller.ts";
import { Card } from "./parts.tsx";

export function Table({ label, columns, children }: { label: string; columns: readonly string[]; children: ReactNode }) {
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={label}>
      <table>
        <thead>
          <tr>{columns.map((column) => <th scope="col" key={column}>{column || <span className="hidden">Actions</span>}</th>)}</tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

/** The address's query, and a way to change some of its names; that begins at the first page again. */
export function useAddress(): [URLSearchParams, (changes: Record<string, string>) => void] {
  const [path, go] = useLocation();
  const search = useSearch();
  const set = (changes: Record<string, string>) => {
    const next = new URLSearchParams(search);
    for (const name of ["offset", "cursor"]) next.delete(name);
    for (const [name, value] of Object.entries(changes)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    const text = next.toString();
    go(text ? `${path}?${text}` : path);
  };
  return [new URLSearchParams(search), set];
}

/** Buttons to the pages of a list that is read by offset. */
export function Offsets({ offset, size, total, set }: { offset: number; size: number; total: number; set: (changes: Record<string, string>) => void }) {
  return (
    <nav className="pages" aria-label="Pages of the list">
      {offset > 0 && <button type="button" onClick={() => set({ offset: offset > size ? String(offset - size) : "" })}>Newer</button>}
      {offset + size < total && <button type="button" onClick={() => set({ offset: String(offset + size) })}>Older</button>}
    </nav>
  );
}

/** The offset that an address names: 0 if it names none. */
export function offsetOf(asked: URLSearchParams): number {
  const offset = Number(asked.get("offset") ?? 0);
  return Number.isSafeInteger(offset) && offset > 0 ? offset : 0;
}

export function Choice({ label, value, values, set, all = "all" }: { label: string; value: string; values: readonly string[]; set: (value: string) => void; all?: string }) {
  return (
    <label>
      {label}
      <select value={value} onChange={(event) => set(event.target.value)}>
        <option value="">{all}</option>
        {values.map((each) => <option key={each} value={each}>{each.replaceAll("_", " ")}</option>)}
      </select>
    </label>
  );
}

/** What only a permission shows; without it the reason. */
export function Allowed({ permission, title, children }: { permission: string; title: string; children: ReactNode }) {
  const refused = lacks(useMay(), permission);
  return refused === null ? children : <Card title={title} className="wide"><p className="why">{refused}</p></Card>;
}
