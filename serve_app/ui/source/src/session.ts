/**
 * Who uses the page. A login with the provider is a cookie that no script can read. A key that was typed in is kept in
 * `sessionStorage`: it outlives a reload and ends with the tab, while `localStorage` would keep it on disk for whoever comes next.
 */
import { useSyncExternalStore } from "react";

export interface Credentials {
  key: string;
  csrf: string;
  workspace: string;
}

const KEY = "aragora-key";
const WORKSPACE = "aragora-workspace";

let current: Credentials = { key: stored(KEY), csrf: "", workspace: stored(WORKSPACE) };
const listeners = new Set<() => void>();

function stored(name: string): string {
  try {
    return sessionStorage.getItem(name) ?? "";
  } catch {
    return ""; // storage can be off; then a reload asks again
  }
}

function store(name: string, value: string): void {
  try {
    if (value) sessionStorage.setItem(name, value);
    else sessionStorage.removeItem(name);
  } catch {
    // as above
  }
}

export function credentials(): Credentials {
  return current;
}

export function setCredentials(changed: Partial<Credentials>): void {
  const next = { ...current, ...changed };
  if (next.key === current.key && next.csrf === current.csrf && next.workspace === current.workspace) return;
  current = next;
  store(KEY, current.key);
  store(WORKSPACE, current.workspace);
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useCredentials(): Credentials {
  return useSyncExternalStore(subscribe, credentials);
}
