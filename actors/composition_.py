"""Composition root of an actor's process: settings, stores and the plain actor of a role.

What only some roles need is imported by their makers: a process that starts again pays for every import.
"""

from __future__ import annotations

import functools
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.agents.membership import HostCalls, LiveHosts
from actors.roles import (
    AGENT_HOST,
    DEDICATED_AGENT,
    DELIBERATION,
    HEALTH_MONITOR,
    REGION_LEADER,
    SCHEDULER,
    TELEMETRY,
    Role,
)
from cluster.domain.agents.agent import Agent, TransportKind
from cluster.domain.agents.selection import Strategy
from cluster.ports.actor_names import ActorNames
from cluster.ports.clock import Clock
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from cluster.process.loops import Died
from cluster.redis.pool import connect
from cluster.redis.presence import RedisHeartbeats
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.exchange import ExchangeCall, ExchangeClient
from cluster.settings import Settings, load_settings

if TYPE_CHECKING:
    from cluster.agent_transports.chat import HttpTransports
    from cluster.ports.agent_transport import AgentTransport, Ask, Reply

LOOPBACK = ("127.0.0.0/8", "::1/128")


#: Whether the actor that asks is the one whose name is published for its role, or nobody's is.
Wanted = Callable[[], Awaitable[bool]]

#: Makes the caller of a role from the published names; given by the runtime, so that nothing here knows Ray.
Reach = Callable[[Role, ActorNames], Callable[..., Awaitable[Any]]]


def urls(settings: Settings) -> tuple[str, str]:
    assert settings.database_url is not None, "checked by load_process_settings"
    assert settings.redis_url is not None
    return settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()


def load_process_settings() -> Settings:
    """Settings of this process; both stores must be named."""
    settings = load_settings()
    missing = [
        name
        for name, value in (("ARAGORA_DATABASE_URL", settings.database_url), ("ARAGORA_REDIS_URL", settings.redis_url))
        if value is None
    ]
    if missing:
        raise RuntimeError(f"{' and '.join(missing)} must be set; `aragora-cp up` does it for one machine.")
    level = {"warn": "WARNING"}.get(settings.log_level, settings.log_level.upper())
    for room in ("actors", "cluster", "serve_app", "regions"):
        logging.getLogger(room).setLevel(level)
    return settings


class Parts:
    """What every actor process has."""

    def __init__(self, settings: Settings, stores: Stores) -> None:
        self.settings = settings
        self.stores = stores
        self.clock: Clock = SystemClock()
        self.redis = connect(urls(settings)[1], max_connections=settings.pool_max_connections)
        self.doorbell = RedisDoorbell(self.redis, settings.redis_prefix)
        self.heartbeats = RedisHeartbeats(self.redis, settings.redis_prefix)

    @classmethod
    async def open(cls, settings: Settings, application: str, connections: int) -> Parts:
        stores = await open_stores(
            urls(settings)[0],
            settings.database_schema,
            settings.region,
            max_connections=connections,
            application=application[:60],
        )
        return cls(settings, stores)

    @functools.cached_property
    def transports(self) -> HttpTransports:
        """To agents over HTTP; of the actors that call any."""
        from actors.health_monitor import PROBES_AT_ONCE
        from cluster.agent_transports.chat import HttpTransports, Provider

        settings = self.settings
        providers = []
        if settings.openai_api_key is not None:
            bearer = {"Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"}
            providers.append(Provider(base_url=settings.openai_base_url, headers=bearer))
        if settings.anthropic_api_key is not None:
            key = {"x-api-key": settings.anthropic_api_key.get_secret_value()}
            providers.append(Provider(base_url=settings.anthropic_base_url, headers=key))
        allowed = (*settings.allowed_networks, *(LOOPBACK if settings.embedded else ()))
        return HttpTransports(
            allowed_networks=allowed,
            pool_size=settings.http_pool_size,
            timeout_s=settings.http_timeout,
            providers=providers,
            probe_connections=PROBES_AT_ONCE,
        )


async def build(role: Role, name: str, *, died: Died, reach: Reach) -> Any:
    """The started actor of a role."""
    parts = await Parts.open(load_process_settings(), name, connections=4)

    async def wanted() -> bool:
        published = await parts.stores.names.current(role.key)
        return published is None or published.name == name

    actor = make(parts, role, f"{name}:{os.getpid()}", wanted=wanted, died=died, reach=reach)
    await actor.start()
    return actor


@dataclass(frozen=True, slots=True)
class Context:
    """What an actor is made from. ``owner`` names its process in leases."""

    parts: Parts
    role: Role
    owner: str
    wanted: Wanted
    died: Died
    reach: Reach


def make(parts: Parts, role: Role, owner: str, *, wanted: Wanted, died: Died, reach: Reach) -> Any:
    """The plain actor of a role, not yet started."""
    context = Context(parts, role, owner, wanted, died, reach)
    return _MAKERS[role.kind](context)


