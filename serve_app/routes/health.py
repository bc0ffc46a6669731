"""Routes of liveness, readiness, health and metrics: for load balancers, operators and dashboards."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from cluster.domain.access.permissions import Permission
from cluster.domain.agents.agent import Agent, AgentStatus, Liveness, TransportKind
from cluster.domain.agents.agent_health import agent_level, problem, system_level
from cluster.domain.agents.breaker import Breaker
from cluster.domain.agents.endpoint_health import ProbeHistory
from cluster.domain.base.errors import NotFound
from cluster.telemetry.exposition import asks_for_openmetrics
from cluster.version import VERSION
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.components import PROBE_S
from serve_app.gateway import Gateway, gateway
from serve_app.routes.agents import stored_agent
from serve_app.schemas.agents import last_activity

#: Mounted at the root, where load balancers and Prometheus look.
root = GuardedRouter(tags=["health"])
#: Mounted under the API's prefixes.
router = GuardedRouter(tags=["health"])

#: How long ``/health`` waits for the components. Load balancers give up after a second.
HEALTH_S = 0.7


async def _detailed(gate: Gateway) -> dict[str, Any]:
    components = await gate.components.check(PROBE_S)
    return {
        "status": "healthy" if all(component.healthy for component in components) else "unhealthy",
        "uptime_seconds": int(gate.clock.now() - gate.started_at),
        "version": VERSION,
        "components": [component.wire() for component in components],
    }


@root.get("/health/live")
@requires(Permission.PUBLIC)
async def live() -> dict[str, str]:
    """Liveness: 200 if the process answers. Restart the process only if this fails."""
    return {"status": "ok"}


@root.get("/health", response_model=None)
@requires(Permission.PUBLIC)
async def ready(request: Request) -> Response:
    """Readiness of this replica: 200 while it can answer at all, within a second. ``status`` is ``degraded`` if a store or an
    actor does not answer, and ``degraded`` names them. 503 only while the replica starts or drains: its siblings miss the same
    stores and actors, so taking it out of service would help nobody."""
    gate: Gateway | None = getattr(request.app.state, "gateway", None)
    if gate is None or gate.draining:
        what = "starts" if gate is None else "drains"
        body = {
            "status": "unavailable",
            "degraded": [],
            "error": f"This replica {what}; ask another one, or try again in a moment.",
            "code": "not_ready",
            "trace_id": request.scope["state"]["trace_id"],
        }
        return JSONResponse(body, status_code=503, headers={"Retry-After": "1"})
    away = [component.name for component in await gate.components.check(HEALTH_S) if not component.healthy]
    return JSONResponse({"status": "degraded" if away else "ok", "degraded": away})


@root.get("/health/detailed")
@requires(Permission.HEALTH_READ)
async def detailed(request: Request) -> dict[str, Any]:
    """Every component with its status and latency, and with ``warnings`` (sentences) if something about it is unusual. The
    status is 200 even if a component is unhealthy."""
    return await _detailed(gateway(request))


@root.get("/metrics", response_model=None)
@requires(Permission.SYSTEM_READ)
async def prometheus(request: Request) -> Response:
    """The region's metrics in Prometheus' text format, of all workspaces together; with the traces of slow requests, in the
    format of OpenMetrics, if the caller accepts `application/openmetrics-text`. 200 within 5 s whatever is away:
    `aragora_cp_store_readable` is 0 if PostgreSQL cannot be read and the numbers are those last known, and
    `aragora_cp_metrics_complete` is 0 if the process that counts is away and this replica shows its own figures only. 404
    (`NotFound`) if metrics are switched off."""
    gate = gateway(request)
    if not gate.settings.enable_metrics:
        raise NotFound("Metrics are switched off; set ARAGORA_ENABLE_METRICS=true.", "metrics_disabled")
    text, media_type = await gate.metrics_text(asks_for_openmetrics(request.headers.get("accept", "")))
    return Response(text, media_type=media_type)


def _health_wire(agent: Agent, seen: float | None, probe: ProbeHistory | None) -> dict[str, Any]:
    """The health of one agent: of a called agent by its last probe, of a pull agent by its heartbeats."""
    probed = probe is not None and probe.at is not None and agent.transport is not TransportKind.PULL
    latency_s = probe.latency_s if probe is not None and probed else None
    return {
        "agent_id": agent.agent_id,
        "status": agent_level(agent).value,
        "latency_ms": round(latency_s * 1000, 2) if latency_s is not None else None,
        "timestamp": probe.at if probe is not None and probed else last_activity(agent, seen),
        "error": (probe.error if probe is not None and probed else None) or problem(agent),
        "metadata": {
            "liveness": agent.liveness.value,
            "health": agent.health.value,
            "intent": agent.intent.value,
            "consecutive_failures": probe.failures if probe is not None and probed else 0,
        },
    }


@router.get("/health")
@requires(Permission.HEALTH_READ)
async def fleet_health(request: Request, asker: Asker) -> dict[str, Any]:
    """Health of the fleet and of every agent. The status is ``unknown``, not ``healthy``, while there is no data."""
    gate = gateway(request)
    agents = await gate.agents.list(asker.workspace)
    seen = await gate.heartbeats.last(asker.workspace, [agent.agent_id for agent in agents])
    probes = await gate.breakers.probes(asker.workspace)
    return {
        "status": system_level(agents).value,
        "agents": {
            agent.agent_id: _health_wire(agent, seen.get(agent.agent_id), probes.get((agent.workspace, agent.agent_id)))
            for agent in agents
        },
    }


def _breaker_wire(breaker: Breaker, now: float) -> dict[str, Any]:
    return {
        "name": breaker.name,
        "state": breaker.state_at(now).value,
        "failure_count": breaker.failures,
        "success_count": breaker.successes,
        "last_failure": breaker.last_failure,
        "reset_timeout_ms": breaker.reset_s * 1000,
    }


@router.get("/breakers")
@requires(Permission.HEALTH_READ)
async def breakers(request: Request, asker: Asker) -> dict[str, Any]:
    """Breakers of the workspace's agents and of the control plane's dependencies (`redis`, and `database` as this replica
    sees it). A breaker that has never counted a failure is not listed. While the database is away, the stored breakers are
    listed as they were last read, and `stale` is true."""
    gate = gateway(request)
    now = gate.clock.now()
    found, current = await gate.all_breakers(asker.workspace)
    return {"breakers": [_breaker_wire(breaker, now) for breaker in found]} | ({} if current else {"stale": True})


@router.get("/health/detailed")
@requires(Permission.HEALTH_READ)
async def api_detailed(request: Request) -> dict[str, Any]:
    """Every component with its status and latency, and with ``warnings`` (sentences) if something about it is unusual. The
    status is 200 even if a component is unhealthy."""
    return await _detailed(gateway(request))


@router.get("/health/{agent_id}")
@requires(Permission.HEALTH_READ)
async def agent_health(request: Request, agent_id: str, asker: Asker) -> dict[str, Any]:
    """Health of one agent: of a called agent by its last probe, of a pull agent by its heartbeats."""
    gate = gateway(request)
    agent = await stored_agent(gate, asker, agent_id)
    seen = await gate.heartbeats.last(asker.workspace, [agent_id])
    probes = await gate.breakers.probes(asker.workspace)
    return _health_wire(agent, seen.get(agent_id), probes.get((asker.workspace, agent_id)))


@router.get("/stats")
@requires(Permission.METRICS_READ)
async def stats(request: Request, asker: Asker) -> dict[str, Any]:
    """Numbers of the fleet, its health and the scheduler, without URLs and secrets. The health is that of the agents that are
    not offline; ``unknown`` if all are. ``total`` counts the tasks that there ever were. ``by_type`` names at most 256 task
    types and counts the rest as ``(other)``. 503 (`StoreUnavailable`) if the counting cannot catch up in time."""
    gate = gateway(request)
    agents = await gate.agents.list(asker.workspace)
    living = [agent for agent in agents if agent.liveness is not Liveness.OFFLINE]
    settings = gate.settings
    return {
        "registry": {
            "total_agents": len(agents),
            "available_agents": sum(agent.takes_work for agent in agents),
            "by_status": dict(Counter(agent.status.value for agent in agents)),
            "by_capability": dict(Counter(name for agent in agents for name in agent.capabilities)),
            "by_provider": dict(Counter(agent.provider for agent in agents)),
            "heartbeat_timeout": settings.heartbeat_timeout,
        },
        "health": {"status": system_level(living).value},
        "scheduler": await gate.tally.counts(asker.workspace),
        "config": {"heartbeat_timeout": settings.heartbeat_timeout, "task_timeout": settings.task_timeout},
    }


@router.get("/metrics")
@requires(Permission.METRICS_READ)
async def metrics(request: Request, asker: Asker) -> dict[str, Any]:
    """Numbers for a dashboard, as JSON. Prometheus reads ``/metrics`` at the root. Days are those of UTC; tokens count when
    their deliberation has ended. 503 (`StoreUnavailable`) if the counting cannot catch up in time."""
    gate = gateway(request)
    agents = await gate.agents.list(asker.workspace)
    queue, tokens = await gate.tally.today(asker.workspace, gate.clock.now())
    by_status = Counter(agent.status for agent in agents)
    return {
        "active_jobs": queue["running"],
        "queued_jobs": queue["pending"],
        "completed_jobs": queue["completed_today"],
        "agents_available": by_status[AgentStatus.READY],
        "agents_busy": by_status[AgentStatus.BUSY],
        "total_agents": len(agents),
        "documents_processed_today": 0,
        "audits_completed_today": 0,
        "tokens_used_today": tokens,
    }
