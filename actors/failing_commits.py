"""Whether commits fail again and again, in any process, and when that is worth a word.

One failure is how a race, a takeover or a restart of the database looks. If commits fail again and again, what they were to
store is refused each time, and nothing but the callers' errors says so.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Final

from cluster.domain.metrics import Increment

NAME: Final = "aragora_cp_commit_failures_total"
WITHIN_S: Final = 60.0
#: Failures of one moment count once: a batch that is refused is tried again by halves, until its culprit is found.
MOMENT_S: Final = 1.0
#: So many moments within ``WITHIN_S`` are nothing unusual.
FEW: Final = 4


def increments(failed: Mapping[str, int]) -> list[Increment]:
    """What telemetry gets of the counts of one process."""
    return [Increment(name=NAME, labels=(of,), amount=count) for of, count in failed.items()]


class FailingCommits:
    """The failures of the last minute: (when, SQLSTATE class, how many), oldest first, at most 1000."""

    def __init__(self) -> None:
        self._lately: deque[tuple[float, str, int]] = deque(maxlen=1000)

    def count(self, pushed: Iterable[Increment], now: float) -> None:
        """Counts those among the increments of a process."""
        for increment in pushed:
            if increment.name == NAME:
                self._lately.append((now, increment.labels[0], int(increment.amount)))

    def warnings(self, now: float) -> list[str]:
        """A sentence if there were more than a few."""
        while self._lately and now - self._lately[0][0] > WITHIN_S:
            self._lately.popleft()
        if len({at // MOMENT_S for at, _, _ in self._lately}) <= FEW:
            return []
        by_class: Counter[str] = Counter()
        for _, of, count in self._lately:
            by_class[of] += count
        classes = ", ".join(f"{of}: {count}" for of, count in sorted(by_class.items()))
        return [
            f"Commits fail again and again: {by_class.total()} within a minute, by SQLSTATE class ({classes}); the database "
            "refuses what they store or does not answer, and the logs of PostgreSQL and of the process that commits say why."
        ]
