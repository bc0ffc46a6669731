"""An actor that runs only while its region writes for the zone, one of several: a new one for each epoch.

What an actor remembers rests on the epoch that it has read. When that is replaced, or the region is not the primary any more,
the actor is ended and forgotten, and the next one reads everything anew. So no actor has to know of regions, and none goes on
under an epoch in which it has decided nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.log.replication_gate import ReplicationGate
from cluster.ports.clock import Clock
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)
RETRY_S = 0.5
#: What supervisor and ``/health`` ask whether the process serves, which one that waits does.
_HEALTH = ("status", "alive")


class PrimaryOnly:
    """Answers the calls of the actor that ``make`` makes. ``read_epoch``: reads the epoch that the process's writes state."""

    def __init__(
        self,
        title: str,
        make: Callable[[], Any],
        gate: ReplicationGate,
        read_epoch: Callable[[], Awaitable[int]],
        clock: Clock,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._title = title
        self._make = make
        self._gate = gate
        self._read_epoch = read_epoch
        self._clock = clock
        self._loops = Loops(on_fatal)
        #: The actor of the present epoch while it serves.
        self._actor: Any = None

    async def start(self) -> None:
        """Returns at once: the region may become primary much later."""
        self._loops.start(self._run())

    async def stop(self) -> None:
        """Ends the actor, if there is one."""
        await self._loops.stop()
        await self._end()

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        async def call(*args: Any) -> Any:
            actor = self._actor
            if actor is not None:
                return await getattr(actor, method)(*args)
            if method in _HEALTH:
                return {"serving": False, "waits_for": "primary"}
            raise TryLater(
                f"{self._title} runs where the zone's primary is, not in this region; try again in a moment.",
                "not_primary",
            )

        return call

    async def _run(self) -> None:
        while True:
            epoch = await self._gate.becomes_primary()
            actor = self._make()
            try:
                if await self._read_epoch() != epoch:
                    raise TryLater("The epoch has been replaced meanwhile.")
                await actor.start()
            except TryLater as error:
                _logger.warning("%s cannot start yet: %s", self._title, error)
                await _ended(actor)
                await self._clock.sleep(RETRY_S)
                continue
            except asyncio.CancelledError:
                await _ended(actor)
                raise
            self._actor = actor
            _logger.info("%s runs, as this region is primary under epoch %d", self._title, epoch)
            await self._gate.ceases(epoch)
            await self._end()
            _logger.info("%s has ended, as epoch %d is over here", self._title, epoch)

    async def _end(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            await _ended(actor)


async def _ended(actor: Any) -> None:
    """What the actor wanted to write at its end is refused if the region is not primary any more."""
    with suppress(ControlPlaneError, asyncio.TimeoutError):
        await actor.stop()
