"""Which agent hosts live: each holds a lease of its own, and everybody reads the same leases."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from cluster.domain.errors import TryLater
from cluster.domain.placement import carrier
from cluster.ports import Clock, Leases

_logger = logging.getLogger(__name__)

PREFIX = "agent-host:"
TTL_S = 6.0
RENEW_S = 2.0
FRESH_S = 1.0


class LiveHosts:
    """A copy that is at most ``FRESH_S`` old. While nobody is known to live, all ``count`` hosts are taken to."""

    def __init__(self, leases: Leases, clock: Clock, count: int) -> None:
        self._leases = leases
        self._clock = clock
        self._all = tuple(range(count))
        self._known: tuple[int, ...] = ()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def alive(self) -> tuple[int, ...]:
        async with self._reading:
            if self._clock.now() - self._read_at >= FRESH_S:
                with contextlib.suppress(TryLater):
                    held = await self._leases.held(PREFIX)
                    indexes = (int(name.removeprefix(PREFIX)) for name in held)
                    self._known = tuple(sorted(index for index in indexes if index in self._all))
                    self._read_at = self._clock.now()
        return self._known or self._all

    async def carrier(self, workspace: str, agent_id: str) -> int:
        found = carrier(workspace, agent_id, await self.alive())
        assert found is not None
        return found


class Membership:
    """One host's lease. A successor under the same index takes it over at once."""

    def __init__(self, leases: Leases, clock: Clock, index: int) -> None:
        self._leases = leases
        self._clock = clock
        self._name = f"{PREFIX}{index}"

    async def renew(self) -> None:
        await self._leases.acquire(self._name, self._name, TTL_S)

    async def leave(self) -> None:
        with contextlib.suppress(TryLater):
            await self._leases.release(self._name, self._name)
