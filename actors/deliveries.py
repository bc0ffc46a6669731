"""Tells receivers what is due: begins attempts, a bounded number at once, and stores what came of them.

An attempt begins by a commit and ends by one. One that was begun and not settled is made again when its time is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from cluster.domain.base.errors import ControlPlaneError
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
from cluster.domain.notifications.delivery import Delivery, NotTaken, Outcome, settled
from cluster.ports.clock import Clock
from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, OnFatal

_logger = logging.getLogger(__name__)

#: After this time an attempt that nobody settled is made again. No attempt takes as long.
LEASE_S: Final = 90.0

#: A workspace, and a receiver in it.
Key = tuple[str, str]
D = TypeVar("D", bound=Delivery)
T = TypeVar("T")
D_contra = TypeVar("D_contra", bound=Delivery, contravariant=True)
T_co = TypeVar("T_co", covariant=True)


class Queue(Protocol[D_contra, T_co]):
    """What is due, and what came of it."""

    async def claim(self, now: float, until: float, limit: int, busy: Sequence[Key]) -> Sequence[T_co]: ...

    async def settle(self, deliveries: Sequence[D_contra]) -> Sequence[None]: ...


class Deliveries(Generic[D, T]):
    """``parts``: the delivery of something that is due, and its receiver. ``send``: one attempt. ``chance`` gives numbers from 0
    to 1; ``what`` is a word for the log of the process. ``ended`` is set when a receiver has no attempt under way any more,
    so that its next ones begin at once."""

    def __init__(
        self,
        queue: Queue[D, T],
        *,
        what: str,
        parts: Callable[[T], tuple[D, Key]],
        send: Callable[[T], Awaitable[Outcome]],
        clock: Clock,
        chance: Callable[[], float],
        on_fatal: OnFatal,
        ended: asyncio.Event,
    ) -> None:
        self._queue = queue
        self._what = what
        self._parts = parts
        self._send = send
        self._clock = clock
        self._chance = chance
        #: Which receivers have attempts under way, and which fail. Only `_tell` changes it.
        self._receivers = Attempts()
        self._ended = ended
        self._settling: GroupCommit[D, None] = GroupCommit(queue.settle)
        #: Attempts, which end by themselves.
        self._attempts = Loops(on_fatal)

    async def stop(self) -> None:
        await self._attempts.stop()

    @property
    def running(self) -> bool:
        return self._attempts.running

    @property
    def idle(self) -> bool:
        return self._attempts.idle

    @property
    def failing(self) -> Sequence[Key]:
        """Receivers whose last attempt failed."""
        return sorted(self._receivers.failing)

    async def begin_due(self, now: float) -> bool:
        """Begins attempts at what is due; returns whether there may be more at once.

        Raises: `TryLater` if the store does not answer."""
        begun = False
        for begin in self._tell(Look()):
            for item in await self._queue.claim(now, now + LEASE_S, begin.room, sorted(begin.busy)):
                self._tell(Begun(self._parts(item)[1]))
                self._attempts.start(self._attempt(item))
                begun = True
        return begun

    def _tell(self, event: Event) -> list[Begin]:
        """Tells the machine what happened. Returns what may begin."""
        self._receivers, effects = step(self._receivers, event, self._clock.now())
        if LookAgain() in effects:
            self._ended.set()
        return [effect for effect in effects if isinstance(effect, Begin)]

    async def _attempt(self, item: T) -> None:
        delivery, key = self._parts(item)
        try:
            outcome = await self._sent(item)
            self._tell(Refused(key) if isinstance(outcome, NotTaken) else Taken(key))
            await self._settling.put(settled(delivery, outcome, self._clock.now(), self._chance()))
        except ControlPlaneError as error:
            # It is made again when its time is over.
            _logger.warning("an attempt at a %s could not be settled: %s", self._what, error)
        finally:
            self._tell(Ended(key))

    async def _sent(self, item: T) -> Outcome:
        try:
            return await self._send(item)
        except ControlPlaneError:
            raise
        except Exception:  # one that cannot be sent must not end the process, again and again
            _logger.exception("a %s cannot be sent", self._what)
            return NotTaken("The control plane cannot send it; the log of its process says why.")
