"""The reconcile loop: compares the actors that should exist with those that do, and takes the steps from one to the other.

Level-triggered: every pass reads the present actors again, so a lost event or a crash in the middle of a pass does no harm. A
named lease in Postgres keeps two supervisors from acting at once.

For a fixed role the successor is started before the predecessor is ended. For a dedicated agent the predecessor is ended
first, because the successor may need the very GPU that it holds. A dedicated agent's actor may also wait for ever for a node
that has what it declares, so no pass waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.roles import DEDICATED_AGENT, Role, dedicated_role
from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.ports.actor_names import ActorName, ActorNames
from cluster.ports.agents import DedicatedAgent
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases
from cluster.process.loops import ended

_logger = logging.getLogger(__name__)

LEASE = "supervisor"
LEASE_TTL_S = 15.0
#: A lease that was renewed within this time is not renewed again. Much less than the lease, so that a long step ends within it.
RENEW_AFTER_S = 1.0
PASS_S = 2.0


class ActorBackend(Protocol):
    """What the loop needs of Ray, so that a test can run it without."""

    def desired_name(self, role: Role) -> str:
        """The name of the role's actor of this version."""

    async def ensure(self, role: Role) -> str:
        """Creates the role's actor of this version if there is none, waits until it serves and returns its fingerprint.

        Raises: `ActorUnavailable` if it cannot be created or does not serve in time."""

    async def existing(self) -> Sequence[str]:
        """Names of the deployment's actors of any version, including those that wait for a node with room."""

    def plays(self, name: str, role: Role) -> bool:
        """Whether an actor of that name plays the role, in any version."""

    def is_of(self, name: str, kind: str) -> bool:
        """Whether an actor of that name plays a role of the kind."""

    async def kill(self, name: str) -> None:
        """Ends an actor; does nothing if there is none of that name."""


class Keeper(Protocol):
    """What holds the actors to their bound on memory (`actors.memory_keeper`)."""

    async def look(self, actors: Mapping[str, str]) -> None:
        """Looks at the actors of the fixed roles, by role key and name."""


class DedicatedRegistry(Protocol):
    """The part of the registry that knows the dedicated agents."""

    async def dedicated(self) -> Sequence[DedicatedAgent]:
        """All dedicated agents."""


@dataclass(kw_only=True)
class Supervisor:
    """Keeps every role's actor existing, published and of this version."""

    #: Who it is when it acquires the lease.
    holder: str
    #: The fixed roles, in the order in which they are replaced.
    roles: Sequence[Role]
    backend: ActorBackend
    agents: DedicatedRegistry
    names: ActorNames
    leases: Leases
    clock: Clock
    #: None: nothing bounds the actors' memory.
    memory: Keeper | None = None
    #: Name of a dedicated agent's actor → the task that waits until it serves and publishes it. ``_reconcile_dedicated`` adds; a
    #: task removes itself when it ends. An actor for which no node has room does not answer, so its task stays.
    _waited_for: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    #: When the lease was acquired or renewed last; minus infinity if it is not held.
    _led_at: float = field(default=float("-inf"), init=False)

    async def run(self) -> None:
        """Reconciles until cancelled."""
        while True:
            try:
                await self.reconcile()
            except TryLater as error:
                _logger.warning("reconciling has to wait: %s", error)
            await self.clock.sleep(PASS_S)

    async def reconcile(self) -> bool:
        """One pass; False if another supervisor holds the lease.

        Roles without any actor get theirs first and at the same time; then roles are replaced one at a time.
        """
        there = await self.backend.existing()
        by_role = {role: [name for name in there if self.backend.plays(name, role)] for role in self.roles}
        missing = [role for role in self.roles if not by_role[role]]
        for step in [missing] * bool(missing) + [[role] for role in self.roles]:
            if not await self._leads():
                return False
            await asyncio.gather(*(self._try_to_settle(role, by_role[role]) for role in step))
        if not await self._leads():
            return False
        await self._reconcile_dedicated({name for name in there if self.backend.is_of(name, DEDICATED_AGENT)})
        if self.memory is not None:
            await self.memory.look({role.key: self.backend.desired_name(role) for role in self.roles})
        return True

    async def _leads(self) -> bool:
        """Whether this supervisor holds the lease, which it renews if ``RENEW_AFTER_S`` has passed. If it has lost it, it stops
        waiting for dedicated agents' actors, since another supervisor publishes them now."""
        now = self.clock.now()
        if 0 <= now - self._led_at < RENEW_AFTER_S:
            return True
        held = await self.leases.acquire(LEASE, self.holder, LEASE_TTL_S) is not None
        self._led_at = now if held else float("-inf")
        if not held:
            await self._wait_no_more(set(self._waited_for))
        return held

    async def _try_to_settle(self, role: Role, there: Sequence[str]) -> None:
        """A role that cannot be settled does not keep the pass from the others."""
        try:
            await self._settle(role, there)
        except ControlPlaneError as error:
            _logger.warning("%s does not serve yet: %s", role.key, error)

    async def _settle(self, role: Role, there: Sequence[str]) -> None:
        """Makes the desired actor serve, publishes it, and then ends all others of its role."""
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

    # --- dedicated agents' actors ------------------------------------------------------------------------------

    async def _reconcile_dedicated(self, there: set[str]) -> None:
        agents = await self.agents.dedicated()
        roles = [dedicated_role(agent.workspace, agent.agent_id, agent.needs) for agent in agents]
        desired = {self.backend.desired_name(role): role for role in roles}
        await self._wait_no_more(self._waited_for.keys() - desired.keys())
        for name in sorted(there - desired.keys()):
            _logger.info("ending %s", name)
            await self.names.withdraw(name)
            await self.backend.kill(name)
        # Those that serve are asked as well: an actor that Ray has started again begins to serve when it is called.
        for name, role in desired.items():
            if name not in self._waited_for:
                self._waited_for[name] = asyncio.create_task(self._wait_for(name, role))

    async def _wait_for(self, name: str, role: Role) -> None:
        try:
            await self._ensure(role)
        except ControlPlaneError as error:
            _logger.warning("%s does not serve yet: %s", name, error)
        except Exception as error:  # a fault of one agent's actor must not hold up the others
            _logger.error("%s could not be created", name, exc_info=error)
        finally:
            self._waited_for.pop(name, None)

    async def _wait_no_more(self, names: set[str]) -> None:
        await ended(*(self._waited_for.pop(name) for name in names))

    async def stop(self) -> None:
        """Stops waiting for actors and releases the lease, so that another supervisor can act at once."""
        await self._wait_no_more(set(self._waited_for))
        self._led_at = float("-inf")
        await self.leases.release(LEASE, self.holder)
