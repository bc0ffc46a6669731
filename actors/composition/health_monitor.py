"""The maker of the health monitor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from actors.composition.resources import Context
from actors.health_monitor import HealthMonitor
from actors.roles import (
    TELEMETRY,
    Role,
)
from cluster.domain.agents.agent import Agent, TransportKind

#: Below an agent's endpoint; others are probed at the endpoint itself.
_PROBE_PATHS: Mapping[TransportKind, str] = {
    TransportKind.OPENAI: "/models",
    TransportKind.ANTHROPIC: "/v1/models",
    TransportKind.A2A: "/.well-known/agent-card.json",
}


def make(it: Context) -> Any:
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
