"""The maker of the health monitor."""

from __future__ import annotations

import time
from typing import Any

from actors.composition.resources import Context
from actors.health_monitor import HealthMonitor
from actors.roles import (
    TELEMETRY,
    Role,
)
from cluster.agent_transports.wire_formats import probe_url
from cluster.domain.agents.agent import Agent


def make(it: Context) -> Any:
    transports = it.resources.transports
    telemetry = it.resolve(Role(kind=TELEMETRY), it.resources.stores.names)

    async def probe(agent: Agent) -> float:
        assert agent.endpoint is not None
        started = time.perf_counter()
        await transports.probe(probe_url(agent.transport, agent.endpoint), agent.credential)
        return time.perf_counter() - started

    async def push(increments: Any) -> None:
        await telemetry("push", list(increments), timeout_s=5.0)

    settings = it.resources.settings
    return HealthMonitor(
        log=it.resources.stores.log,
        doorbell=it.resources.doorbell,
        clock=it.resources.clock,
        agents=it.resources.stores.agents,
        breakers=it.resources.stores.breakers,
        heartbeats=it.resources.heartbeats,
        probe=probe,
        push=push,
        timeout_s=settings.heartbeat_timeout,
        sweep_s=min(settings.cleanup_interval, settings.heartbeat_timeout / 3),
        expiry_s=settings.agent_expiry,
        on_fatal=it.on_fatal,
    )
