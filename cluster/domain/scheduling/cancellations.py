"""Running tasks that their holders are to stop, and who has been told."""

from __future__ import annotations

from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.task import TaskHead


class PendingCancellations:
    def __init__(self) -> None:
        self._stopping: dict[AgentKey, dict[str, None]] = {}
        self._told: set[tuple[str, int]] = set()

    def ask(self, key: AgentKey, task_id: str) -> None:
        self._stopping.setdefault(key, {})[task_id] = None

    def of(self, key: AgentKey) -> tuple[str, ...]:
        """Ids of the tasks that this agent is to stop."""
        return tuple(self._stopping.get(key, ()))

    def is_told(self, head: TaskHead) -> bool:
        return (head.id, head.attempt) in self._told

    def tell(self, head: TaskHead) -> bool:
        """True if its holder had not been told before."""
        if self.is_told(head):
            return False
        self._told.add((head.id, head.attempt))
        return True

    def forget(self, head: TaskHead) -> None:
        """Its lease has ended."""
        self._told.discard((head.id, head.attempt))
        if head.assigned_agent is None:
            return
        key = (head.workspace, head.assigned_agent)
        stopping = self._stopping.get(key)
        if stopping is not None:
            stopping.pop(head.id, None)
            if not stopping:
                del self._stopping[key]
