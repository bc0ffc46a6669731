"""The reconcile loop: what should exist, what does, and the one step that brings them closer.

Level-triggered: every pass looks at the world again and converges, so a lost event or a crash in the middle does no
harm. A lease in Postgres keeps two passes from acting at once.

Fixed roles are replaced successor first. An agent's own actor is ended first: its successor may need the very GPU that
it holds. And it may wait for ever for a node that has what it declares, so nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.roles import DEDICATED_AGENT, Role, dedicated_role
from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.ports.actor_names import ActorName, ActorNames
from cluster.ports.agents import DedicatedAgent
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases

_logger = logging.getLogger(__name__)

LEASE = "supervisor"
LEASE_TTL_S = 15.0
#: Not asked for again within this time, which leaves most of its life for a step that takes long.
LEAD_TTL_S = 1.0
PASS_S = 2.0


class ActorBackend(Protocol):
    """The Ray side of reconciling, so that a test can drive the loop against real actors or none."""

    def desired_name(self, role: Role) -> str: ...

    async def ensure(self, role: Role) -> str:
        """Creates the role's actor of this version if needed and waits until it serves; its fingerprint."""

    async def existing(self) -> Sequence[str]:
        """Names of the deployment's actors, of whatever version, those included that wait for a place."""

    def plays(self, name: str, role: Role) -> bool: ...

    def is_of(self, name: str, kind: str) -> bool:
        """Whether an actor plays some role of the kind."""

    async def kill(self, name: str) -> None: ...


class DedicatedRegistry(Protocol):
    """The part of the registry that says which agents have an actor of their own."""

    async def dedicated(self) -> Sequence[DedicatedAgent]: ...


@dataclass(kw_only=True)
class Supervisor:
    holder: str
    roles: Sequence[Role]
    backend: ActorBackend
    agents: DedicatedRegistry
    names: ActorNames
    leases: Leases
    clock: Clock
    #: Agents' own actors that have been asked whether they serve, by name. One that has no place does not answer.
    _waited_for: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    _led_at: float = field(default=float("-inf"), init=False)

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
        there = await self.backend.existing()
        by_role = {role: [name for name in there if self.backend.plays(name, role)] for role in self.roles}
        missing = [role for role in self.roles if not by_role[role]]
        for some in [missing] * bool(missing) + [[role] for role in self.roles]:
            if not await self._leads():
                return False
            await asyncio.gather(*(self._try_to_settle(role, by_role[role]) for role in some))
        if not await self._leads():
            return False
        await self._reconcile_dedicated({name for name in there if self.backend.is_of(name, DEDICATED_AGENT)})
        return True

    async def _leads(self) -> bool:
        """Who has lost the lease finishes nothing that it began for agents' own actors. A steady pass renews it once."""
        now = self.clock.now()
        if 0 <= now - self._led_at < LEAD_TTL_S:
            return True
        held = await self.leases.acquire(LEASE, self.holder, LEASE_TTL_S) is not None
        self._led_at = now if held else float("-inf")
        if not held:
            await self._wait_no_more(set(self._waited_for))
        return held

    async def _try_to_settle(self, role: Role, there: Sequence[str]) -> None:
        try:
            await self._settle(role, there)
        except ControlPlaneError as error:
            _logger.warning("%s does not serve yet: %s", role.key, error)

    async def _settle(self, role: Role, there: Sequence[str]) -> None:
        """The wanted actor serves, is published, and is the only one of its role, in this order."""
        await self._ensure(role)
        for name in there:
            if name != self.backend.desired_name(role):
                _logger.info("replacing %s", name)
                await self.backend.kill(name)

    async def _ensure(self, role: Role) -> None:
        desired = self.backend.desired_name(role)
        fingerprint = await self.backend.ensure(role)
        published = await self.names.current(role.key)
        if published is None or published.name != desired:
            await self.names.publish(ActorName(role=role.key, name=desired, fingerprint=fingerprint))

    # --- agents' own actors --------------------------------------------------------------------------------------

    async def _reconcile_dedicated(self, there: set[str]) -> None:
        roles = [dedicated_role(one.workspace, one.agent_id, one.needs) for one in await self.agents.dedicated()]
        desired = {self.backend.desired_name(role): role for role in roles}
        await self._wait_no_more(self._waited_for.keys() - desired.keys())
        for name in sorted(there - desired.keys()):
            _logger.info("ending %s", name)
            await self.names.withdraw(name)
            await self.backend.kill(name)
        for name, role in desired.items():  # also those that serve: one that Ray has started again begins when asked
            if name not in self._waited_for:
                self._waited_for[name] = asyncio.create_task(self._wait_for(name, role))

    async def _wait_for(self, name: str, role: Role) -> None:
        try:
            await self._ensure(role)
        except ControlPlaneError as error:
            _logger.warning("%s has no place yet: %s", name, error)
        except Exception as error:  # one agent's actor holds up nobody else's
            _logger.error("%s could not be made", name, exc_info=error)
        finally:
            self._waited_for.pop(name, None)

    async def _wait_no_more(self, names: set[str]) -> None:
        tasks = [self._waited_for.pop(name) for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        await self._wait_no_more(set(self._waited_for))
        self._led_at = float("-inf")
        await self.leases.release(LEASE, self.holder)
