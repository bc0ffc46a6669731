"""Workspaces that were deleted, and which of their tasks are still to be ended: some at a time, so that claims go on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cluster.domain.tasks.task import TaskHead

#: Tasks of a deleted workspace that are ended at a time, and until the next of them (seconds).
ENDED_AT_ONCE = 500
ENDED_APART_S = 0.05


class WorkspaceEnds:
    """It holds names only; the core ends the tasks."""

    def __init__(self) -> None:
        # Workspace that was deleted → who and what ends its tasks. ``delete`` adds; nothing is removed, because a task may still
        # come that was submitted before every replica knew.
        self._ended_by: dict[str, tuple[str, str]] = {}
        # Workspace → ids of its tasks that are still to be ended. ``put`` and ``comes_late`` add, ``take`` removes.
        self._to_end: dict[str, list[str]] = {}

    def delete(self, workspace: str, principal: str, cause: str) -> None:
        self._ended_by[workspace] = (principal, cause)

    def ended_by(self, workspace: str) -> tuple[str, str]:
        """(principal, cause). Raises: `KeyError` if the workspace was not deleted."""
        return self._ended_by[workspace]

    def workspaces(self) -> Sequence[str]:
        return tuple(self._ended_by)

    def put(self, workspace: str, heads: Iterable[TaskHead]) -> None:
        """Puts all tasks that a workspace still has in line."""
        self._to_end[workspace] = [head.id for head in heads if head.workspace == workspace]

    def comes_late(self, head: TaskHead) -> bool:
        """Whether a new task's workspace was deleted: then it is in line now."""
        if head.workspace not in self._ended_by:
            return False
        self._to_end.setdefault(head.workspace, []).append(head.id)
        return True

    def take(self, workspace: str) -> tuple[list[str], bool]:
        """(ids of the tasks to end next, whether there are more)."""
        left = self._to_end.pop(workspace, [])
        if left[ENDED_AT_ONCE:]:
            self._to_end[workspace] = left[ENDED_AT_ONCE:]
        return left[:ENDED_AT_ONCE], workspace in self._to_end
