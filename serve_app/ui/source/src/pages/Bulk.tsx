/** What is done to all tasks that a filter finds, after a dry run has said how many those are. */
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { ApiError, change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Act, Card, plural, Problem } from "../parts.tsx";
import type { TaskPage } from "../types.ts";

/** The API takes no more at once, and here no more are cancelled at once. */
const MOST = 1_000;
const PAGE = 200;
const AT_ONCE = 8;

type Query = Record<string, string | string[]>;

/** The buttons of one dry run. `found` null: nothing is counted yet. */
function Counted({ count, refused, found, children }: { count: () => Promise<void>; refused: string | null; found: boolean; children: ReactNode }) {
  const [error, setError] = useState<Error | null>(null);
  const [isCounting, setCounting] = useState(false);
  const start = async () => {
    if (refused !== null || isCounting) return;
    setError(null);
    setCounting(true);
    await count().catch((problem: unknown) => setError(problem as Error));
    setCounting(false);
  };
  return (
    <>
      {error && <Problem error={error} />}
      <div className="actions">
        {found ? children : (
          <button type="button" aria-disabled={refused !== null || isCounting} title={refused ?? undefined} onClick={() => void start()}>{isCounting ? "Counting…" : "Count them"}</button>
        )}
        {refused !== null && <span className="why">{refused}</span>}
      </div>
    </>
  );
}

const NONE = "The filter finds none.";

/** Replays or removes what is in the dead letter. */
export function DeadLetters({ type, queue }: { type: string | null; queue: string | null }) {
  const may = useMay();
  const [found, setFound] = useState<number | null>(null);
  const filter = { ...(type ? { task_type: type } : {}), ...(queue ? { queue } : {}) };
  const isAll = type === null && queue === null;
  const act = async (verb: string) => {
    await change("POST", `dead-letter/${verb}`, { filter, limit: found });
    setFound(null);
  };
  return (
    <Card title="All that the filter finds">
      <p className="faint">Replayed, each is submitted again as a new task, once, however often this is done. At most {MOST.toLocaleString()} at a time.</p>
      <Counted
        refused={lacks(may, "tasks.write")}
        found={found !== null}
        count={async () => setFound((await change<{ would_replay: unknown[] }>("POST", "dead-letter/replay", { filter, dry_run: true })).would_replay.length)}
      >
        {found !== null && (
          <>
            <Act label={`Replay ${plural(found, "task")}`} refused={found === 0 ? NONE : null} tone="primary" confirm={`Submit ${plural(found, "task")} again?`} run={() => act("replay")} />
            <Act
              label={`Remove ${plural(found, "task")} from the dead letter`}
              tone="danger"
              refused={found === 0 ? NONE : isAll ? "Give a type or a queue first: this cannot be undone." : null}
              confirm={`Remove ${plural(found, "task")} from the dead letter? They cannot be replayed afterwards.`}
              run={() => act("purge")}
            />
          </>
        )}
      </Counted>
    </Card>
  );
}

/** Reads the ids of open tasks that a filter finds, the newest first. */
async function openTasks(query: Query): Promise<string[]> {
  const ids: string[] = [];
  for (const status of query.status ? [query.status] : ["pending", "running"]) {
    let cursor: string | undefined;
    do {
      const page: TaskPage = await read<TaskPage>("tasks", { ...query, status, cursor, limit: PAGE });
      ids.push(...page.tasks.map(({ id }) => id));
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined && ids.length < MOST);
  }
  return ids.slice(0, MOST);
}

/** Cancels what waits and runs. What the dry run has found is cancelled, not what has come since. */
export function CancelAll({ query }: { query: Query }) {
  const may = useMay();
  const client = useQueryClient();
  const [found, setFound] = useState<string[] | null>(null);
  const [done, setDone] = useState("");
  const isNarrow = Object.values(query).some((value) => value.length > 0);
  const hasEnded = typeof query.status === "string" && query.status !== "pending" && query.status !== "running";
  const refused =
    lacks(may, "tasks.write") ??
    (hasEnded ? `What is ${query.status} has ended.` : isNarrow ? null : "Give a filter first: nobody means all tasks.");
  const cancel = async () => {
    const left = [...(found ?? [])];
    let [cancelled, over] = [0, 0];
    const work = async () => {
      for (let id = left.pop(); id !== undefined; id = left.pop()) {
        try {
          await change("POST", `tasks/${encodeURIComponent(id)}/cancel`);
          cancelled += 1;
        } catch (error) {
          // It has ended since it was counted. What else is refused would be refused for all.
          if (!(error instanceof ApiError) || (error.status !== 409 && error.status !== 404)) {
            left.length = 0;
            throw error;
          }
          over += 1;
        }
        setDone(`${plural(cancelled, "task")} cancelled${over ? `, ${plural(over, "task")} had ended` : ""}.`);
      }
    };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    } finally {
      setFound(null);
      void client.invalidateQueries({ queryKey: ["tasks"] });
    }
  };
  return (
    <details className="bulk">
      <summary>Cancel all that the filter finds</summary>
      <p className="faint">Waiting tasks end at once; agents are asked to stop running ones. At most {MOST.toLocaleString()} at a time.</p>
      <Counted refused={refused} found={found !== null} count={async () => setFound(await openTasks(query))}>
        {found !== null && (
          <Act label={`Cancel ${plural(found.length, "task")}`} tone="danger" refused={found.length === 0 ? NONE : null} confirm={`Cancel ${plural(found.length, "task")}?`} run={cancel} />
        )}
      </Counted>
      {done && <p role="status" className="done">{done}</p>}
    </details>
  );
}
