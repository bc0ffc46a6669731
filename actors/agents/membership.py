"""Which agent hosts live, and who carries an agent: each host's process holds a lease of its own, and everybody reads
the same leases and the same list of agents that have an actor to themselves.

A lease tells of a process that hangs or cannot be reached after ``TTL_S``. One that was killed is found out sooner: each
host keeps a call open at the next one, and when it breaks, and no renewal follows it, the caller ends that lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from actors.messages import AgentCall, AgentReply
from actors.roles import AGENT_HOST, Role, agent_digest, dedicated_role
from cluster.domain.agents.placement import owner_host
from cluster.domain.base.errors import AgentUnavailable, Misrouted, StoreUnavailable, TryLater
from cluster.ports.agents import DedicatedAgent
from cluster.ports.clock import Clock
from cluster.ports.leases import Leases
from cluster.rpc.exchange import ExchangeClient

_logger = logging.getLogger(__name__)

#: Of leases "carrier:<slot>:<process>"; the slot is a host's index or stands for an agent that has its own actor.
PREFIX = "carrier:"
TTL_S = 6.0
RENEW_S = 0.5
VIEW_TTL_S = 1.0
#: After the open call to it broke, a living process has renewed its lease within this time.
SUSPECT_S = 1.0
#: How long an open call stays open.
STAND_S = 20.0
#: Leases that ended longer ago are forgotten.
FORGET_S = 3600.0


def host_slot_of(role: Role) -> str:
    return str(role.index) if role.agent is None else dedicated_slot(*role.agent)


def dedicated_slot(workspace: str, agent_id: str) -> str:
    return f"own-{agent_digest(workspace, agent_id)}"


def lease_name(host_slot: str, owner: str) -> str:
    return f"{PREFIX}{host_slot}:{owner}"


def held_slots(names: Iterable[str]) -> dict[str, str]:
    """Which process has which host slot: process → slot."""
    split = (name.removeprefix(PREFIX).partition(":") for name in names)
    return {owner: host_slot for host_slot, _, owner in split}


class DedicatedAgents(Protocol):
    async def dedicated(self) -> Sequence[DedicatedAgent]: ...


class LiveHosts:
    """A copy that is at most ``VIEW_TTL_S`` old. While nobody is known to live, all ``count`` hosts are taken to."""

    def __init__(self, leases: Leases, agents: DedicatedAgents, clock: Clock, count: int) -> None:
        self._leases = leases
        self._agents = agents
        self._clock = clock
        self._all = tuple(range(count))
        self._known: tuple[int, ...] = ()
        self._owners: Mapping[str, str] = {}
        self._dedicated: dict[tuple[str, str], Role] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def alive(self) -> tuple[int, ...]:
        await self._refresh()
        return self._known or self._all

    async def owners(self) -> Mapping[str, str]:
        """The living processes, those of agents' own actors among them, and the host slot that each has."""
        await self._refresh()
        return self._owners

    async def look(self) -> None:
        """Reads anew, however fresh the copy is."""
        async with self._reading:
            await self._read()

    async def _refresh(self) -> None:
        async with self._reading:
            if self._clock.now() - self._read_at >= VIEW_TTL_S:
                with contextlib.suppress(TryLater):
                    await self._read()

    async def _read(self) -> None:
        held = held_slots(await self._leases.held(PREFIX))
        own = [(one.workspace, one.agent_id) for one in await self._agents.dedicated()]
        indexes = {int(host_slot) for host_slot in held.values() if host_slot.isdigit()}
        self._known = tuple(sorted(indexes & set(self._all)))
        self._owners = held
        self._dedicated = {key: dedicated_role(*key) for key in own}
        self._read_at = self._clock.now()

    async def owner_host(self, workspace: str, agent_id: str) -> Role:
        """The role whose actor carries the agent. An agent's own actor may not run yet."""
        alive = await self.alive()
        own = self._dedicated.get((workspace, agent_id))
        if own is not None:
            return own
        index = owner_host(workspace, agent_id, alive)
        assert index is not None
        return Role(kind=AGENT_HOST, index=index)

    async def expired(self, role: Role) -> bool:
        """Nothing that was asked of it will be answered: the host is lost, or the agent is nobody's own any more."""
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
        """Ray starts an actor again when its process is gone, so what other processes of this actor held is free."""
        await self.renew()
        await self._leases.forget(PREFIX, FORGET_S)
        actor = self._owner.rpartition(":")[0]
        for name in await self._leases.held(lease_name(self._host_slot, f"{actor}:")):
            if name != self._name:
                await self._leases.release(name, name)

    async def renew(self) -> None:
        await self._leases.acquire(self._name, self._name, TTL_S)

    async def leave(self) -> None:
        with contextlib.suppress(TryLater):
            await self._leases.release(self._name, self._name)


class NeighbourWatch:
    """Finds out that the next host's process has died. ``stand(role)`` is a call that stays open as long as that host
    lives."""

    def __init__(
        self, hosts: LiveHosts, leases: Leases, clock: Clock, owner: str, stand: Callable[[Role], Awaitable[None]]
    ) -> None:
        self._hosts = hosts
        self._leases = leases
        self._clock = clock
        self._owner = owner
        self._stand = stand

    async def lost(self) -> None:
        """Returns when the lease of a dead neighbour has been ended."""
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
        mine = held.get(self._owner)
        others = sorted((index, owner) for owner, index in held.items() if index != mine)
        if mine is None or not others:
            await self._clock.sleep(RENEW_S)
            return False
        index, neighbour = next((other for other in others if other[0] > mine), others[0])
        try:
            async with asyncio.timeout(2 * STAND_S):
                await self._stand(Role(kind=AGENT_HOST, index=index))
            return False
        except StoreUnavailable:  # which says nothing of the neighbour
            raise
        except Exception as error:  # a call to a process that dies breaks in more ways than one
            _logger.info("the open call to host %s broke: %r", neighbour, error)
            await self._clock.sleep(SUSPECT_S)
        if not await self._leases.end_unrenewed(lease_name(str(index), neighbour), TTL_S - SUSPECT_S):
            return False
        _logger.warning("host %s is dead; its agents move at once", neighbour)
        return True


class HostCalls:
    """Calls to agents, through whoever carries them. A call whose carrier is lost goes to the next one, under the same
    key and within the same time."""

    def __init__(self, hosts: LiveHosts, exchange: Callable[[Role], ExchangeClient], clock: Clock) -> None:
        self._hosts = hosts
        self._exchange = exchange
        self._clock = clock
        self._clients: dict[Role, ExchangeClient] = {}

    async def call(self, call: AgentCall) -> AgentReply:
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

    async def _through_owner(self, call: AgentCall) -> AgentReply | None:
        """None when it has to be looked for again."""
        role = await self._hosts.owner_host(call.workspace, call.agent_id)
        asked = asyncio.ensure_future((await self._client(role)).request(call, long_poll=True))
        try:
            while not (await asyncio.wait({asked}, timeout=VIEW_TTL_S))[0]:
                if await self._hosts.expired(role):
                    _logger.info("the host %s of agent %s is gone, asking the next one", role.key, call.agent_id)
                    return None
            reply: AgentReply = asked.result()
        except Misrouted:
            await self._clock.sleep(VIEW_TTL_S / 2)
            return None
        finally:
            asked.cancel()
        return reply

    async def _client(self, role: Role) -> ExchangeClient:
        client = self._clients.get(role)
        if client is None:
            for one in [one for one in self._clients if await self._hosts.expired(one)]:
                self._clients.pop(one, None)
            client = self._clients[role] = self._exchange(role)
        return client
