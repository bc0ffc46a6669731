"""Registering agents, their signs of life, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from cluster.domain.agents import Agent, Intent, NewAgent, TransportKind
from cluster.domain.errors import Conflict, InvalidRequest, NotFound
from cluster.domain.ids import check_id
from cluster.domain.json_values import check_json
from cluster.domain.log import Origin
from cluster.domain.tasks import IdempotencyKey
from cluster.ports import AgentChange, Beat, RegisterItem, record_for
from serve_app.access import Asker, Idempotency, Permission, requires
from serve_app.gateway import Gateway, body_digest
from serve_app.schemas import Heartbeat, HeartbeatItem, Heartbeats, RegisterAgent, RegisterAgents, Text, agent_wire

router = APIRouter(tags=["agents"])

#: A status in a heartbeat changes intent or says nothing new: it never overrides what the monitor knows.
_INTENT_OF_STATUS = {"paused": Intent.PAUSED, "draining": Intent.DRAINING, "ready": Intent.ACTIVE}


def gateway(request: Request) -> Gateway:
    return request.app.state.gateway


def _new_agent(body: RegisterAgent, asker: Origin, now: float, default_region: str) -> NewAgent:
    transport = body.transport or (TransportKind.HTTP if body.endpoint else TransportKind.PULL)
    if (transport is TransportKind.PULL) != (body.endpoint is None):
        raise InvalidRequest(
            "endpoint and transport go together: a pull agent has no endpoint, every other transport needs one.",
            "invalid_endpoint",
        )
    check_json(body.metadata, "metadata")
    check_json(body.options, "options")
    return NewAgent(
        agent_id=body.agent_id,
        origin=asker,
        registered_at=now,
        capabilities=tuple(dict.fromkeys(body.capabilities)),
        model=body.model,
        provider=body.provider,
        metadata=body.metadata,
        tags=tuple(body.tags),
        region_id=body.region_id or default_region,
        available_regions=tuple(body.available_regions),
        transport=transport,
        endpoint=body.endpoint,
        max_concurrency=body.max_concurrency,
        options=body.options,
    )


async def _register(gate: Gateway, bodies: Sequence[RegisterAgent], asker: Origin, key: str | None) -> list[Agent]:
    now = gate.clock.now()
    agents = [_new_agent(body, asker, now, gate.settings.region) for body in bodies]
    digest = body_digest([body.model_dump(mode="json") for body in bodies]) if key else b""
    items = []
    for place, agent in enumerate(agents):
        data = {
            "agent_id": agent.agent_id,
            "capabilities": list(agent.capabilities),
            "model": agent.model,
            "provider": agent.provider,
        }
        idem = IdempotencyKey(route="agents", key=f"{key}#{place}", body_digest=digest) if key else None
        record = record_for(asker, now, "agent.registered", agent.agent_id, data)
        items.append(RegisterItem(agent=agent, record=record, idempotency=idem))
    outcomes = await gate.registrations.put_many(items)
    if any(outcome.conflict for outcome in outcomes):
        raise Conflict("This Idempotency-Key was used with another body; use a new key.", "idempotency_conflict")
    await gate.heartbeats.beat([Beat(workspace=asker.workspace, agent_id=body.agent_id, at=now) for body in bodies])
    for outcome in outcomes:
        gate.directory.note(outcome.agent)
    return [outcome.agent for outcome in outcomes]


@router.post("/agents", status_code=201)
@requires(Permission.AGENTS_WRITE)
async def register_agent(request: Request, body: RegisterAgent, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Registers an agent, or replaces the description of one that exists. Counters and intent are kept."""
    (agent,) = await _register(gateway(request), [body], asker, key)
    return agent_wire(agent, None)


