"""Which open tasks are children of which: so that those of a parent that ends without a result end too.

A child outlives a parent that completes: it is a task like any other then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container

from cluster.domain.tasks.task import TaskHead, TaskStatus


class Families:
    """It holds names only; the core ends the tasks."""

    def __init__(self) -> None:
        # Parent → its open children (an ordered set, so that they end in the order in which they came). ``add`` adds, ``leave``
        # removes one, ``ends`` all. No set is empty.
        self._children: dict[str, dict[str, None]] = {}
        # Parent → workspace, of parents that were not open when a child was added: they have ended, or are read later. ``add``
        # adds, ``take_unresolved`` empties; the shell asks the store how they ended.
        self._unresolved: dict[str, str] = {}
        # (child, cause) of children that are still to be ended. ``ends`` adds, ``next_child`` removes.
        self._ending: deque[tuple[str, str]] = deque()

    def add(self, head: TaskHead, is_open: Container[str]) -> None:
        """Adds a task, if it has a parent. ``is_open`` holds the tasks that are open."""
        parent = None if head.rules is None else head.rules.parent
        if parent is not None:
            self._children.setdefault(parent, {})[head.id] = None
            if parent not in is_open:
                self._unresolved[parent] = head.workspace

    def take_unresolved(self, is_open: Container[str]) -> dict[str, str]:
        """Parent → workspace, of those that are not open."""
        unresolved, self._unresolved = self._unresolved, {}
        return {parent: workspace for parent, workspace in unresolved.items() if parent not in is_open}

    def leave(self, head: TaskHead) -> None:
        """Removes a task that has ended from its family."""
        parent = None if head.rules is None else head.rules.parent
        siblings = None if parent is None else self._children.get(parent)
        if parent is not None and siblings is not None:
            siblings.pop(head.id, None)
            if not siblings:
                del self._children[parent]

    def ends(self, parent: str, status: TaskStatus, cause: str) -> None:
        """Puts the open children of a task that has ended in line, unless it has completed."""
        children = self._children.pop(parent, {})
        if status is not TaskStatus.COMPLETED:
            self._ending.extend((child, cause) for child in children)

    def next_child(self) -> tuple[str, str] | None:
        """The next child to be ended, with the cause; None if there is none."""
        return self._ending.popleft() if self._ending else None

    @property
    def has_more(self) -> bool:
        return bool(self._ending)
