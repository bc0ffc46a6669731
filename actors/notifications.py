"""Tells channels of what happens: follows the log, queues what the rules choose, and sends what is queued.

It keeps nothing that the database has not. What is queued and the cursor over the log move in one commit, so one that is killed
anywhere loses no event and queues none twice. An attempt that it began and did not settle is made again when its time is over,
under the same id, by which a receiver tells that it has had it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from actors.deliveries import Deliveries
from cluster.domain.base.errors import Fenced, TryLater
from cluster.domain.notifications.delivery import KEPT_S
from cluster.domain.notifications.rules import notifications_of
from cluster.ports.clock import Clock
from cluster.ports.log import Region
from cluster.ports.notifications import Notifications, Notifier
from cluster.ports.pushes import Pushes
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Between two looks at the log or at what is due, unless somebody rings; and the least time between two.
LOOK_S: Final = 1.0
APART_S: Final = 0.05
#: What is rung for when rows are there that rules may choose.
TOPICS: Final = (WakeTopic.NOTIFICATIONS, WakeTopic.AGENTS, WakeTopic.CONTROLS, WakeTopic.DELIBERATIONS)
#: Rows of the log of one look. After so many that are no events the cursor is stored alone.
BATCH: Final = 500
FAR: Final = 10_000
#: Between two looks for notifications that are old enough to be deleted, and how many are at once.
FORGET_EVERY_S: Final = 60.0
FORGOTTEN: Final = 1_000


class NotificationKeeper:
    """``pushes``: what clients of A2A want to be told, by the same cursor. ``chance`` gives numbers from 0 to 1."""

    def __init__(
        self,
        *,
        notifications: Notifications,
        pushes: Pushes,
        region: Region,
        notifier: Notifier,
        doorbell: Doorbell,
        clock: Clock,
        chance: Callable[[], float] = random.random,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._notifications = notifications
        self._pushes = pushes
        self._region = region
        self._doorbell = doorbell
        self._clock = clock
        #: The stored cursor, and up to where the log was searched; None until the first look, and after every failure.
        self._stored: int | None = None
        self._searched = 0
        #: When the log was last searched to its end.
        self._whole_at = clock.now()
        #: Set when something may be due: a receiver has no attempt under way any more, something was queued, or somebody rang.
        self._may_be_due = asyncio.Event()
        self._told = Deliveries(
            notifications,
            what="notification",
            parts=lambda item: (item[0], (item[0].workspace, item[0].channel)),
            send=lambda item: notifier.send(*item),
            clock=clock,
            chance=chance,
            on_fatal=on_fatal,
            ended=self._may_be_due,
        )
        self._pushed = Deliveries(
            pushes,
            what="push",
            parts=lambda push: (push, (push.workspace, push.origin)),
            send=notifier.push,
            clock=clock,
            chance=chance,
            on_fatal=on_fatal,
            ended=self._may_be_due,
        )
        self._next_forgetting = float("-inf")
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(
            self._run("queued", self.follow, self._until_rung), self._run("sent", self.send_due, self._until_due)
        )

    async def stop(self) -> None:
        await self._loops.stop()
        await self._told.stop()
        await self._pushed.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory."""
        failing = [
            f"The channel {channel} of workspace {workspace} takes no notifications; see aragora-cp notifications list."
            for workspace, channel in self._told.failing
        ] + [f"{origin} takes no pushes of workspace {workspace}." for workspace, origin in self._pushed.failing]
        return {
            "serving": self._loops.running and self._told.running and self._pushed.running,
            "warnings": failing[:10],
            "log_lag_s": {"notifications": max(0.0, self._clock.now() - self._whole_at)},
        }

    async def follow(self) -> bool:
        """Queues what the next rows of the log become; returns whether there may be more at once. Waits for the primary if this
        region is not.

        Raises: `TryLater` if the store does not answer."""
        try:
            return await self._follow()
        except TryLater:
            self._stored = None
            raise

    async def _follow(self) -> bool:
        if self._stored is None:
            await self._region.epoch()
            begin = await self._notifications.begin()
            # Under a new epoch the cursor begins near the end of the log, which for pushes is not where they were.
            missed = await self._pushes.missed(begin)
            if missed:
                await self._notifications.queue((begin, begin), [], missed, self._clock.now())
            self._stored = self._searched = begin
        rows, searched = await self._notifications.rows(self._searched, BATCH)
        rules = await self._notifications.rules_of(sorted({row.workspace for row in rows})) if rows else {}
        now = self._clock.now()
        queued = notifications_of(rules, rows, now)
        changes = await self._pushes.changes(self._searched, searched) if searched > self._searched else []
        if queued or changes or searched - self._stored > FAR:
            await self._notifications.queue((self._stored, searched), queued, changes, now)
            self._stored = searched
            self._may_be_due.set()
        more = searched > self._searched
        if not more:
            self._whole_at = self._clock.now()
        self._searched = searched
        return more

    async def send_due(self) -> bool:
        """Begins attempts at what is due; returns whether there may be more at once.

        Raises: `TryLater` if the store does not answer."""
        now = self._clock.now()
        if now >= self._next_forgetting:
            removed = await self._notifications.forget(now - KEPT_S, FORGOTTEN)
            removed = max(removed, await self._pushes.forget(now - KEPT_S, FORGOTTEN))
            self._next_forgetting = now if removed == FORGOTTEN else now + FORGET_EVERY_S
        self._may_be_due.clear()
        begun = [await part.begin_due(now) for part in (self._told, self._pushed)]
        return any(begun)

    @property
    def is_sending(self) -> bool:
        """Whether attempts are under way."""
        return not (self._told.idle and self._pushed.idle)

    async def _until_due(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._may_be_due.wait()

    async def _until_rung(self, seconds: float) -> None:
        """A flood of rings makes no more looks than a log that is read on."""
        if seconds > APART_S and await self._doorbell.wait(seconds - APART_S, TOPICS):
            self._may_be_due.set()  # a test of a channel is queued by who rings
        await self._clock.sleep(APART_S)

    async def _run(
        self, what: str, look: Callable[[], Awaitable[bool]], wait: Callable[[float], Awaitable[None]]
    ) -> None:
        while True:
            try:
                more = await look()
            except Fenced:
                self._stored = None  # another process goes on, or another region
                more = False
            except TryLater as error:
                _logger.warning("notifications cannot be %s, will try again: %s", what, error)
                more = False
            await wait(APART_S if more else LOOK_S)
