"""Which blocked tasks run after which others: the edges that are not settled yet.

Cycles cannot exist, because an edge names a task that existed before. An edge is settled once, by how its task ended. A task
is free when its last edge is settled. It fails as soon as a task ends without a result whose edge says ``fail``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.domain.tasks.rules import Edge, WhenFailed
from cluster.domain.tasks.task import TaskStatus


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a dependent task: ``failed``, or free to run."""

    task_id: str
    failed: bool


class Dependencies:
    """The same edges in both directions: every pair in one map is in the other."""

    def __init__(self) -> None:
        # Blocked task → the tasks that it still waits for, with what to do if one of them ends without a result. ``wait`` adds,
        # ``ended`` removes an edge, ``forget`` a whole task.
        self._edges: dict[str, dict[str, WhenFailed]] = {}
        # Task → the blocked tasks that wait for it (an ordered set, so that they are freed in the order in which they came).
        # No set is empty.
        self._dependents: dict[str, dict[str, None]] = {}

    def wait(self, task_id: str, edges: Sequence[Edge]) -> None:
        """Adds a blocked task with its edges."""
        self._edges[task_id] = {edge.after: edge.when_failed for edge in edges}
        for edge in edges:
            self._dependents.setdefault(edge.after, {})[task_id] = None

    def waits_for(self, task_id: str) -> tuple[str, ...]:
        return tuple(self._edges.get(task_id, ()))

    def has_dependents(self, task_id: str) -> bool:
        return task_id in self._dependents

    def ended(self, after: str, status: TaskStatus) -> list[Settled]:
        """Settles the edges to a task that has ended. Returns the dependents that are free or have failed by it."""
        settled = []
        for task_id in self._dependents.pop(after, ()):
            edges = self._edges[task_id]
            when_failed = edges.pop(after)
            if status is not TaskStatus.COMPLETED and when_failed is WhenFailed.FAIL:
                settled.append(Settled(task_id, failed=True))
            elif not edges:
                settled.append(Settled(task_id, failed=False))
        for dependent in settled:
            self.forget(dependent.task_id)
        return settled

    def forget(self, task_id: str) -> None:
        """Removes a task that is blocked no more, with its edges."""
        for after in self._edges.pop(task_id, ()):
            dependents = self._dependents.get(after)
            if dependents is not None:
                dependents.pop(task_id, None)
                if not dependents:
                    del self._dependents[after]