def _scheduler(it: Context) -> Any:
    from actors.scheduler.shard import SchedulerShard

    return SchedulerShard(
        shard=it.role.key,
        owner=it.owner,
        tasks=it.parts.stores.tasks,
        log=it.parts.stores.log,
        region=it.parts.stores.region,
        doorbell=it.parts.doorbell,
        clock=it.parts.clock,
        lease_ttl_s=it.parts.settings.heartbeat_timeout,
        wanted=it.wanted,
        died=it.died,
        controls=it.parts.stores.controls,
        agents=it.parts.stores.agents,
        idempotency_window_s=it.parts.settings.idempotency_window,
        cleanup_s=it.parts.settings.cleanup_interval,
    )


def _agent_host(it: Context) -> Any:
    from actors.agents.host import AgentHost
    from cluster.agent_transports.a2a import A2ATransport
    from cluster.agent_transports.python import PythonTransport

    transports = it.parts.transports
    python = PythonTransport(may_import=it.parts.settings.may_import)
    others: Mapping[TransportKind, AgentTransport] = {
        TransportKind.IMPORT: python,
        TransportKind.A2A: A2ATransport(transports.pool),
    }
    shard = ExchangeClient(
        it.owner,
        _exchange(it.reach(Role(kind=SCHEDULER), it.parts.stores.names)),
        clock=it.parts.clock,
        orphan=lambda answer: host.give_back(answer),
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
        hosts=_live_hosts(it),
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


def _live_hosts(it: Context) -> LiveHosts:
    return LiveHosts(it.parts.stores.leases, it.parts.stores.agents, it.parts.clock, it.parts.settings.agent_hosts)


def _deliberation(it: Context) -> Any:
    from actors.deliberation.worker import DeliberationWorker
    from cluster.learning.weight_learner import Learner, owners_from

    def exchange(role: Role) -> ExchangeClient:
        return ExchangeClient(it.owner, _exchange(it.reach(role, it.parts.stores.names)), clock=it.parts.clock)

    return DeliberationWorker(
        name=it.owner,
        index=it.role.index,
        workers=it.parts.settings.deliberation_workers,
        store=it.parts.stores.deliberations,
        agents=it.parts.stores.agents,
        weights=Learner(it.parts.stores.outcomes, owners_from(it.parts.stores.agents), it.parts.clock),
        log=it.parts.stores.log,
        doorbell=it.parts.doorbell,
        clock=it.parts.clock,
        call_agent=HostCalls(_live_hosts(it), exchange, it.parts.clock).call,
        died=it.died,
    )


def _exchange(call: Callable[..., Awaitable[Any]]) -> Callable[[ExchangeCall], Awaitable[Any]]:
    async def exchange(message: ExchangeCall) -> Any:
        return await call("exchange", message)

    return exchange


#: Below an agent's endpoint; others are probed at the endpoint itself.
_PROBE_PATHS: Mapping[TransportKind, str] = {
    TransportKind.OPENAI: "/models",
    TransportKind.ANTHROPIC: "/v1/models",
    TransportKind.A2A: "/.well-known/agent-card.json",
}


def _health_monitor(it: Context) -> Any:
    from actors.health_monitor import HealthMonitor

    transports = it.parts.transports
    telemetry = it.reach(Role(kind=TELEMETRY), it.parts.stores.names)

    async def probe(agent: Agent) -> float:
        assert agent.endpoint is not None
        started = time.perf_counter()
        path = _PROBE_PATHS.get(agent.transport, "")
        url = agent.endpoint.rstrip("/") + path if path else agent.endpoint
        await transports.probe(url)
        return time.perf_counter() - started

    async def push(increments: Any) -> None:
        await telemetry("push", list(increments), timeout_s=5.0)

    settings = it.parts.settings
    return HealthMonitor(
        log=it.parts.stores.log,
        doorbell=it.parts.doorbell,
        clock=it.parts.clock,
        agents=it.parts.stores.agents,
        breakers=it.parts.stores.breakers,
        heartbeats=it.parts.heartbeats,
        probe=probe,
        push=push,
        timeout_s=settings.heartbeat_timeout,
        sweep_s=min(settings.cleanup_interval, settings.heartbeat_timeout / 3),
        died=it.died,
    )


def _region_leader(it: Context) -> Any:
    from actors.region_leader import RegionLeader

    return RegionLeader(
        region=it.parts.settings.region,
        holder=it.owner,
        region_store=it.parts.stores.region,
        leases=it.parts.stores.leases,
        clock=it.parts.clock,
        ttl_s=it.parts.settings.stale_leader_threshold,
        died=it.died,
    )


def _telemetry(it: Context) -> Any:
    from actors.telemetry import Telemetry

    settings = it.parts.settings
    return Telemetry(
        log=it.parts.stores.log,
        clock=it.parts.clock,
        agents=it.parts.stores.agents,
        tasks=it.parts.stores.tasks,
        store=it.parts.stores.telemetry,
        listen=(settings.http_host, settings.prometheus_port) if settings.enable_metrics else None,
        died=it.died,
    )


_MAKERS: dict[str, Callable[..., Any]] = {
    SCHEDULER: _scheduler,
    AGENT_HOST: _agent_host,
    DEDICATED_AGENT: _agent_host,
    DELIBERATION: _deliberation,
    HEALTH_MONITOR: _health_monitor,
    REGION_LEADER: _region_leader,
    TELEMETRY: _telemetry,
}
