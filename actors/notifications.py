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

from cluster.domain.base.errors import ControlPlaneError, Fenced, TryLater
from cluster.domain.notifications.attempts import (
    Attempts,
    Begin,
    Begun,
    Ended,
    Event,
    Look,
    LookAgain,
    Refused,
    Taken,
    step,
)
from cluster.domain.notifications.channel import Channel
from cluster.domain.notifications.delivery import KEPT_S, Notification, NotTaken, Outcome, settled
from cluster.domain.notifications.rules import notifications_of
from cluster.ports.clock import Clock
from cluster.ports.log import Region
from cluster.ports.notifications import Notifications, Notifier
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Between two looks at the log or at what is due, and between two if the last one has found something.
LOOK_S: Final = 1.0
APART_S: Final = 0.05
#: Rows of the log of one look. After so many that are no events the cursor is stored alone.
BATCH: Final = 500
FAR: Final = 10_000
#: After this time an attempt that nobody settled is made again. No attempt takes as long.
LEASE_S: Final = 90.0
#: Between two looks for notifications that are old enough to be deleted, and how many are at once.
FORGET_EVERY_S: Final = 60.0
FORGOTTEN: Final = 1_000


class NotificationKeeper:
    """``chance`` gives numbers from 0 to 1."""

    def __init__(
        self,
        *,
        notifications: Notifications,
        region: Region,
        notifier: Notifier,
        clock: Clock,
        chance: Callable[[], float] = random.random,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._notifications = notifications
        self._region = region
        self._notifier = notifier
        self._clock = clock
        self._chance = chance
        #: The stored cursor, and up to where the log was searched; None until the first look, and after every failure.
        self._stored: int | None = None
        self._searched = 0
        #: When the log was last searched to its end.
        self._whole_at = clock.now()
        #: Which channels have attempts under way, and which fail. Only `_tell` changes it.
        self._channels = Attempts()
        #: Set when a channel has no attempt under way any more, so that its next ones begin at once.
        self._ended = asyncio.Event()
        self._settling: GroupCommit[Notification, None] = GroupCommit(notifications.settle)
        self._next_forgetting = float("-inf")
        self._loops = Loops(on_fatal)
        #: Attempts, which end by themselves.
        self._attempts = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(
            self._run("queued", self.follow, self._clock.sleep), self._run("sent", self.send_due, self._until_ended)
        )

    async def stop(self) -> None:
        await self._loops.stop()
        await self._attempts.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory."""
        failing = [
            f"The channel {channel} of workspace {workspace} takes no notifications; see aragora-cp notifications list."
            for workspace, channel in sorted(self._channels.failing)
        ]
        return {
            "serving": self._loops.running and self._attempts.running,
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
            self._stored = self._searched = await self._notifications.begin()
        rows, searched = await self._notifications.rows(self._searched, BATCH)
        rules = await self._notifications.rules_of(sorted({row.workspace for row in rows})) if rows else {}
        queued = notifications_of(rules, rows, self._clock.now())
        if queued or searched - self._stored > FAR:
            await self._notifications.queue((self._stored, searched), queued)
            self._stored = searched
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
            self._next_forgetting = now if removed == FORGOTTEN else now + FORGET_EVERY_S
        self._ended.clear()
        begun = False
        for begin in self._tell(Look()):
            claimed = await self._notifications.claim(now, now + LEASE_S, begin.room, sorted(begin.busy))
            for notification, channel in claimed:
                self._tell(Begun(_key(notification)))
                self._attempts.start(self._attempt(notification, channel))
                begun = True
        return begun

    def _tell(self, event: Event) -> list[Begin]:
        """Tells the machine what happened. Returns what may begin."""
        self._channels, effects = step(self._channels, event, self._clock.now())
        if LookAgain() in effects:
            self._ended.set()
        return [effect for effect in effects if isinstance(effect, Begin)]

    async def _attempt(self, notification: Notification, channel: Channel) -> None:
        key = _key(notification)
        try:
            outcome = await self._sent(notification, channel)
            self._tell(Refused(key) if isinstance(outcome, NotTaken) else Taken(key))
            await self._settling.put(settled(notification, outcome, self._clock.now(), self._chance()))
        except ControlPlaneError as error:
            # It is made again when its time is over.
            _logger.warning("an attempt at notification %s could not be settled: %s", notification.id, error)
        finally:
            self._tell(Ended(key))

    async def _sent(self, notification: Notification, channel: Channel) -> Outcome:
        try:
            return await self._notifier.send(notification, channel)
        except ControlPlaneError:
            raise
        except Exception:  # one that cannot be sent must not end the process, again and again
            _logger.exception("notification %s cannot be sent", notification.id)
            return NotTaken("The control plane cannot send it; the log of its process says why.")

    @property
    def is_sending(self) -> bool:
        """Whether attempts are under way."""
        return not self._attempts.idle

    async def _until_ended(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

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


def _key(notification: Notification) -> tuple[str, str]:
    return notification.workspace, notification.channel
