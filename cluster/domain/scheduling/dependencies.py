"""Which waiting tasks run after which others: the edges that are not settled yet.

Cycles cannot exist: an edge names a task that existed before. An edge is settled once, by how its task ended; a task
whose last edge is settled is free, one edge that says ``fail`` and whose task ended without a result is enough to end
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.domain.tasks.rules import Edge, WhenFailed
from cluster.domain.tasks.task import TaskStatus


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a dependent: ``failed`` or free to run."""

    task_id: str
    failed: bool


class Dependencies:
    def __init__(self) -> None:
        self._edges: dict[str, dict[str, WhenFailed]] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def wait(self, task_id: str, edges: Sequence[Edge]) -> None:
        self._edges[task_id] = {edge.after: edge.when_failed for edge in edges}
        for edge in edges:
            self._dependents.setdefault(edge.after, {})[task_id] = None

    def waits_for(self, task_id: str) -> tuple[str, ...]:
        return tuple(self._edges.get(task_id, ()))

    def has_dependents(self, task_id: str) -> bool:
        return task_id in self._dependents

    def ended(self, after: str, status: TaskStatus) -> list[Settled]:
        """Dependents that this settles for good."""
        settled = []
        for task_id in self._dependents.pop(after, ()):
            edges = self._edges[task_id]
            when_failed = edges.pop(after)
            if status is not TaskStatus.COMPLETED and when_failed is WhenFailed.FAIL:
                settled.append(Settled(task_id, failed=True))
            elif not edges:
                settled.append(Settled(task_id, failed=False))
        for one in settled:
            self.forget(one.task_id)
        return settled

    def forget(self, task_id: str) -> None:
        """It waits no more, whatever the reason."""
        for after in self._edges.pop(task_id, ()):
            dependents = self._dependents.get(after)
            if dependents is not None:
                dependents.pop(task_id, None)
                if not dependents:
                    del self._dependents[after]
