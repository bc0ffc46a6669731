"""Follows the log from a cursor: woken by the doorbell, and by a slow poll in case the doorbell is lost.

Whoever keeps a copy of anything (a shard's index, the directory of agents, telemetry, streams) applies rows only here,
so that its copy is always the state of the log at one cursor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.base.log import LogRow
from cluster.ports.clock import Clock
from cluster.ports.log import Log, LogFilter
from cluster.ports.wake_ups import Doorbell, WakeTopic

_logger = logging.getLogger(__name__)


class LogFollower:
    """``apply`` gets the rows in order, each once. The follower reads on when the doorbell tells of one of ``topics``, and at
    least every ``poll_s``: that bounds the cost of a lost wake-up, and is the only way if there is no doorbell.

    Two reads are at least ``apart_s`` apart. So the first row after a quiet time is seen at once, and the rows of a busy
    time are read together.
    """

    def __init__(
        self,
        log: Log,
        doorbell: Doorbell | None,
        clock: Clock,
        *,
        after: int,
        apply: Callable[[Sequence[LogRow]], Awaitable[None]],
        only: LogFilter | None = None,
        topics: Sequence[WakeTopic] = tuple(WakeTopic),
        poll_s: float = 1.0,
        apart_s: float = 0.0,
        batch: int = 1000,
    ) -> None:
        #: Up to which row the log was applied. Only `catch_up` moves it, after ``apply`` has returned.
        self.cursor = after
        #: When the log was last read to its end.
        self.whole_at = clock.now()
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._apply = apply
        self._only = only
        self._topics = topics
        self._poll_s = poll_s
        self._apart_s = apart_s
        self._batch = batch
        #: Notified whenever the cursor moves; `reached` waits for it.
        self._moved = asyncio.Condition()
        #: Held while rows are read and applied, so that no two readers apply the same rows.
        self._reading = asyncio.Lock()

    async def run(self) -> None:
        """Follows the log until it is cancelled. Waits for a store that is away; an error of ``apply`` ends the follower."""
        while True:
            try:
                full = await self.catch_up()
            except StoreUnavailable as error:
                _logger.warning("the log cannot be read, will try again: %s", error)
                await self._clock.sleep(self._poll_s)
                continue
            if not full:
                read_at = time.monotonic()  # not the port's clock: nothing is decided by it
                await self._wait()
                soon_s = read_at + self._apart_s - time.monotonic()
                if soon_s > 0:
                    await asyncio.sleep(soon_s)

    async def _wait(self) -> None:
        if self._doorbell is None:
            await self._clock.sleep(self._poll_s)
        else:
            await self._doorbell.wait(self._poll_s, self._topics)

    async def catch_up(self) -> bool:
        """Reads and applies one batch; returns whether there may be more to read at once. Raises: `StoreUnavailable`."""
        async with self._reading:
            page = await self._log.page(self.cursor, self._batch, self._only)
            if page.rows:
                await self._apply(page.rows)
            if page.cursor > self.cursor:
                self.cursor = page.cursor
                async with self._moved:
                    self._moved.notify_all()
            full = len(page.rows) == self._batch
            if not full:
                self.whole_at = self._clock.now()
        return full

    async def catch_up_to(self, seq: int) -> None:
        """Reads until the rows up to ``seq`` are applied, or the log ends before. Raises: `StoreUnavailable`."""
        while self.cursor < seq and await self.catch_up():
            pass

    async def reached(self, seq: int) -> None:
        """Waits until the rows up to ``seq`` have been applied by another caller."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.cursor >= seq)
