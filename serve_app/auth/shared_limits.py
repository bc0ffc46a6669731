"""Counts that all replicas share, and each replica's share of them while Redis is away.

The share goes by the number of replicas that have lately asked. The first question that finds Redis away waits for ``WAIT_S``;
the later ones do not, since a look in the background finds out when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from cluster.domain.access.rate_limits import Grant, Rate
from cluster.domain.base.errors import TryLater
from cluster.ports.rate_limits import RateLimits

_logger = logging.getLogger(__name__)

#: How long a question waits for Redis at most, and how long Redis is not asked again after that.
WAIT_S: Final = 0.1
AWAY_S: Final = 2.0


class SharedLimits:
    """A `RateLimits` that always answers. ``shared`` is counted for all replicas, ``own`` for this one; ``sharers``: how many
    replicas there are until Redis has said it."""

    def __init__(
        self, *, shared: RateLimits, own: RateLimits, sharers: int = 1, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared = shared
        self._own = own
        self._sharers = sharers
        self._now = now
        #: Until when Redis is not asked; 0.0 while it answers.
        self._away_until = 0.0
        self._look: asyncio.Task[Grant | None] | None = None

    @property
    def are_shared(self) -> bool:
        """Whether Redis has answered the last question."""
        return self._away_until == 0.0

    async def take(self, caller: str, rate: Rate, calls: int, least: int = 1) -> Grant:
        """As many of ``calls`` as the caller has room for, but none if that is less than ``least``, and no more than ``least``
        while Redis is away."""
        if self.are_shared:
            grant = await self._of_all(caller, rate, calls, least)
            if grant is not None:
                return grant
        else:
            self._look_again(caller, rate)
        return await self._own.take(caller, rate.shared_by(self._sharers), min(calls, least), least)

    async def _of_all(self, caller: str, rate: Rate, calls: int, least: int = 1) -> Grant | None:
        """What all replicas together leave; None if Redis does not say."""
        try:
            async with asyncio.timeout(WAIT_S):
                grant = await self._shared.take(caller, rate, calls, least)
        except (TryLater, TimeoutError) as error:
            if self.are_shared:
                _logger.warning("limits are each replica's own until Redis answers: %s", error or "no answer")
            self._away_until = self._now() + AWAY_S
            return None
        if not self.are_shared:
            _logger.warning("Redis answers, and limits are those of all replicas again")
        self._away_until = 0.0
        self._sharers = max(1, grant.sharers)
        return grant

    def _look_again(self, caller: str, rate: Rate) -> None:
        """Asks for no calls, to find out whether Redis is back."""
        if self._now() >= self._away_until and self._look is None:
            self._look = asyncio.create_task(self._of_all(caller, rate, 0))
            self._look.add_done_callback(self._looked)

    def _looked(self, _: asyncio.Task[Grant | None]) -> None:
        self._look = None

    async def close(self) -> None:
        """Ends the look that is under way, and closes both counters."""
        if self._look is not None:
            look = self._look
            look.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await look
        await self._shared.close()
        await self._own.close()
