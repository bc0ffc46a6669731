"""The leader's actor of one region of several: it holds the region's process, for as long as it holds the region's lease.

While an old version of the actor is replaced by a new one, or Ray has started another on a node that still runs the old one,
two would drive one database, and each would close what the other has opened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from cluster.domain.base.errors import ControlPlaneError, StoreUnavailable
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)


class DrivesRegion(Protocol):
    """A life of the region's process (`regions.process.RegionProcess`)."""

    async def start(self) -> None:
        """Opens its links and its socket, and begins to drive the region.

        Raises: `StoreUnavailable`; ``OSError`` if an address is taken."""

    async def stop(self) -> None:
        """Ends all work where it is."""

    async def status(self) -> dict[str, object]:
        """How the zone stands."""


class RegionMember:
    """``make`` makes the next life of the process; ``ttl_s``: how long the lease outlives its holder."""

    def __init__(
        self,
        *,
        region: str,
        holder: str,
        make: Callable[[], DrivesRegion],
        leases: Leases,
        clock: Clock,
        ttl_s: float,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._region = region
        self._name = f"region-leader:{region}"
        self._holder = holder
        self._make = make
        self._leases = leases
        self._clock = clock
        self._ttl_s = ttl_s
        self._loops = Loops(on_fatal)
        self._process: DrivesRegion | None = None
        #: Why there is no process, as a sentence; empty if there is one.
        self._problem = "The region's leader is starting."

    async def start(self) -> None:
        """Returns at once: an earlier holder may have the lease still."""
        self._loops.start(self._run())

    async def stop(self) -> None:
        """Ends the process and releases the lease. Raises: `StoreUnavailable`."""
        await self._loops.stop()
        await self._end()
        await self._leases.release(self._name, self._holder)

    async def status(self) -> dict[str, object]:
        """How the zone stands; while there is no process, why.

        Raises: `StoreUnavailable` if the region's own database does not answer."""
        if self._process is None:
            return {"region": self._region, "leader": False, "warnings": [self._problem]}
        return {"leader": True, **await self._process.status()}

    async def _run(self) -> None:
        held_until = float("-inf")
        while True:
            now = self._clock.now()
            try:
                held = await self._leases.acquire(self._name, self._holder, self._ttl_s) is not None
                held_until = now + self._ttl_s if held else float("-inf")
            except StoreUnavailable as error:
                _logger.warning("the lease of the region's leader cannot be renewed, will try again: %s", error)
            if self._clock.now() >= held_until:
                await self._end()
                self._problem = "Another process drives this region, or its database is away."
            elif self._process is None:
                await self._begin()
            await self._clock.sleep(self._ttl_s / 3)

    async def _begin(self) -> None:
        process = self._make()
        try:
            await process.start()
        except (ControlPlaneError, OSError) as error:
            self._problem = f"The region's leader cannot start yet: {error}."
            _logger.warning("%s", self._problem)
        else:
            self._process = process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
