"""The bound of a replica's memory: a replica above it leaves, and Serve starts another.

A replica looks at its own process, and says at Serve's health check that it should be replaced. Serve then sends it no new
calls, lets it finish the open ones, and starts another replica at once. It takes a lease before, so that replicas leave one at
a time: all get the same load, so what makes one large makes the others large too. The lease is not released. Its time is also
what is between two replacements if a replica needs more than the bound from its start on.

Rejected: to let the supervisor ask and end replicas as it does with actors. Actors hold no calls of clients, and Serve ends a
replica with its calls unless it is Serve that found it unhealthy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from cluster.domain.actor_memory import LOOKS, MIB, NEAR
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.metrics import Increment
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases

_logger = logging.getLogger(__name__)

LOOK_S: Final = 10.0
#: From when one replica leaves until the next may.
APART_S: Final = 300.0
LEASE: Final = "api-memory"
REPLACEMENTS: Final = "aragora_cp_api_memory_replacements_total"


class ReplicaMemory:
    """``bound`` is in bytes, ``resident`` reads the memory of this process, ``holder`` names this replica."""

    def __init__(self, *, bound: int, resident: Callable[[], int], leases: Leases, holder: str, clock: Clock) -> None:
        self._bound = bound
        self._resident = resident
        self._leases = leases
        self._holder = holder
        self._clock = clock
        #: Looks in a row above the bound.
        self._above = 0
        self._used = 0
        self._leaves = False
        self._unsent: list[Increment] = []

    async def run(self) -> None:
        """Looks until the replica ends."""
        while not self._leaves:
            await self._clock.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Looks once. Above the bound more often than once in a row, the replica leaves, unless another one has left lately."""
        self._used = self._resident()
        self._above = self._above + 1 if self._used > self._bound else 0
        if self._above < LOOKS or self._leaves:
            return
        try:
            fence = await self._leases.acquire(LEASE, self._holder, APART_S)
        except ControlPlaneError as error:
            _logger.debug("the lease to leave cannot be had now: %s", error)
            return
        if fence is not None:
            self._leaves = True
            self._unsent.append(Increment(name=REPLACEMENTS, labels=()))
            _logger.warning("%s The replica finishes its calls and is replaced.", self._sentence("more than"))

    def check(self) -> None:
        """Raises: `RuntimeError` if the replica is to be replaced."""
        if self._leaves:
            raise RuntimeError(self._sentence("more than"))

    def increments(self) -> list[Increment]:
        """What telemetry has not got yet. Each is returned once."""
        sending, self._unsent = self._unsent, []
        return sending

    async def warnings(self) -> Sequence[str]:
        """A sentence if the memory is near the bound or above it."""
        if self._used > self._bound:
            return [
                f"{self._sentence('more than')} If that lasts, it finishes its calls and is replaced, one replica at a time."
            ]
        if self._used > self._bound * NEAR:
            return [f"{self._sentence('nearly')} Above that it finishes its calls and is replaced."]
        return []

    def _sentence(self, how: str) -> str:
        limit = f"the {self._bound // MIB} MiB of ARAGORA_API_MEMORY_MB"
        return f"This replica of the API uses {self._used // MIB} MiB of memory, {how} {limit}."
