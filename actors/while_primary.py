"""What keepers share that write in the zone's name: they work while their region is its primary, and give way between commits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cluster.domain.base.errors import Fenced, TryLater
from cluster.ports.clock import Clock
from cluster.ports.log import Region

#: After a commit, at least; else so many times what it took. With half of the time for itself, retention made submits take 1.33
#: times as long (bench ``retention.submits``).
APART_S: Final = 0.02
APART_TIMES: Final = 4

T = TypeVar("T")


class WhilePrimary:
    """Where another region is the primary, every commit would be made and refused. So the epoch is asked for first, and again
    after one was refused or did not come back."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._has_epoch = False

    async def do(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What ``work`` returns; None if this region is not the primary.

        Raises: `TryLater` if the store does not answer, and what ``work`` raises but for `Fenced`."""
        try:
            if not self._has_epoch:
                self._has_epoch = await self._region.epoch() > 0
            return await work() if self._has_epoch else None
        except Fenced:
            self._has_epoch = False
            return None
        except TryLater:
            self._has_epoch = False
            raise


async def give_way(clock: Clock, began: float) -> None:
    """Waits after work that began then (epoch seconds), so that others' commits come in between."""
    await clock.sleep(max(APART_S, APART_TIMES * (clock.now() - began)))
