"""The maker of agent hosts."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from actors.agents.host import AgentHost
from actors.agents.membership import LiveHosts
from actors.agents.traced_calls import traced_ask
from actors.composition.resources import Context, exchange_with
from actors.roles import (
    SCHEDULER,
    Role,
)
from cluster.agent_transports.a2a import A2ATransport
from cluster.agent_transports.python import PythonTransport
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.calls import Reply
from cluster.domain.agents.selection import Strategy
from cluster.domain.base.errors import AgentNotCalled, TryLater
from cluster.ports.agent_transport import AgentTransport, Ask
from cluster.process import spans
from cluster.rpc.exchange import ExchangeClient

if TYPE_CHECKING:
    from cluster.log.replication_gate import ReplicationGate


def make(it: Context) -> Any:
    transports = it.resources.transports
    python = PythonTransport(may_import=it.resources.settings.may_import)
    others: Mapping[TransportKind, AgentTransport] = {
        TransportKind.IMPORT: python,
        TransportKind.A2A: A2ATransport(transports.client, client_for=transports.client_for),
    }
    shard = ExchangeClient(
        it.owner,
        exchange_with(it.resolve(Role(kind=SCHEDULER), it.resources.stores.names)),
        clock=it.resources.clock,
        late_reply=lambda answer: host.release(answer),
    )

    async def ask(call: Ask) -> Reply:
        return await others.get(call.transport, transports).ask(call)

    @functools.cache
    def neighbour(role: Role) -> Callable[..., Awaitable[Any]]:
        return it.resolve(role, it.resources.stores.names)

    async def stand(role: Role) -> None:
        await neighbour(role)("stand")

    host = AgentHost(
        role=it.role,
        hosts=live_hosts(it),
        owner=it.owner,
        region=it.resources.settings.region,
        agents=it.resources.stores.agents,
        tasks=it.resources.stores.tasks,
        chunks=it.resources.stores.chunks,
        breakers=it.resources.stores.breakers,
        leases=it.resources.stores.leases,
        log=it.resources.stores.log,
        doorbell=it.resources.doorbell,
        clock=it.resources.clock,
        ask=ask if spans.tracer is None else traced_ask(ask),
        shard=shard,
        stand=stand,
        strategy=Strategy(it.resources.settings.agent_selection),
        draw=random.SystemRandom().random,
        lease_ttl_s=it.resources.settings.heartbeat_timeout,
        on_fatal=it.on_fatal,
        may_leave=None if it.resources.gate is None else functools.partial(_passed, it.resources.gate),
    )
    return host


async def _passed(gate: ReplicationGate) -> None:
    """What an agent is asked rests on rows, and so does that it is asked.

    Raises: `AgentNotCalled` if they are not replicated in time."""
    try:
        await gate.passed()
    except TryLater as error:
        raise AgentNotCalled(error.message, error.code) from None


def live_hosts(it: Context) -> LiveHosts:
    return LiveHosts(
        it.resources.stores.leases, it.resources.stores.agents, it.resources.clock, it.resources.settings.agent_hosts
    )
