"""Which blocked tasks run after which others: the edges that are not settled yet.

Cycles cannot exist, because an edge names a task that existed before. An edge is settled once, by how its task ended. A task
is free when its last edge is settled. It fails as soon as a task ends without a result whose edge says ``fail``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
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
        # Task id → workspace of tasks that a blocked task names and that were not open when it was added: they have ended, or
        # their rows come later. ``wait`` adds, ``take_unresolved`` empties; the shell asks the store how they ended.
        self._unresolved: dict[str, str] = {}
        # (task id, how it ended, cause) of ended tasks whose dependents have not been settled yet. The cause is passed on to
        # whatever the end brings about. ``ends`` adds, ``next_end`` removes.
        self._ends: deque[tuple[str, TaskStatus, str]] = deque()

    def wait(self, task_id: str, workspace: str, edges: Sequence[Edge], is_open: Container[str]) -> None:
        """Adds a blocked task with its edges. ``is_open`` holds the tasks that are open."""
        self._edges[task_id] = {edge.after: edge.when_failed for edge in edges}
        for edge in edges:
            self._dependents.setdefault(edge.after, {})[task_id] = None
            if edge.after not in is_open:
                self._unresolved[edge.after] = workspace

    def take_unresolved(self, is_open: Container[str]) -> dict[str, list[str]]:
        """Workspace → ids of tasks that blocked tasks wait for and that are not open."""
        unresolved, self._unresolved = self._unresolved, {}
        by_workspace: dict[str, list[str]] = {}
        for task_id, workspace in unresolved.items():
            if task_id not in is_open:
                by_workspace.setdefault(workspace, []).append(task_id)
        return by_workspace

    def ends(self, task_id: str, status: TaskStatus, cause: str) -> None:
        """Puts the end of a task in line, if others wait for it."""
        if task_id in self._dependents:
            self._ends.append((task_id, status, cause))

    def next_end(self) -> tuple[str, TaskStatus, str] | None:
        """The next end whose dependents are to be settled; None if there is none."""
        return self._ends.popleft() if self._ends else None

    def waits_for(self, task_id: str) -> tuple[str, ...]:
        return tuple(self._edges.get(task_id, ()))

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
