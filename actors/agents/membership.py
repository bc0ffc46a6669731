"""Which agent hosts live, and which host owns an agent. Each host's process holds a lease of its own. Every process reads
the same leases and the same list of agents that have an actor to themselves, and so finds the same owner.

If a process hangs or cannot be reached, its lease ends after ``TTL_S``. A process that was killed is noticed sooner: each
host keeps a call open to the next host. If that call breaks and the lease is not renewed afterwards, the caller ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from actors.roles import AGENT_HOST, Role, agent_digest, dedicated_role
from cluster.domain.agents.calls import AgentCall, Reply
from cluster.domain.agents.placement import owner_host, watched_host
from cluster.domain.base.errors import AgentUnavailable, Misrouted, StoreUnavailable, TryLater
from cluster.ports.agents import DedicatedAgent
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases
from cluster.rpc.exchange import ExchangeClient

_logger = logging.getLogger(__name__)

#: Prefix of the leases' names, "carrier:<slot>:<process>". The slot is a host's index or stands for an agent that has its
#: own actor. (A stored name: "carrier" was the word for a host that owns agents.)
PREFIX = "carrier:"
#: How long a lease lasts, and how often it is renewed.
TTL_S = 6.0
RENEW_S = 0.5
#: How old the copy of the leases may be.
VIEW_TTL_S = 1.0
#: How long to wait for a renewal after the open call to a host broke: a living process renews its lease within this time.
SUSPECT_S = 1.0
#: How long a call to a neighbour stays open before it is made again.
STAND_S = 20.0
#: Leases that ended longer ago than this are deleted.
FORGET_S = 3600.0


def host_slot_of(role: Role) -> str:
    """The host slot of an agent host's role, as it stands in the name of a lease."""
    return str(role.index) if role.agent is None else dedicated_slot(*role.agent)


def dedicated_slot(workspace: str, agent_id: str) -> str:
    return f"own-{agent_digest(workspace, agent_id)}"


def lease_name(host_slot: str, owner: str) -> str:
    return f"{PREFIX}{host_slot}:{owner}"


def held_slots(names: Iterable[str]) -> dict[str, str]:
    """Reads names of leases: process → host slot."""
    split = (name.removeprefix(PREFIX).partition(":") for name in names)
    return {owner: host_slot for host_slot, _, owner in split}


class DedicatedAgents(Protocol):
    async def dedicated(self) -> Sequence[DedicatedAgent]: ...


class LiveHosts:
    """A copy of the hosts' leases, read again when it is older than ``VIEW_TTL_S``; while the store is away the last copy
    stays. If no host holds a lease yet, assume that all ``count`` hosts are alive."""

    def __init__(self, leases: Leases, agents: DedicatedAgents, clock: Clock, count: int) -> None:
        self._leases = leases
        self._agents = agents
        self._clock = clock
        #: Indexes of the hosts that there should be; a lease of any other index is ignored.
        self._all = tuple(range(count))
        #: What `_read` last found, all of it together: indexes of the hosts that hold a lease, in order; process → host
        #: slot of all leases; and the role of each agent that has an actor to itself.
        self._known: tuple[int, ...] = ()
        self._owners: Mapping[str, str] = {}
        self._dedicated: dict[tuple[str, str], Role] = {}
        #: When it was read. Only a read that succeeds moves it.
        self._read_at = float("-inf")
        #: Held while the store is read: reads do not overlap, and many callers who find the copy too old cause one read.
        self._reading = asyncio.Lock()

    async def alive(self) -> tuple[int, ...]:
        """Indexes of the living hosts, in order."""
        await self._refresh()
        return self._known or self._all

    async def owners(self) -> Mapping[str, str]:
        """The host slot of each living process, those of agents' own actors included."""
        await self._refresh()
        return self._owners

    async def look(self) -> None:
        """Reads the leases now, however new the copy is. Raises: `TryLater` if the store is away."""
        async with self._reading:
            await self._read()

    async def _refresh(self) -> None:
        async with self._reading:
            if self._clock.now() - self._read_at >= VIEW_TTL_S:
                with contextlib.suppress(TryLater):
                    await self._read()

    async def _read(self) -> None:
        held = held_slots(await self._leases.held(PREFIX))
        own = [(agent.workspace, agent.agent_id) for agent in await self._agents.dedicated()]
        indexes = {int(host_slot) for host_slot in held.values() if host_slot.isdigit()}
        self._known = tuple(sorted(indexes & set(self._all)))
        self._owners = held
        self._dedicated = {key: dedicated_role(*key) for key in own}
        self._read_at = self._clock.now()

    async def owner_host(self, workspace: str, agent_id: str) -> Role:
        """The role whose actor owns the agent. An agent's own actor may not run yet."""
        alive = await self.alive()
        own = self._dedicated.get((workspace, agent_id))
        if own is not None:
            return own
        index = owner_host(workspace, agent_id, alive)
        assert index is not None
        return Role(kind=AGENT_HOST, index=index)

    async def expired(self, role: Role) -> bool:
        """Whether the role's actor will answer no more: the host is lost, or the agent has no actor to itself any more."""
        alive = await self.alive()
        return role.agent not in self._dedicated if role.agent is not None else role.index not in alive


