"""Attendance: which agents have an open call at this replica.

An agent whose call is open is alive. An agent that makes one call at a time cannot send a heartbeat while its long poll
is open or while the scheduler is away, so the replica records the heartbeat for it. Without that, an agent that did
nothing wrong would be declared offline and lose its leases, because this replica held up its call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.ports.clock import Clock

Key = tuple[str, str]
"""(workspace, id)"""


@dataclass(slots=True)
class _Attended:
    #: When the first open call began, or when ``take_due`` last returned the key.
    spoke_at: float
    #: Open calls of the key; the entry is dropped when this falls to 0.
    calls: int = 0


class Attendance:
    """Counts open calls by key. A key is due for a heartbeat after every ``every_s`` during which it has an open call."""

    def __init__(self, clock: Clock, every_s: float) -> None:
        self._clock = clock
        self.every_s = every_s
        #: Keys with at least one open call. ``of`` adds and removes.
        self._open: dict[Key, _Attended] = {}

    @contextmanager
    def of(self, keys: Iterable[Key]) -> Iterator[None]:
        """Counts a call of ``keys`` as open inside the block. The heartbeat that the call itself is, the caller records."""
        now, known = self._clock.now(), tuple(keys)
        for key in known:
            self._open.setdefault(key, _Attended(now)).calls += 1
        try:
            yield
        finally:
            for key in known:
                attended = self._open[key]
                attended.calls -= 1
                if not attended.calls:
                    del self._open[key]

    def take_due(self) -> list[Key]:
        """Keys whose call has been open for ``every_s`` since it began or since they were last returned here."""
        now = self._clock.now()
        due = [key for key, attended in self._open.items() if now - attended.spoke_at >= self.every_s]
        for key in due:
            self._open[key].spoke_at = now
        return due
