"""Running tasks that are being cancelled: which agent has to stop them, and whether it has been told."""

from __future__ import annotations

from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.task import TaskHead


class PendingCancellations:
    """A cancellation is pending from the request until the lease ends. All of it is memory: after a restart the holder is told
    again, which does no harm."""

    def __init__(self) -> None:
        # Agent → ids of the tasks that it has to stop (an ordered set). ``ask`` adds, ``forget`` removes, at the end of the
        # lease. No set is empty, so agents without pending cancellations cost nothing.
        self._stopping: dict[AgentKey, dict[str, None]] = {}
        # (task id, attempt) whose holder was told. ``tell`` adds, ``forget`` removes. It lets the core write one log row for
        # the first telling, while every later answer repeats the request.
        self._told: set[tuple[str, int]] = set()

    def ask(self, key: AgentKey, task_id: str) -> None:
        """Adds a task that an agent has to stop."""
        self._stopping.setdefault(key, {})[task_id] = None

    def of(self, key: AgentKey) -> tuple[str, ...]:
        """Ids of the tasks that an agent has to stop."""
        return tuple(self._stopping.get(key, ()))

    def is_told(self, head: TaskHead) -> bool:
        return (head.id, head.attempt) in self._told

    def tell(self, head: TaskHead) -> bool:
        """Notes that the holder is told. True if it had not been told before."""
        if self.is_told(head):
            return False
        self._told.add((head.id, head.attempt))
        return True

    def forget(self, head: TaskHead) -> None:
        """Removes a task whose lease has ended; ``head`` is the one that still names the holder."""
        self._told.discard((head.id, head.attempt))
        if head.assigned_agent is None:
            return
        key = (head.workspace, head.assigned_agent)
        stopping = self._stopping.get(key)
        if stopping is not None:
            stopping.pop(head.id, None)
            if not stopping:
                del self._stopping[key]
