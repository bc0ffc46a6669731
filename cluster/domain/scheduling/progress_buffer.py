"""Reports of progress between their arrival and the store.

The newest report of a task is stored at most once in ``APART_S``, so that a holder that reports a thousand times a second
costs no more than one that reports each second. Whoever reports waits for that: a report is acknowledged when it, or a newer one
of the same attempt, is durable. Nothing is kept of a task that does not report.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.domain.base.compact import evolve
from cluster.domain.tasks.progress import ProgressReport

#: Seconds between two times that a task's progress is stored, but for the end of its attempt, before which the last is stored.
APART_S = 1.0

Asker = TypeVar("Asker")


@dataclass(slots=True)
class _Unstored(Generic[Asker]):
    report: ProgressReport
    # When it is to be stored, in epoch seconds.
    due: float
    # All whose reports are in it, or were replaced by it.
    askers: list[Asker]


class ProgressBuffer(Generic[Asker]):
    """``take`` hands over what is to be stored now. All times are epoch seconds."""

    def __init__(self) -> None:
        # Task id → what has come since the task's progress was last handed over. ``add`` adds, ``take`` and ``end`` remove.
        self._unstored: dict[str, _Unstored[Asker]] = {}
        # The same of attempts that have ended since the last ``take``, which empties it.
        self._ended: list[_Unstored[Asker]] = []
        # Task id → when it was last handed over, of running tasks that have reported. ``take`` sets it, ``end`` removes it.
        self._taken_at: dict[str, float] = {}
        # (when it is due, task id) of every unstored report, the earliest first. The entries of those that ``end`` has removed
        # stay until then.
        self._due: list[tuple[float, str]] = []

    def __bool__(self) -> bool:
        return bool(self._unstored or self._ended or self._taken_at)

    def add(self, report: ProgressReport, asker: Asker) -> None:
        """Notes a report of the holder. The caller has found that it holds the lease."""
        waiting = self._unstored.get(report.task_id)
        if waiting is not None and waiting.report.attempt == report.attempt:
            waiting.report = evolve(report, progress=waiting.report.progress.followed_by(report.progress))
            waiting.askers.append(asker)
            return
        if waiting is not None:
            self.end(report.task_id)
        due = max(report.at, self._taken_at.get(report.task_id, -math.inf) + APART_S)
        self._unstored[report.task_id] = _Unstored(report, due, [asker])
        heapq.heappush(self._due, (due, report.task_id))

    def end(self, task_id: str) -> None:
        """Notes that an attempt of the task ends, before which its last report is to be stored."""
        self._taken_at.pop(task_id, None)
        waiting = self._unstored.pop(task_id, None)
        if waiting is not None:
            self._ended.append(waiting)

    def take(self, now: float) -> tuple[list[ProgressReport], list[Asker]]:
        """Removes what is due, and who is to be told when it is durable."""
        taken, self._ended = self._ended, []
        while self._due and self._due[0][0] <= now:
            due, task_id = heapq.heappop(self._due)
            waiting = self._unstored.get(task_id)
            if waiting is not None and waiting.due == due:
                taken.append(self._unstored.pop(task_id))
                self._taken_at[task_id] = now
        return [waiting.report for waiting in taken], [asker for waiting in taken for asker in waiting.askers]

    def next_due(self) -> float | None:
        """When ``take`` next has something; None if nothing waits."""
        return self._due[0][0] if self._due else None

    def askers(self) -> list[Asker]:
        """All who wait."""
        waiting = [*self._ended, *self._unstored.values()]
        return [asker for unstored in waiting for asker in unstored.askers]
