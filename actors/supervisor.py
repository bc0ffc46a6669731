"""The reconcile loop: what should exist, what does, and the one step that brings them closer.

Level-triggered: every pass looks at the world again and converges, so a lost event or a crash in the middle does no
harm. A lease in Postgres keeps two passes from acting at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from actors.roles import Role
from cluster.domain.errors import ControlPlaneError, TryLater
from cluster.ports import ActorName, ActorNames, Clock, Leases

_logger = logging.getLogger(__name__)

LEASE = "supervisor"
LEASE_TTL_S = 15.0
PASS_S = 2.0


class Machinery(Protocol):
    """The Ray side of reconciling, so that a test can drive the loop against real actors or none."""

    def wanted_name(self, role: Role) -> str: ...

    async def ensure(self, role: Role) -> str:
        """Creates the role's actor of this version if needed and waits until it serves; its fingerprint."""

    async def existing(self, role: Role) -> Sequence[str]: ...

    async def kill(self, name: str) -> None: ...


@dataclass(kw_only=True)
class Supervisor:
    holder: str
    roles: Sequence[Role]
    machinery: Machinery
    names: ActorNames
    leases: Leases
    clock: Clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.reconcile()
            except TryLater as error:
                _logger.warning("reconciling has to wait: %s", error)
            await self.clock.sleep(PASS_S)

    async def reconcile(self) -> bool:
        """One pass; False when another supervisor holds the lease.

        What is missing altogether is made at once, side by side; roles are replaced one at a time.
        """
        missing = [role for role in self.roles if not await self.machinery.existing(role)]
        for some in [missing] * bool(missing) + [[role] for role in self.roles]:
            if await self.leases.acquire(LEASE, self.holder, LEASE_TTL_S) is None:
                return False
            await asyncio.gather(*(self._try_to_settle(role) for role in some))
        return True

    async def _try_to_settle(self, role: Role) -> None:
        try:
            await self._settle(role)
        except ControlPlaneError as error:
            _logger.warning("%s does not serve yet: %s", role.key, error)

    async def _settle(self, role: Role) -> None:
        """The wanted actor serves, is published, and is the only one of its role, in this order."""
        wanted = self.machinery.wanted_name(role)
        fingerprint = await self.machinery.ensure(role)
        published = await self.names.current(role.key)
        if published is None or published.name != wanted:
            await self.names.publish(ActorName(role=role.key, name=wanted, fingerprint=fingerprint))
        for name in await self.machinery.existing(role):
            if name != wanted:
                _logger.info("replacing %s by %s", name, wanted)
                await self.machinery.kill(name)

    async def stop(self) -> None:
        await self.leases.release(LEASE, self.holder)