class Membership:
    """The lease of one host's process. ``owner`` is "<actor's name>:<process id>"."""

    def __init__(self, leases: Leases, role: Role, owner: str) -> None:
        self._leases = leases
        self._host_slot = host_slot_of(role)
        self._owner = owner
        self._name = lease_name(self._host_slot, owner)

    async def join(self) -> None:
        """Takes the lease and releases those of earlier processes of this actor: Ray restarts an actor only after its
        process has ended."""
        await self.renew()
        await self._leases.forget(PREFIX, FORGET_S)
        actor = self._owner.rpartition(":")[0]
        for name in await self._leases.held(lease_name(self._host_slot, f"{actor}:")):
            if name != self._name:
                await self._leases.release(name, name)

    async def renew(self) -> None:
        """Renews the lease, or takes it again if it has ended."""
        await self._leases.acquire(self._name, self._name, TTL_S)

    async def leave(self) -> None:
        """Releases the lease; if the store is away, the lease ends by itself."""
        with contextlib.suppress(TryLater):
            await self._leases.release(self._name, self._name)


class NeighbourWatch:
    """Notices that the next host's process has died. ``stand(role)`` calls that host and stays open while it lives."""

    def __init__(
        self, hosts: LiveHosts, leases: Leases, clock: Clock, owner: str, stand: Callable[[Role], Awaitable[None]]
    ) -> None:
        self._hosts = hosts
        self._leases = leases
        self._clock = clock
        self._owner = owner
        self._stand = stand

    async def lost(self) -> None:
        """Waits until a neighbour has died and its lease has been ended."""
        while True:
            try:
                if await self._watch():
                    return
            except TryLater:
                await self._clock.sleep(RENEW_S)

    async def _watch(self) -> bool:
        held = {
            owner: int(host_slot) for owner, host_slot in (await self._hosts.owners()).items() if host_slot.isdigit()
        }
        watched = watched_host(self._owner, held)
        if watched is None:
            await self._clock.sleep(RENEW_S)
            return False
        index, neighbour = watched
        try:
            async with asyncio.timeout(2 * STAND_S):
                await self._stand(Role(kind=AGENT_HOST, index=index))
            return False
        except StoreUnavailable:  # says nothing about the neighbour
            raise
        except Exception as error:  # noqa: BLE001 - a call to a process that dies breaks in more ways than one
            _logger.info("the open call to host %s broke: %r", neighbour, error)
            await self._clock.sleep(SUSPECT_S)
        if not await self._leases.end_unrenewed(lease_name(str(index), neighbour), TTL_S - SUSPECT_S):
            return False
        _logger.warning("host %s is dead; its agents move at once", neighbour)
        return True


class HostCalls:
    """Calls agents through the hosts that own them. If that host is lost, the call goes to the next owner, under the same
    key and within the same time."""

    def __init__(self, hosts: LiveHosts, exchange: Callable[[Role], ExchangeClient], clock: Clock) -> None:
        self._hosts = hosts
        self._exchange = exchange
        self._clock = clock
        #: The exchange with each role that was called. `_client` adds one, and removes those of roles that have expired.
        self._clients: dict[Role, ExchangeClient] = {}

    async def call(self, call: AgentCall) -> Reply:
        """Returns the agent's answer. Raises: `AgentUnavailable` if no host answers in time; any error that the host
        answers."""
        started = self._clock.now()
        try:
            async with asyncio.timeout(call.timeout_s + 1.0):
                while True:
                    left_s = call.timeout_s - (self._clock.now() - started)
                    reply = await self._through_owner(replace(call, timeout_s=max(0.001, left_s)))
                    if reply is not None:
                        return reply
        except TimeoutError:
            raise AgentUnavailable(f"The host of agent {call.agent_id} did not answer in time.") from None

    async def _through_owner(self, call: AgentCall) -> Reply | None:
        """None if the owner has changed and has to be looked up again."""
        role = await self._hosts.owner_host(call.workspace, call.agent_id)
        asked = asyncio.ensure_future((await self._client(role)).request(call, long_poll=True))
        try:
            while not (await asyncio.wait({asked}, timeout=VIEW_TTL_S))[0]:
                if await self._hosts.expired(role):
                    _logger.info("the host %s of agent %s is gone, asking the next one", role.key, call.agent_id)
                    return None
            reply: Reply = asked.result()
        except Misrouted:
            await self._clock.sleep(VIEW_TTL_S / 2)
            return None
        finally:
            asked.cancel()
        return reply

    async def _client(self, role: Role) -> ExchangeClient:
        client = self._clients.get(role)
        if client is None:
            for expired in [known for known in self._clients if await self._hosts.expired(known)]:
                self._clients.pop(expired, None)
            client = self._clients[role] = self._exchange(role)
        return client
