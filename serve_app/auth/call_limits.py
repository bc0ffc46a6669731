"""How often a principal may call, over all replicas together.

Redis counts. A replica asks it for calls ahead, for a tenth of a second of the limit at once, and admits that many by itself: a
busy principal costs a few calls of Redis in a second, however many calls it makes. Calls count when they are asked for, so the
bound may be missed by those of one question for each replica, which were asked for earlier than they are made.

While Redis is away each replica has its share of the limit (`serve_app.auth.shared_limits`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final

from cluster.domain.access.principal import Principal
from cluster.domain.access.rate_limits import MAX_KEPT, CallKind, Rate, whole_seconds
from cluster.domain.base.errors import RateLimited
from serve_app.auth.shared_limits import SharedLimits

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
    """The limits of one replica's callers. ``rates``: kinds that are not in it are not limited."""

    def __init__(
        self,
        limits: SharedLimits,
        rates: Mapping[CallKind, Rate],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._rates = rates
        self._now = now
        self._allowances: dict[tuple[CallKind, str], _Allowance] = {}

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
            grant = await self._limits.take(f"{kind}:{caller}", rate, calls)
            allowance.left += grant.granted
            if grant.granted < calls and (self._limits.are_shared or not grant.granted):
                # Who calls at its limit would have Redis asked for each call.
                allowance.again_at = self._now() + max(AHEAD_S, grant.retry_after_s)
        finally:
            allowance.asking = None

    async def close(self) -> None:
        """Ends the questions that are under way."""
        for task in [allowance.asking for allowance in self._allowances.values()]:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def _sentence(kind: CallKind) -> str:
    what = "calls" if kind is CallKind.OTHERS else kind.value
    return f"You have made more {what} than your limit allows; repeat this one after the time in Retry-After."
