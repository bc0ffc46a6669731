"""Timers: a heap of (time, kind of event, subject). A timer is never taken back. Whoever gets a due one checks whether it still
applies, which costs less than finding it in the heap."""

from __future__ import annotations

import heapq

from cluster.domain.tasks.events import Event

#: The attempt of a timer that concerns the whole task, or no task.
ANY_ATTEMPT = -1


class QueuesOpen(Event):
    """The kind of a timer whose subject is a workspace and not a task: something there may start again (a rate has a token, a
    budget begins anew, or the time in which some regions come first is over)."""


class WorkspaceTasksEnd(Event):
    """The kind of a timer whose subject is a workspace that was deleted, and has open tasks left."""


class ChildrenEnd(Event):
    """The kind of a timer for the children of ended tasks that are still to be ended."""


Due = tuple[type[Event], str, int]
"""(kind of event, its subject, the attempt that it concerns)"""


class Timers:
    """The subject is a task's id, or a workspace if the kind says so."""

    def __init__(self) -> None:
        # (due time, number, kind, subject, attempt), the next one first. ``arm`` adds, ``pop`` removes when it is due. Timers
        # of tasks that have ended stay until then.
        self._heap: list[tuple[float, int, type[Event], str, int]] = []
        # Counts armed timers. Timers of the same time come up in the order in which they were armed, and kinds, which have no
        # order, are never compared.
        self._number = 0

    def arm(self, at: float, kind: type[Event], subject: str, attempt: int = ANY_ATTEMPT) -> None:
        """Adds a timer that is due at an epoch second."""
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, kind, subject, attempt))

    def pop(self, now: float) -> Due | None:
        """Removes and returns the earliest timer if it is due; None if none is."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, kind, subject, attempt = heapq.heappop(self._heap)
        return kind, subject, attempt

    def next(self) -> float | None:
        """When the earliest timer is due; None if there is none."""
        return self._heap[0][0] if self._heap else None
