/** Forms for one change each. Fields hold their own text; what the server refuses is shown below them, and they keep it. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, type InputHTMLAttributes, type ReactNode, useId, useState } from "react";
import { Problem } from "./parts.tsx";
import type { Values } from "./values.ts";

/** What a form's `run` gives if nothing was changed, so that the form keeps what it has. */
export const KEEP = Symbol("keep");

interface FormProps {
  label: string;
  /** What the button says. */
  action: string;
  run: (values: Values) => Promise<unknown>;
  refused: string | null;
  /** Is said after it was done. */
  done?: string;
  children: ReactNode;
}

export function Form({ label, action, run, refused, done, children }: FormProps) {
  const client = useQueryClient();
  const [round, setRound] = useState(0);
  const reason = useId();
  const change = useMutation({
    mutationFn: run,
    onSuccess: async (given) => {
      // First what is shown, from which the fields take their values anew.
      await client.invalidateQueries();
      if (given !== KEEP) setRound(round + 1);
    },
    onError: () => client.invalidateQueries(),
  });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    if (refused !== null || change.isPending) return;
    const form = new FormData(event.currentTarget);
    change.mutate(Object.fromEntries([...form].map(([name, value]) => [name, name === "secret" ? String(value) : String(value).trim()])));
  };
  return (
    <form key={round} className="form" aria-label={label} onSubmit={submit}>
      {children}
      <div className="full actions">
        <button className="primary" aria-disabled={refused !== null || change.isPending} aria-describedby={refused === null ? undefined : reason}>
          {change.isPending ? `${action}…` : action}
        </button>
        {refused !== null && <span id={reason} className="why">{refused}</span>}
        {change.isSuccess && change.data !== KEEP && done && <span role="status" className="done">{done}</span>}
      </div>
      {change.error && <div className="full"><Problem error={change.error} /></div>}
    </form>
  );
}

interface FieldProps extends InputHTMLAttributes<HTMLInputElement> {
  name: string;
  label: string;
}

export function Field({ label, className, ...rest }: FieldProps) {
  return <label className={className}>{label}<input spellCheck={false} autoComplete="off" {...rest} /></label>;
}

export function Area({ name, label, rows = 3, value = "", placeholder }: { name: string; label: string; rows?: number; value?: string; placeholder?: string }) {
  return <label className="full">{label}<textarea name={name} rows={rows} spellCheck={false} defaultValue={value} placeholder={placeholder} /></label>;
}

export function Select({ name, label, values, value }: { name: string; label: string; values: readonly string[]; value?: string }) {
  return (
    <label>
      {label}
      <select name={name} defaultValue={value}>{values.map((each) => <option key={each} value={each}>{each.replaceAll("_", " ")}</option>)}</select>
    </label>
  );
}
