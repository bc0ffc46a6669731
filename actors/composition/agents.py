"""The maker of agent hosts."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from actors.agents.host import AgentHost
from actors.agents.membership import LiveHosts
from actors.composition.resources import Context, exchange_with
from actors.roles import (
    SCHEDULER,
    Role,
)
from cluster.agent_transports.a2a import A2ATransport
from cluster.agent_transports.python import PythonTransport
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.selection import Strategy
from cluster.ports.agent_transport import AgentTransport, Ask, Reply
from cluster.rpc.exchange import ExchangeClient


def make(it: Context) -> Any:
    transports = it.parts.transports
    python = PythonTransport(may_import=it.parts.settings.may_import)
    others: Mapping[TransportKind, AgentTransport] = {
        TransportKind.IMPORT: python,
        TransportKind.A2A: A2ATransport(transports.pool),
    }
    shard = ExchangeClient(
        it.owner,
        exchange_with(it.reach(Role(kind=SCHEDULER), it.parts.stores.names)),
        clock=it.parts.clock,
        orphan=lambda answer: host.release(answer),
    )

    async def ask(ask: Ask) -> Reply:
        return await others.get(ask.transport, transports).ask(ask)

    @functools.cache
    def neighbour(role: Role) -> Callable[..., Awaitable[Any]]:
        return it.reach(role, it.parts.stores.names)

    async def stand(role: Role) -> None:
        await neighbour(role)("stand")

    host = AgentHost(
        role=it.role,
        hosts=live_hosts(it),
        owner=it.owner,
        region=it.parts.settings.region,
        agents=it.parts.stores.agents,
        tasks=it.parts.stores.tasks,
        breakers=it.parts.stores.breakers,
        leases=it.parts.stores.leases,
        log=it.parts.stores.log,
        doorbell=it.parts.doorbell,
        clock=it.parts.clock,
        ask=ask,
        shard=shard,
        stand=stand,
        strategy=Strategy(it.parts.settings.agent_selection),
        draw=random.SystemRandom().random,
        lease_ttl_s=it.parts.settings.heartbeat_timeout,
        died=it.died,
    )
    return host


def live_hosts(it: Context) -> LiveHosts:
    return LiveHosts(it.parts.stores.leases, it.parts.stores.agents, it.parts.clock, it.parts.settings.agent_hosts)
