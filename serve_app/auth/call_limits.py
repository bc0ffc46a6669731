"""How often a principal may call, over all replicas together.

Redis counts. A replica asks it for calls ahead, for a tenth of a second of the limit at once, and admits that many by itself: a
busy principal costs a few calls of Redis in a second, however many calls it makes. Calls count when they are asked for, so the
bound may be missed by those of one question for each replica, which were asked for earlier than they are made.

While Redis is away each replica has its share of the limit, by the number of replicas that have lately asked. The first call
that finds Redis away waits for ``WAIT_S``; the later ones do not, since a look in the background finds out when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from cluster.domain.access.principal import Principal
from cluster.domain.access.rate_limits import MAX_KEPT, CallKind, Grant, Rate, whole_seconds
from cluster.domain.base.errors import RateLimited, TryLater
from cluster.ports.rate_limits import RateLimits

_logger = logging.getLogger(__name__)

#: How long a call waits for Redis at most, and how long Redis is not asked again after that.
WAIT_S: Final = 0.1
AWAY_S: Final = 2.0
#: A replica asks ahead for the calls of so many seconds.
AHEAD_S: Final = 0.1


class _Allowance:
    """What one principal may do at this replica. ``left``: calls that were asked for and not made. Before ``again_at`` it is not
    asked again. ``asking``: the question that is under way; calls that come meanwhile wait for it too."""

    __slots__ = ("again_at", "asking", "left")

    def __init__(self) -> None:
        self.left = 0
        self.again_at = 0.0
        self.asking: asyncio.Task[None] | None = None


class CallLimits:
    """The limits of one replica's callers. ``rates``: kinds that are not in it are not limited. ``shared`` is counted for all
    replicas, ``own`` for this one; ``sharers``: how many replicas there are until Redis has said it."""

    def __init__(
        self,
        *,
        shared: RateLimits,
        own: RateLimits,
        rates: Mapping[CallKind, Rate],
        sharers: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._own = own
        self._rates = rates
        self._sharers = sharers
        self._now = now
        self._allowances: dict[tuple[CallKind, str], _Allowance] = {}
        #: Until when Redis is not asked; 0.0 while it answers.
        self._away_until = 0.0
        self._look: asyncio.Task[Grant | None] | None = None

    async def check(self, principal: Principal, kind: CallKind) -> None:
        """Counts a call of the principal, and returns if there is room for it.

        Raises: `RateLimited` if there is none."""
        rate = self._rates.get(kind)
        if rate is None:
            return
        allowance = self._allowances.get((kind, principal.id))
        if allowance is None:
            allowance = self._allowances[kind, principal.id] = _Allowance()
            if len(self._allowances) > MAX_KEPT:
                del self._allowances[next(iter(self._allowances))]
        while allowance.left == 0:
            wait_s = allowance.again_at - self._now()
            if wait_s > 0:
                raise RateLimited(_sentence(kind), None, whole_seconds(wait_s))
            if allowance.asking is None:
                allowance.asking = asyncio.create_task(self._ask(allowance, kind, principal.id, rate))
            await asyncio.shield(allowance.asking)
        allowance.left -= 1

    async def _ask(self, allowance: _Allowance, kind: CallKind, caller: str, rate: Rate) -> None:
        try:
            calls = max(1, int(AHEAD_S / rate.interval_s))
            grant = await self._grant(f"{kind}:{caller}", rate, calls)
            allowance.left += grant.granted
            if grant.granted < calls and (self._away_until == 0.0 or not grant.granted):
                # Who calls at its limit would have Redis asked for each call.
                allowance.again_at = self._now() + max(AHEAD_S, grant.retry_after_s)
        finally:
            allowance.asking = None

    async def _grant(self, caller: str, rate: Rate, calls: int) -> Grant:
        if self._away_until == 0.0:
            grant = await self._of_all(caller, rate, calls)
            if grant is not None:
                return grant
        else:
            self._look_again(caller, rate)
        return await self._own.take(caller, rate.shared_by(self._sharers), 1)

    async def _of_all(self, caller: str, rate: Rate, calls: int) -> Grant | None:
        """What all replicas together leave; None if Redis does not say."""
        try:
            async with asyncio.timeout(WAIT_S):
                grant = await self._shared.take(caller, rate, calls)
        except (TryLater, TimeoutError) as error:
            if self._away_until == 0.0:
                _logger.warning("limits of calls are each replica's own until Redis answers: %s", error or "no answer")
            self._away_until = self._now() + AWAY_S
            return None
        if self._away_until != 0.0:
            _logger.warning("Redis answers, and limits of calls are those of all replicas again")
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
        """Ends the questions that are under way, and closes both counters."""
        asking = [allowance.asking for allowance in self._allowances.values()]
        for task in (*asking, self._look):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._shared.close()
        await self._own.close()


def _sentence(kind: CallKind) -> str:
    what = "calls" if kind is CallKind.OTHERS else kind.value
    return f"You have made more {what} than your limit allows; repeat this one after the time in Retry-After."
