"""Which agent hosts live, and who carries an agent: each host holds a lease of its own, and everybody reads the same
leases and the same list of agents that have an actor to themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from actors.messages import AgentCall, AgentReply
from actors.roles import AGENT_HOST, DEDICATED_AGENT, Role, agent_digest, dedicated_role
from cluster.domain.errors import AgentUnavailable, Misrouted, TryLater
from cluster.domain.placement import carrier
from cluster.exchange import ExchangeClient
from cluster.ports import Clock, DedicatedAgent, Leases

_logger = logging.getLogger(__name__)

PREFIX = f"{AGENT_HOST}:"
DEDICATED_PREFIX = f"{DEDICATED_AGENT}:"
TTL_S = 6.0
RENEW_S = 2.0
FRESH_S = 1.0


def lease_name(role: Role) -> str:
    return f"{PREFIX}{role.index}" if role.agent is None else dedicated_lease(*role.agent)


def dedicated_lease(workspace: str, agent_id: str) -> str:
    return f"{DEDICATED_PREFIX}{agent_digest(workspace, agent_id)}"


class DedicatedAgents(Protocol):
    async def dedicated(self) -> Sequence[DedicatedAgent]: ...


class LiveHosts:
    """A copy that is at most ``FRESH_S`` old. While nobody is known to live, all ``count`` hosts are taken to."""

    def __init__(self, leases: Leases, agents: DedicatedAgents, clock: Clock, count: int) -> None:
        self._leases = leases
        self._agents = agents
        self._clock = clock
        self._all = tuple(range(count))
        self._known: tuple[int, ...] = ()
        self._dedicated: dict[tuple[str, str], Role] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def alive(self) -> tuple[int, ...]:
        await self._refresh()
        return self._known or self._all

    async def _refresh(self) -> None:
        async with self._reading:
            if self._clock.now() - self._read_at >= FRESH_S:
                with contextlib.suppress(TryLater):
                    await self._read()

    async def _read(self) -> None:
        held = await self._leases.held(PREFIX)
        own = [(one.workspace, one.agent_id) for one in await self._agents.dedicated()]
        indexes = (int(name.removeprefix(PREFIX)) for name in held)
        self._known = tuple(sorted(index for index in indexes if index in self._all))
        self._dedicated = {key: dedicated_role(*key) for key in own}
        self._read_at = self._clock.now()

    async def carrier(self, workspace: str, agent_id: str) -> Role:
        """The role whose actor carries the agent. An agent's own actor may have no place yet."""
        alive = await self.alive()
        own = self._dedicated.get((workspace, agent_id))
        if own is not None:
            return own
        index = carrier(workspace, agent_id, alive)
        assert index is not None
        return Role(kind=AGENT_HOST, index=index)

    async def gone(self, role: Role) -> bool:
        """Nothing that was asked of it will be answered: the host is lost, or the agent is nobody's own any more."""
        alive = await self.alive()
        return role.agent not in self._dedicated if role.agent is not None else role.index not in alive


class Membership:
    """One host's lease. A successor in the same role takes it over at once."""

    def __init__(self, leases: Leases, clock: Clock, role: Role) -> None:
        self._leases = leases
        self._clock = clock
        self._name = lease_name(role)

    async def renew(self) -> None:
        await self._leases.acquire(self._name, self._name, TTL_S)

    async def leave(self) -> None:
        with contextlib.suppress(TryLater):
            await self._leases.release(self._name, self._name)


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
                    reply = await self._through_carrier(replace(call, timeout_s=max(0.001, left_s)))
                    if reply is not None:
                        return reply
        except TimeoutError:
            raise AgentUnavailable(f"The host of agent {call.agent_id} did not answer in time.") from None

    async def _through_carrier(self, call: AgentCall) -> AgentReply | None:
        """None when it has to be looked for again."""
        role = await self._hosts.carrier(call.workspace, call.agent_id)
        asked = asyncio.ensure_future((await self._client(role)).request(call, patient=True))
        try:
            while not (await asyncio.wait({asked}, timeout=FRESH_S))[0]:
                if await self._hosts.gone(role):
                    _logger.info("the host %s of agent %s is gone, asking the next one", role.key, call.agent_id)
                    return None
            reply: AgentReply = asked.result()
        except Misrouted:
            await self._clock.sleep(FRESH_S / 2)
            return None
        finally:
            asked.cancel()
        return reply

    async def _client(self, role: Role) -> ExchangeClient:
        client = self._clients.get(role)
        if client is None:
            for one in [one for one in self._clients if await self._hosts.gone(one)]:
                self._clients.pop(one, None)
            client = self._clients[role] = self._exchange(role)
        return client
