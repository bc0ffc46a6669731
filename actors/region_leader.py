"""The region's leader: the actor that holds a named lease. A single region is a group of one, whose lease is a row in its
own Postgres.

Taking the lease does not raise the epoch: the epoch fences one primary region from the next, and a restart of this actor
changes no primary.
"""

from __future__ import annotations

import logging

from cluster.domain.base.errors import StoreUnavailable
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases
from cluster.ports.log import Region
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)


class RegionLeader:
    """``ttl_s``: how long the lease outlives its holder; it is renewed every third of that."""

    def __init__(
        self,
        *,
        region: str,
        holder: str,
        region_store: Region,
        leases: Leases,
        clock: Clock,
        ttl_s: float,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._name = f"region-leader:{region}"
        self._region = region
        self._holder = holder
        self._store = region_store
        self._leases = leases
        self._clock = clock
        self._ttl_s = ttl_s
        self._fence: int | None = None
        self._epoch = 0
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        await self.campaign()
        self._loops.start(self._renew_forever())

    async def stop(self) -> None:
        await self._loops.stop()
        await self._leases.release(self._name, self._holder)

    async def campaign(self) -> bool:
        """Takes or renews the lease, and returns whether this actor holds it."""
        self._fence = await self._leases.acquire(self._name, self._holder, self._ttl_s)
        self._epoch = await self._store.epoch()
        return self._fence is not None

    async def _renew_forever(self) -> None:
        while True:
            await self._clock.sleep(self._ttl_s / 3)
            try:
                await self.campaign()
            except StoreUnavailable as error:
                self._fence = None  # the lease may have expired: not leading is the safe claim
                _logger.warning("the leader's lease could not be renewed, will try again: %s", error)

    async def status(self) -> dict[str, object]:
        return {"region": self._region, "leader": self._fence is not None, "fence": self._fence, "epoch": self._epoch}