@router.post("/agents/batch", status_code=201)
@requires(Permission.AGENTS_WRITE)
async def register_agents(request: Request, body: RegisterAgents, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Registers up to 1,000 agents in one transaction."""
    agents = await _register(gateway(request), body.agents, asker, key)
    return {"agents": [agent_wire(agent, None) for agent in agents], "total": len(agents)}


@router.get("/agents")
@requires(Permission.AGENTS_READ)
async def list_agents(
    request: Request,
    asker: Asker,
    capability: Annotated[Text | None, Query(max_length=128)] = None,
    available: bool = True,
) -> dict[str, Any]:
    """Agents of the workspace; ``available=false`` includes those that take no work."""
    gate = gateway(request)
    agents = await gate.agents.list(asker.workspace, capability)
    if available:
        agents = [agent for agent in agents if agent.takes_work]
    seen = await gate.heartbeats.last(asker.workspace, [agent.agent_id for agent in agents])
    return {"agents": [agent_wire(agent, seen.get(agent.agent_id)) for agent in agents], "total": len(agents)}


@router.post("/agents/heartbeats")
@requires(Permission.AGENTS_WRITE)
async def heartbeats(request: Request, body: Heartbeats, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Signs of life of many agents. ``unknown`` names those that have to register again."""
    gate = gateway(request)
    known: list[HeartbeatItem] = []
    unknown: list[HeartbeatItem] = []
    for item in body.heartbeats:
        agent = await gate.directory.get(asker.workspace, item.agent_id)
        (known if agent is not None else unknown).append(item)
    await _change_intents(gate, asker, [(item.agent_id, item.status) for item in known])
    now = gate.clock.now()
    answers = await gate.beats.put_many(
        [Beat(workspace=asker.workspace, agent_id=item.agent_id, at=now) for item in known]
    )
    cancelling = sorted({entry[1:] for answer in answers for entry in answer.cancelling})
    return {
        "acknowledged": len(known),
        "unknown": [item.agent_id for item in unknown],
        "cancelling": [{"agent_id": agent_id, "task_id": task_id} for agent_id, task_id in cancelling],
    }


async def _change_intents(gate: Gateway, asker: Origin, wanted: Sequence[tuple[str, str | None]]) -> None:
    changes = []
    for agent_id, status in wanted:
        intent = _INTENT_OF_STATUS.get(status or "")
        agent = await gate.directory.get(asker.workspace, agent_id)
        if intent is not None and agent is not None and agent.intent is not intent:
            changes.append(_intent_change(gate, asker, agent, intent))
    if changes:
        await gate.agents.change(changes)
        gate.ring()


def _intent_change(gate: Gateway, asker: Origin, agent: Agent, intent: Intent) -> AgentChange:
    data = {"agent_id": agent.agent_id, "old_intent": agent.intent.value, "intent": intent.value}
    return AgentChange(
        workspace=asker.workspace,
        agent_id=agent.agent_id,
        intent=intent,
        record=record_for(asker, gate.clock.now(), "agent.status_changed", agent.agent_id, data),
    )


async def _known(gate: Gateway, asker: Origin, agent_id: str) -> Agent:
    """The stored agent (not the copy), or 404."""
    agent = await gate.agents.get(asker.workspace, check_id(agent_id, "agent_id"))
    if agent is None:
        raise NotFound(f"There is no agent {agent_id}; register it first.", "agent_not_found")
    return agent


@router.get("/agents/{agent_id}")
@requires(Permission.AGENTS_READ)
async def get_agent(request: Request, agent_id: str, asker: Asker) -> dict[str, Any]:
    gate = gateway(request)
    agent = await _known(gate, asker, agent_id)
    seen = await gate.heartbeats.last(asker.workspace, [agent_id])
    return agent_wire(agent, seen.get(agent_id))


@router.delete("/agents/{agent_id}")
@requires(Permission.AGENTS_WRITE)
async def deregister_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Removes an agent; its leases go back to the queue at once."""
    gate = gateway(request)
    data = {"agent_id": check_id(agent_id, "agent_id"), "reason": "manual_unregistration"}
    record = record_for(asker, gate.clock.now(), "agent.unregistered", agent_id, data)
    once = IdempotencyKey(route=f"agents/{agent_id}", key=key, body_digest=b"") if key else None
    removed = await gate.agents.remove([record], [once])
    gate.directory.forget(asker.workspace, agent_id)
    if not removed[0]:
        raise NotFound(f"There is no agent {agent_id}.", "agent_not_found")
    gate.ring()
    await gate.heartbeats.forget([(asker.workspace, agent_id)])
    return {"unregistered": True}


@router.post("/agents/{agent_id}/heartbeat")
@requires(Permission.AGENTS_WRITE)
async def heartbeat(
    request: Request, agent_id: str, asker: Asker, key: Idempotency, body: Heartbeat | None = None
) -> dict[str, Any]:
    """A sign of life; renews every lease of the agent. ``cancelling`` names tasks that it should stop."""
    gate = gateway(request)
    agent = await gate.directory.get(asker.workspace, check_id(agent_id, "agent_id"))
    if agent is None:
        raise NotFound(f"There is no agent {agent_id}; register it first.", "agent_not_found")
    await _change_intents(gate, asker, [(agent_id, body.status if body else None)])
    answer = await gate.beats.put(Beat(workspace=asker.workspace, agent_id=agent_id, at=gate.clock.now()))
    return {"acknowledged": True, "cancelling": [task_id for _, _, task_id in answer.cancelling]}


@router.get("/agents/{agent_id}/metrics")
@requires(Permission.AGENTS_READ)
async def agent_metrics(request: Request, agent_id: str, asker: Asker) -> dict[str, Any]:
    gate = gateway(request)
    agent = await _known(gate, asker, agent_id)
    seen = (await gate.heartbeats.last(asker.workspace, [agent_id])).get(agent_id, agent.registered_at)
    ended = agent.tasks_completed + agent.tasks_failed
    return {
        "agent_id": agent.agent_id,
        "tasks_completed": agent.tasks_completed,
        "tasks_failed": agent.tasks_failed,
        "findings_generated": 0,
        "average_response_time_ms": agent.avg_latency_ms,
        "error_rate": agent.tasks_failed / ended if ended else 0.0,
        "last_active": seen,
        "uptime_seconds": max(0.0, gate.clock.now() - agent.registered_at),
    }


async def _set_intent(request: Request, agent_id: str, asker: Origin, intent: Intent) -> Agent:
    gate = gateway(request)
    agent = await _known(gate, asker, agent_id)
    if agent.intent is not intent:
        await gate.agents.change([_intent_change(gate, asker, agent, intent)])
        gate.ring()
        agent = await _known(gate, asker, agent_id)
        gate.directory.note(agent)
    return agent


@router.post("/agents/{agent_id}/pause")
@requires(Permission.AGENTS_WRITE)
async def pause_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """The agent gets no new work until it is resumed. Repeating it changes nothing."""
    agent = await _set_intent(request, agent_id, asker, Intent.PAUSED)
    return {**agent_wire(agent, None), "paused_at": agent.updated_at}


@router.post("/agents/{agent_id}/resume")
@requires(Permission.AGENTS_WRITE)
async def resume_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    agent = await _set_intent(request, agent_id, asker, Intent.ACTIVE)
    return {**agent_wire(agent, None), "resumed_at": agent.updated_at}
