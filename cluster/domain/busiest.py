"""Which values of a label have series of their own, where callers choose the values: those that are counted most often lately.

A counter must not fall, and none may jump: that would look like a burst. So a value that becomes busy starts a series at 0, and
what was counted of it as ``other`` stays there; and when its place is needed, a series ends where it is. Those that came first
were kept for ever before, and a deployment whose first 50 task types were tried once saw no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cluster.domain.metric_families import NAMED_MAX, OTHER

#: Values that are counted, besides the shown ones, so that a busy one is noticed.
CANDIDATES_MAX: Final = 1_000
#: After so many observations all counts are halved, so that what was busy once makes room.
HALVED_AFTER: Final = 100_000
#: A value takes a series from another if it was counted more than twice as often, and that by more than so many.
AHEAD: Final = 10.0


class Busiest:
    """``shown``: the values with series of their own, at most ``NAMED_MAX``. ``counts``: how often each value was counted
    lately, of all shown ones and some others."""

    def __init__(self, counts: Mapping[str, float] | None = None) -> None:
        """With the counts of values that had series: the busiest of them are shown."""
        self.counts: dict[str, float] = dict(counts or {})
        self.shown = set(sorted(self.counts, key=lambda value: (-self.counts[value], value))[:NAMED_MAX])
        self._observed = 0.0
        #: No shown value was counted less often. It spares a search for each value that is not shown.
        self._floor = 0.0

    def name(self, value: str, amount: float = 1.0) -> tuple[str, str | None]:
        """Counts a value, and returns what its series is called, and the value whose series end instead, if there is one."""
        if value == OTHER:
            return OTHER, None
        self._age(amount)
        count = self.counts[value] = self.counts.get(value, 0.0) + amount
        if value in self.shown:
            return value, None
        if len(self.shown) < NAMED_MAX:
            self.shown.add(value)
            return value, None
        if count <= 2 * self._floor + AHEAD:
            self._forget_rare()
            return OTHER, None
        least = min(self.shown, key=lambda shown: (self.counts[shown], shown))
        self._floor = self.counts[least]
        if count <= 2 * self.counts[least] + AHEAD:
            self._forget_rare()
            return OTHER, None
        self.shown.remove(least)
        self.shown.add(value)
        return value, least

    def _age(self, amount: float) -> None:
        self._observed += amount
        if self._observed >= HALVED_AFTER:
            self._observed = 0.0
            self.counts = {value: count / 2 for value, count in self.counts.items()}
            self._floor /= 2

    def _forget_rare(self) -> None:
        if len(self.counts) <= NAMED_MAX + CANDIDATES_MAX:
            return
        others = sorted(self.counts.keys() - self.shown, key=lambda value: (-self.counts[value], value))
        for value in others[CANDIDATES_MAX // 2 :]:
            del self.counts[value]

    def snapshot(self) -> dict[str, Any]:
        """As JSON."""
        return {"counts": dict(self.counts), "shown": sorted(self.shown), "observed": self._observed}

    @classmethod
    def restore(cls, snapshot: Mapping[str, Any]) -> Busiest:
        """What ``snapshot`` was made of."""
        restored = cls()
        restored.counts = dict(snapshot["counts"])
        restored.shown = set(snapshot["shown"])
        restored._observed = snapshot["observed"]
        return restored
