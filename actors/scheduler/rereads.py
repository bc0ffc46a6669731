"""How often a shard has read its state again lately, and when that is worth a word.

One re-read is how a shard recovers. Many are a fault that comes back at once, and everybody waits for each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

WITHIN_S: Final = 60.0
#: So many within ``WITHIN_S`` are nothing unusual: a failed commit, a store that restarts.
FEW: Final = 3

#: Counts one re-read for the metrics. It may fail; the count here does not depend on it.
Count = Callable[[], Coroutine[Any, Any, None]]


class Rereads:
    """When the last re-reads were, as epoch seconds, oldest first: those that count, and no more than say that there are many."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=1000)

    def add(self, now: float) -> None:
        """Counts one."""
        self._at.append(now)

    def lately(self, now: float) -> int:
        """How many there were within ``WITHIN_S``."""
        while self._at and now - self._at[0] > WITHIN_S:
            self._at.popleft()
        return len(self._at)

    def status(self, now: float) -> dict[str, Any]:
        """What the shard's status says about them: the number, and a warning if there are more than a few."""
        count = self.lately(now)
        warning = (
            f"It has read its state again {count} times within a minute, and nothing is scheduled meanwhile; its log among "
            "Ray's own says why: look for 'commit' and 'forgets its state'."
        )
        return {"rereads_per_minute": count, "warnings": [warning] if count > FEW else []}


async def uncounted() -> None:
    """For a shard without metrics."""
