/** What is shown is read anew when the stream tells of a change to it. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { live } from "./live.ts";

/** By the first word of an event's type, the queries that it makes stale. */
const KINDS: Record<string, string[]> = {
  workflow: ["workflows", "runs"],
  schedule: ["schedules"],
  policy: ["policies", "violations"],
  budget: ["budgets"],
  quota: ["quotas"],
  notification: ["notifications", "channels", "rules"],
  hook: ["hooks"],
  retention: ["retention"],
  access: ["caller", "workspaces", "members", "roles", "keys"],
};

/** Which of the things that are shown an event is about. */
function touched(type: string, data: Record<string, unknown>): string[][] {
  const of = (name: string) => (typeof data[name] === "string" ? (data[name] as string) : "");
  if (type === "progress_stored") return ((data.task_ids as string[] | undefined) ?? []).map((id) => ["task", id]);
  if (type.startsWith("task_")) return [["tasks"], ["task", of("task_id")], ["numbers"]];
  if (type.startsWith("agent_")) return [["agents"], ["agent", of("agent_id")], ["numbers"]];
  if (type.startsWith("deliberation_")) return [["deliberations"], ["deliberation", of("request_id")], ["deliberation", of("task_id")]];
  return (KINDS[type.split("_")[0] ?? ""] ?? []).map((name) => [name]);
}

/** Reads anew what events were about, each at most once a second. */
export function useLiveQueries(): void {
  const queries = useQueryClient();
  useEffect(() => {
    const stale = new Map<string, string[]>();
    let timer: number | undefined;
    const flush = () => {
      timer = undefined;
      for (const queryKey of stale.values()) void queries.invalidateQueries({ queryKey }, { cancelRefetch: false });
      stale.clear();
    };
    const stop = live.listen((events) => {
      for (const { type, data, seq } of events) {
        if (seq <= live.opened) continue;
        for (const key of touched(type, data)) stale.set(key.join(" "), key);
      }
      if (stale.size) timer ??= window.setTimeout(flush, 750);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [queries]);
}
