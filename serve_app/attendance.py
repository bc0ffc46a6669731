"""Whose calls this replica is still working on.

Whoever is kept waiting is alive. An agent that asks one thing at a time can give no other sign of life while the
scheduler is away or a long poll is open, so the replica gives it in the agent's place. Without that, an agent that did
nothing wrong was declared offline, and its leases were taken away, because a heartbeat of its was held up here.
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
    spoke_at: float
    calls: int = 0


class Attendance:
    """Open calls by what they are about. ``every_s``: how long one may be open before it counts as a sign, and again."""

    def __init__(self, clock: Clock, every_s: float) -> None:
        self._clock = clock
        self.every_s = every_s
        self._open: dict[Key, _Attended] = {}

    @contextmanager
    def of(self, keys: Iterable[Key]) -> Iterator[None]:
        """While a call of these is worked on. What the call itself says is the caller's to tell."""
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
        """Those who have been waiting for ``every_s`` since they were last taken."""
        now = self._clock.now()
        due = [key for key, attended in self._open.items() if now - attended.spoke_at >= self.every_s]
        for key in due:
            self._open[key].spoke_at = now
        return due
