"""What the scheduler promises, written as simply as possible: every task in one list, every claim a sort over it.

It knows nothing of lanes, heaps, timers or leases, and is slow on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.domain.scheduling.ready_queue import AGEING_S
from cluster.domain.scheduling.sub_queues import LEVELS
from cluster.domain.tasks.rules import WhenFailed
from cluster.domain.tasks.task import TaskHead


@dataclass
class ModelTask:
    head: TaskHead
    state: str = "pending"  # pending | running | done | failed | cancelled
    agent: str | None = None
    attempt: int = 0
    retries: int = 0
    run_at: float = 0.0
    waits_for: dict[str, WhenFailed] = field(default_factory=dict)
    ready: bool = False

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class Model:
    """Names of tenants and queues are those of one workspace."""

    def __init__(self) -> None:
        self.tasks: dict[str, ModelTask] = {}
        self.paused: set[tuple[str, str]] = set()
        self.weights: dict[str, float] = {}
        self.tags: dict[str, float] = {}
        self.virtual = 0.0

    # --- what happens --------------------------------------------------------------------------------------------

    def submit(self, head: TaskHead, now: float) -> None:
        task = self.tasks[head.id] = ModelTask(head=head, run_at=head.run_at)
        for edge in head.rules.after if head.rules is not None else ():
            task.waits_for[edge.after] = edge.when_failed
        for after in list(task.waits_for):
            if self.tasks[after].over:
                self._settle(task, after, now)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Tasks whose time has come stand in line, in the order of their times."""
        waiting = [t for t in self.tasks.values() if t.state == "pending" and not t.waits_for and not t.ready]
        for task in sorted(waiting, key=lambda t: t.run_at):
            if task.run_at <= now:
                self._stand_in_line(task)

    def claim(
        self,
        agent: str,
        capabilities: frozenset[str],
        now: float,
        task_types: frozenset[str] | None = None,
        queues: frozenset[str] | None = None,
        version: str | None = None,
    ) -> str | None:
        able = [t for t in self.tasks.values() if t.ready and self._may(t, agent, capabilities)]
        able = [t for t in able if task_types is None or t.head.task_type in task_types]
        able = [t for t in able if queues is None or t.head.queue in queues]
        able = [t for t in able if t.head.rules is None or t.head.rules.worker_version is None or version == "2"]
        if not able:
            return None
        chosen = min(able, key=lambda t: (-self._level(t, now), self.tags[t.head.tenant], t.head.created_at, t.head.id))
        chosen.ready = False
        tenant = chosen.head.tenant
        self.virtual = max(self.virtual, self.tags[tenant])
        self.tags[tenant] += 1.0 / self.weights.get(tenant, 1.0)
        chosen.state, chosen.agent, chosen.attempt = "running", agent, chosen.attempt + 1
        return chosen.head.id

    def complete(self, task_id: str, now: float) -> None:
        self._end(self.tasks[task_id], "done", now)

    def cancel_waiting(self, task_id: str, now: float) -> None:
        self._end(self.tasks[task_id], "cancelled", now)

    def stop(self, task_id: str, now: float) -> None:
        self._end(self.tasks[task_id], "cancelled", now)

    def lose(self, task_id: str, now: float, *, back_at: float | None = None) -> None:
        """An attempt ended badly; ``back_at`` None: at once, at its old place."""
        task = self.tasks[task_id]
        if task.retries >= task.head.max_retries:
            self._end(task, "failed", now)
            return
        task.retries += 1
        task.state, task.agent = "pending", None
        if back_at is not None:
            task.run_at = back_at
        self.advance(now)

    def restart(self, now: float) -> None:
        """A shard that was killed forgets whose turn it is, and nothing else."""
        self.tags, self.virtual = {}, 0.0
        for task in self.tasks.values():
            task.ready = False
        for task in sorted(self.tasks.values(), key=lambda t: (t.head.created_at, t.head.id)):
            if task.state == "pending" and not task.waits_for and task.run_at <= now:
                self._stand_in_line(task)

    # --- what is asked -------------------------------------------------------------------------------------------

    def running(self, agent: str | None = None) -> list[str]:
        return [i for i, t in self.tasks.items() if t.state == "running" and agent in (None, t.agent)]

    def slots(self, key: str) -> int:
        return sum(
            t.state == "running" and t.head.rules is not None and t.head.rules.concurrency_key == key
            for t in self.tasks.values()
        )

    def _may(self, task: ModelTask, agent: str, capabilities: frozenset[str]) -> bool:
        head, rules = task.head, task.head.rules
        names = {("queue", head.queue), ("task_type", head.task_type), ("tenant", head.tenant)}
        if not head.required <= capabilities or head.target_agent not in (None, agent) or names & self.paused:
            return False
        if rules is None:
            return True
        full = rules.concurrency_key is not None and self.slots(rules.concurrency_key) >= rules.concurrency_limit
        return agent not in rules.excluded_agents and not full

    def _level(self, task: ModelTask, now: float) -> int:
        since = max(task.head.created_at, task.run_at)
        return min(len(LEVELS) - 1, LEVELS.index(task.head.priority) + int((now - since) / AGEING_S))

    def _stand_in_line(self, task: ModelTask) -> None:
        tenant = task.head.tenant
        if not any(t.ready for t in self.tasks.values()):
            self.virtual = max(self.tags.values(), default=0.0)
        if not any(t.ready and t.head.tenant == tenant for t in self.tasks.values()):
            self.tags[tenant] = max(self.tags.get(tenant, 0.0), self.virtual)
        task.ready = True

    def _end(self, task: ModelTask, state: str, now: float) -> None:
        task.state, task.ready, task.waits_for = state, False, {}
        for other in list(self.tasks.values()):
            if task.head.id in other.waits_for:
                self._settle(other, task.head.id, now)
        self.advance(now)

    def _settle(self, task: ModelTask, after: str, now: float) -> None:
        if task.over:
            return
        when_failed = task.waits_for.pop(after)
        if self.tasks[after].state != "done" and when_failed is WhenFailed.FAIL:
            self._end(task, "failed", now)
        elif not task.waits_for:
            task.run_at = max(task.run_at, now)
