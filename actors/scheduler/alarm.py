"""When a shard wakes up by itself: at its next timer, and sooner if an earlier one is armed meanwhile."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from cluster.ports.clock import Clock

#: It wakes up at least so often.
AT_LEAST_EACH_S: Final = 1.0
#: Whoever has not looked at the clock for longer stood still: it was stopped, or paused with its container or machine.
STANDSTILL_S: Final = 5.0


class Alarm:
    """One sleeper's alarm clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # When the sleeper wakes up by itself (epoch seconds). ``sleep`` sets it.
        self.wakes_at = -math.inf
        # Wakes it before.
        self._moved = asyncio.Event()
        # When the clock was last looked at.
        self._looked_at = clock.now()

    def wake(self) -> None:
        """Wakes the sleeper now: its timers are others than before."""
        self._moved.set()

    def timer_is(self, due: float | None) -> None:
        """Wakes the sleeper if its next timer is earlier than when it wakes up. It does not matter whether anything was decided:
        a delayed task or a rate brings a timer without a decision."""
        if due is not None and due < self.wakes_at:
            self._moved.set()

    async def sleep(self, due: float | None) -> None:
        """Waits until a timer is due, or somebody wakes it; without a timer, for ``AT_LEAST_EACH_S``."""
        self._moved.clear()
        self.wakes_at = self._clock.now() + AT_LEAST_EACH_S if due is None else due
        sleeper = asyncio.ensure_future(self._sleep_until(self.wakes_at))
        moved = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({sleeper, moved}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            moved.cancel()

    async def _sleep_until(self, at: float) -> None:
        """It looks at the clock when it begins to run, which may be later than when it was started."""
        await self._clock.sleep(at - self._clock.now())

    def stood_still_s(self) -> float:
        """For how long nobody has looked at the clock, if that is longer than ``STANDSTILL_S``; else 0. This is a look."""
        now = self._clock.now()
        still_s, self._looked_at = now - self._looked_at, now
        return still_s if still_s > STANDSTILL_S else 0.0
