"""What is due when: a heap of (time, what, whom). A timer is never taken back; whoever gets it looks whether it still
means something."""

from __future__ import annotations

import heapq

from cluster.domain.tasks.events import Event

ANY_ATTEMPT = -1

Due = tuple[type[Event], str, int]
"""(kind of event, its subject, the attempt that it is about)"""


class Timers:
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, type[Event], str, int]] = []
        self._number = 0

    def arm(self, at: float, kind: type[Event], subject: str, attempt: int = ANY_ATTEMPT) -> None:
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, kind, subject, attempt))

    def pop(self, now: float) -> Due | None:
        """The next one that is due, in order of time."""
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, kind, subject, attempt = heapq.heappop(self._heap)
        return kind, subject, attempt

    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None
