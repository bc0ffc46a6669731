"""Routes of the agent registry: register, list, show and remove agents; pause, drain and resume them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import JSONResponse

from actors.agents.membership import PREFIX, dedicated_slot, held_slots
from actors.composition.resources import allowed_networks
from cluster.domain.access.permissions import Permission
from cluster.domain.agents.agent import Agent, AgentStatus, Dedicated, Intent, IntentBy, NewAgent, TransportKind
from cluster.domain.agents.credential_use import CredentialUse
from cluster.domain.agents.options import AgentOptions
from cluster.domain.base.errors import Conflict, EndpointForbidden, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin, record_for
from cluster.domain.base.names import check_name
from cluster.domain.tasks.task import IdempotencyKey
from cluster.http.addresses import check_endpoint
from cluster.ports.agents import AgentChange, RegisterItem
from cluster.ports.presence import HeartbeatRecord
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, admit, principal_of, requires
from serve_app.auth.agent_identity import check_managed
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, body_digest, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.in_cluster_classes import check_class, installed
from serve_app.residency import check_residency
from serve_app.routes.chosen_credentials import credential_uses
from serve_app.routes.whole_endpoints import with_whole_endpoints
from serve_app.schemas.agents import RegisterAgent, RegisterAgents, agent_wire, last_activity, leave_out, shown_status
from serve_app.schemas.fields import Offset, Word
from serve_app.under_quotas import register_within_quotas

router = GuardedRouter(tags=["agents"])

#: What `RegisterAgent.model` is without a name.
UNKNOWN_MODEL = "unknown"
#: Up to this many matches are read by their keys; beyond it the store lists all agents of the workspace.
READ_SINGLY = 2000


def _transport(body: RegisterAgent) -> TransportKind:
    if body.transport is not None:
        return body.transport
    if body.import_path is not None:
        return TransportKind.IMPORT
    return TransportKind.HTTP if body.endpoint else TransportKind.PULL


def _check_callable(gate: Gateway, body: RegisterAgent, transport: TransportKind) -> None:
    wants_endpoint = transport not in (TransportKind.PULL, TransportKind.IMPORT)
    if wants_endpoint != (body.endpoint is not None):
        raise InvalidRequest(
            "endpoint and transport go together: pull and import agents have no endpoint, every other transport needs "
            "one.",
            "invalid_endpoint",
        )
    if body.endpoint is not None:
        check_endpoint(body.endpoint, allowed_networks(gate.settings))
    if transport in (TransportKind.OPENAI, TransportKind.ANTHROPIC) and body.model.strip().casefold() in (
        "",
        UNKNOWN_MODEL,
    ):
        raise InvalidRequest(
            f"An {transport.value} agent needs the name that its server has for the model; give it as model "
            "(aragora-cp agents register --model).",
            "model_missing",
        )
    if transport is TransportKind.A2A and not installed("a2a"):
        raise InvalidRequest(
            "A2A agents need: pip install 'aragora-control-plane[a2a]' where the control plane runs.",
            "transport_missing",
        )
    if (transport is TransportKind.IMPORT) != (body.import_path is not None):
        raise InvalidRequest('import_path and transport "import" go together.', "invalid_import_path")
    if body.import_path is not None and not gate.settings.may_import(body.import_path):
        raise InvalidRequest(
            f"{body.import_path} may not run in the cluster; name its module in ARAGORA_AGENT_MODULES.",
            "import_forbidden",
        )
    if body.import_path is not None:
        check_class(body.import_path)


def _dedicated(body: RegisterAgent, transport: TransportKind) -> Dedicated | None:
    needs = Dedicated(
        num_cpus=body.num_cpus, num_gpus=body.num_gpus, memory=body.memory, resources=dict(body.resources)
    )
    if not body.dedicated:
        if needs != Dedicated():
            raise InvalidRequest(
                "num_cpus, num_gpus, memory and resources need an actor of the agent's own; set dedicated to true.",
                "invalid_dedicated",
            )
        return None
    if transport is TransportKind.PULL:
        raise InvalidRequest(
            "A pull agent runs where its worker runs; give an endpoint or an import_path to make it dedicated.",
            "invalid_dedicated",
        )
    return needs


def _new_agent(
    gate: Gateway, body: RegisterAgent, asker: Origin, now: float, credential: CredentialUse | None
) -> NewAgent:
    transport = _transport(body)
    _check_callable(gate, body, transport)
    if body.model:  # here, since a blank one is none to the transports that need it, which say more
        check_name(body.model, "model")
    options = body.all_options()
    check_json(body.metadata, "metadata")
    check_json(options, "options")
    return NewAgent(
        agent_id=body.agent_id,
        origin=asker,
        registered_at=now,
        capabilities=tuple(dict.fromkeys(body.capabilities)),
        model=body.model,
        provider=body.provider,
        metadata=body.metadata,
        tags=tuple(body.tags),
        region_id=body.region_id or gate.settings.region,
        available_regions=tuple(body.available_regions),
        transport=transport,
        endpoint=body.endpoint,
        max_concurrency=body.max_concurrency,
        options=AgentOptions.checked(options),
        dedicated=_dedicated(body, transport),
        credential=credential,
    )


def _named(
    gate: Gateway, body: RegisterAgent, asker: Origin, now: float, credential: CredentialUse | None, *, alone: bool
) -> NewAgent:
    """The agent. An error about one of several agents names it."""
    try:
        return _new_agent(gate, body, asker, now, credential)
    except (InvalidRequest, EndpointForbidden) as error:
        if alone:
            raise
        raise type(error)(f"Agent {body.agent_id}: {error.message}", error.code) from None


async def _check_kind(request: Request, bodies: Sequence[RegisterAgent]) -> None:
    """A worker's permission registers what pulls its work, with a certificate only itself. What the control plane calls or runs
    itself takes an operator's, and what it sends a credential to, the permission to use credentials."""
    caller = await principal_of(request)
    for body in bodies:
        check_managed(request, caller, body.agent_id)
    if any(_transport(body) is not TransportKind.PULL or body.dedicated for body in bodies):
        await admit(request, Permission.AGENTS_WRITE)
    if any(body.credential is not None for body in bodies):
        await admit(request, Permission.CREDENTIALS_USE)


async def _register(gate: Gateway, bodies: Sequence[RegisterAgent], asker: Origin, key: str | None) -> list[Agent]:
    now = gate.clock.now()
    whole = await with_whole_endpoints(gate, asker.workspace, bodies)
    alone = len(bodies) == 1
    uses = await credential_uses(gate, asker.workspace, [(body, _transport(body)) for body in whole])
    agents = [_named(gate, body, asker, now, uses.get(body.agent_id), alone=alone) for body in whole]
    check_residency(gate, asker.workspace, agents)
    digest = body_digest([body.for_digest() for body in bodies]) if key else b""
    items = []
    for index, agent in enumerate(agents):
        data = {
            "agent_id": agent.agent_id,
            "capabilities": list(agent.capabilities),
            "model": agent.model,
            "provider": agent.provider,
        }
        if agent.credential is not None:
            data["credential"] = agent.credential.name
        idem = IdempotencyKey(route="agents", key=f"{key}#{index}", body_digest=digest) if key else None
        record = record_for(asker, now, "agent.registered", agent.agent_id, data)
        items.append(RegisterItem(agent=agent, record=record, idempotency=idem))
    outcomes = await register_within_quotas(gate, asker, items)
    if any(outcome.conflict for outcome in outcomes):
        raise Conflict("This Idempotency-Key was used with another body; use a new key.", "idempotency_conflict")
    registered = [outcome.agent for outcome in outcomes if outcome.agent is not None]
    if len(registered) < len(outcomes):
        raise Conflict("An agent was unregistered while it registered; register it again.", "agent_unregistered")
    for each in registered:
        gate.directory.note(each)
    await gate.heartbeats.record_activity(
        [HeartbeatRecord(workspace=asker.workspace, agent_id=body.agent_id, at=now) for body in bodies]
    )
    return registered


@router.post("/agents", status_code=201)
@requires(Permission.AGENTS_CONNECT)
async def register_agent(request: Request, body: RegisterAgent, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Registers an agent. If it exists, its description is replaced and its counters are kept. A `draining` or `paused` that
    the agent itself had reported ends; one that an operator set stays, and `notice` in the answer says so. An agent that the
    control plane calls or runs (`endpoint`, `import_path`) needs `controlplane:agents.write` besides. 400 (`InvalidRequest`)
    if the fields do not fit together, 403 (`QuotaExceeded`) if the workspace has as many agents as it may or (`Forbidden`,
    ``residency_violation``) the agent says that it runs outside of the workspace's zone, 409 (`Conflict`)
    if the key was used with another body or the agent is unregistered at the same time."""
    await _check_kind(request, [body])
    (agent,) = await _register(gateway(request), [body], asker, key)
    return _registered_wire(agent)


def _registered_wire(agent: Agent) -> dict[str, Any]:
    """The agent, with a notice if an operator has paused or drained it: registering again does not end that."""
    wire = agent_wire(agent, None)
    if agent.held_by is not IntentBy.OPERATOR:
        return wire
    state = "paused" if agent.intent is Intent.PAUSED else "drained"
    resume = f"aragora-cp agents resume {agent.agent_id}"
    return {**wire, "notice": f"An operator {state} this agent; it gets no new work until it is resumed: {resume}"}


@router.post("/agents/batch", status_code=201)
@requires(Permission.AGENTS_CONNECT)
async def register_agents(request: Request, body: RegisterAgents, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Registers up to 1,000 agents in one transaction; of several entries for one agent the last counts. 400
    (`InvalidRequest`) if the fields of an agent do not fit together, 403 (`QuotaExceeded`) if the workspace may not have so
    many or (`Forbidden`, ``residency_violation``) an agent says that it runs outside of the workspace's zone, 409 (`Conflict`)
    if the key was used with another body or an agent is unregistered at the same time."""
    await _check_kind(request, body.agents)
    # Of several descriptions of an agent the last counts, as if they came one after the other. Each would be a transaction of its
    # own, and a thousand of them held up the registrations of everybody until they were given up.
    last = {agent.agent_id: agent for agent in body.agents}
    registered = await _register(gateway(request), list(last.values()), asker, key)
    stored = {agent.agent_id: agent for agent in registered}
    agents = [stored[agent.agent_id] for agent in body.agents]
    return {"agents": [_registered_wire(agent) for agent in agents], "total": len(agents)}


async def _matching(gate: Gateway, workspace: str, capability: str | None) -> list[Agent]:
    """The stored agents that have ``capability``. The replica's copy says which to read, so that a filtered list does not
    read the whole fleet."""
    await gate.catch_up()
    keys = [(workspace, agent.agent_id) for agent in gate.directory.agents(workspace, capability or "")]
    if len(keys) > READ_SINGLY:
        return await gate.agents.list(workspace, capability)
    found = await gate.agents.get_many(keys)
    agents = (found[key] for key in sorted(keys) if key in found)
    return [agent for agent in agents if capability is None or capability in agent.capabilities]


_Word = Annotated[Word | None, Query()]


@router.get("/agents", response_model=dict[str, Any])
@requires(Permission.AGENTS_READ)
async def list_agents(
    request: Request,
    asker: Asker,
    capability: _Word = None,
    available: bool = True,
    status: AgentStatus | None = None,
    provider: _Word = None,
    region: _Word = None,
    tag: _Word = None,
    limit: Annotated[int | None, Query(ge=1, le=100_000)] = None,
    offset: Offset = 0,
) -> JSONResponse:
    """Agents of the workspace, sorted by id; ``available=false`` includes those that take no work. ``total`` counts all
    matches, not only those that ``limit`` and ``offset`` select."""
    gate = gateway(request)
    matching = await _matching(gate, asker.workspace, capability)
    waiting = await without_actor(gate, matching) if status is not None else set()
    agents = [
        agent
        for agent in matching
        if (agent.takes_work or not available)
        and (status is None or shown_status(agent, has_actor=agent.agent_id not in waiting) is status)
        and provider in (None, agent.provider)
        and region in (None, agent.region_id)
        and (tag is None or tag in agent.tags)
    ]
    page = agents[offset:] if limit is None else agents[offset : offset + limit]
    # A response object, not a dict: FastAPI would validate every field of every row, which takes longer than reading them.
    wires = await _wires(gate, asker.workspace, page)
    leave_out(wires)
    return JSONResponse({"agents": wires, "total": len(agents)})


async def _wires(gate: Gateway, workspace: str, agents: Sequence[Agent]) -> list[dict[str, Any]]:
    """The agents with their newest heartbeats, and dedicated agents with whether their actors run."""
    seen = await gate.heartbeats.last(workspace, [agent.agent_id for agent in agents])
    waiting = await without_actor(gate, agents)
    return [agent_wire(agent, seen.get(agent.agent_id), has_actor=agent.agent_id not in waiting) for agent in agents]


async def without_actor(gate: Gateway, agents: Sequence[Agent]) -> set[str]:
    """The ids of the dedicated ones among the agents of a workspace whose own actor does not run."""
    dedicated = [agent for agent in agents if agent.dedicated is not None]
    if not dedicated:
        return set()
    held = set(held_slots(await gate.leases.held(PREFIX)).values())
    return {agent.agent_id for agent in dedicated if dedicated_slot(agent.workspace, agent.agent_id) not in held}


async def agent_answer(gate: Gateway, agent: Agent) -> dict[str, Any]:
    (wire,) = await _wires(gate, agent.workspace, [agent])
    return wire


async def stored_agent(gate: Gateway, asker: Origin, agent_id: str) -> Agent:
    """The agent as it is stored, not as this replica's copy has it.

    Raises: `NotFound` if there is no such agent, `InvalidRequest` if ``agent_id`` is no id.
    """
    agent = await gate.agents.get(asker.workspace, check_id(agent_id, "agent_id"))
    if agent is None:
        raise NotFound(f"There is no agent {agent_id}; register it first.", "agent_not_found")
    return agent


@router.get("/agents/{agent_id}")
@requires(Permission.AGENTS_READ)
async def get_agent(request: Request, agent_id: str, asker: Asker) -> dict[str, Any]:
    """One agent."""
    gate = gateway(request)
    return await agent_answer(gate, await stored_agent(gate, asker, agent_id))


@router.delete("/agents/{agent_id}")
@requires(Permission.AGENTS_CONNECT)
async def deregister_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Removes an agent and puts the tasks that it holds back into the queue at once. 404 (`NotFound`) if there is no such
    agent."""
    check_managed(request, await principal_of(request), agent_id)
    gate = gateway(request)
    data = {"agent_id": check_id(agent_id, "agent_id"), "reason": "manual_unregistration"}
    record = record_for(asker, gate.clock.now(), "agent.unregistered", agent_id, data)
    once = IdempotencyKey(route=f"agents/{agent_id}", key=key, body_digest=b"") if key else None
    removed = await gate.agents.remove([record], [once])
    gate.directory.forget(asker.workspace, agent_id)
    if not removed[0]:
        raise NotFound(f"There is no agent {agent_id}; it may have been removed already.", "agent_not_found")
    gate.notify(WakeTopic.AGENTS)
    await gate.heartbeats.forget([(asker.workspace, agent_id)])
    return {"unregistered": True}


@router.get("/agents/{agent_id}/metrics")
@router.get("/metrics/agents/{agent_id}")
@requires(Permission.AGENTS_READ)
async def agent_metrics(request: Request, agent_id: str, asker: Asker) -> dict[str, Any]:
    """Counts and times of an agent since it was first registered. ``findings_generated`` counts the entries of the
    ``findings`` lists in its results; ``uptime_seconds`` is 0 while the agent is offline."""
    gate = gateway(request)
    agent = await stored_agent(gate, asker, agent_id)
    seen = last_activity(agent, (await gate.heartbeats.last(asker.workspace, [agent_id])).get(agent_id))
    ended = agent.tasks_completed + agent.tasks_failed
    offline = agent.status is AgentStatus.OFFLINE
    return {
        "agent_id": agent.agent_id,
        "status": agent.status.value,
        "tasks_completed": agent.tasks_completed,
        "tasks_failed": agent.tasks_failed,
        "running_tasks": len(agent.running_task_ids),
        "findings_generated": await gate.agents.findings(asker.workspace, agent_id),
        "average_response_time_ms": agent.avg_latency_ms,
        "error_rate": agent.tasks_failed / ended if ended else 0.0,
        "last_active": seen,
        "uptime_seconds": 0.0 if offline else max(0.0, gate.clock.now() - agent.registered_at),
    }


def intent_change(
    gate: Gateway, asker: Origin, agent: Agent, intent: Intent, by: IntentBy = IntentBy.OPERATOR
) -> AgentChange:
    after = agent.intent_after(intent, by)
    data = {"agent_id": agent.agent_id, "old_intent": agent.intent.value, "intent": after.value, "by": by.value}
    return AgentChange(
        workspace=asker.workspace,
        agent_id=agent.agent_id,
        intent=intent,
        intent_by=by,
        record=record_for(asker, gate.clock.now(), "agent.status_changed", agent.agent_id, data),
    )


async def _set_intent(request: Request, agent_id: str, asker: Origin, intent: Intent) -> tuple[Agent, dict[str, Any]]:
    """Sets an operator's intent and returns the agent after it. Setting the intent that an operator has set changes and logs
    nothing. What the agent wants itself stays."""
    check_managed(request, await principal_of(request), agent_id)
    gate = gateway(request)
    agent = await stored_agent(gate, asker, agent_id)
    if agent.operator_intent is not intent:
        await gate.agents.change([intent_change(gate, asker, agent, intent)])
        gate.notify(WakeTopic.AGENTS)
        agent = await stored_agent(gate, asker, agent_id)
        gate.directory.note(agent)
    return agent, await agent_answer(gate, agent)


@router.post("/agents/{agent_id}/pause")
@requires(Permission.AGENTS_WRITE)
async def pause_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Pauses an agent: it gets no new work until it is resumed, whatever its heartbeats say. A repeat changes nothing."""
    agent, wire = await _set_intent(request, agent_id, asker, Intent.PAUSED)
    return {**wire, "paused_at": agent.updated_at}


@router.post("/agents/{agent_id}/drain")
@requires(Permission.AGENTS_WRITE)
async def drain_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Drains an agent: it finishes the tasks that it holds and gets no new ones. ``drained`` is true if it holds none."""
    agent, wire = await _set_intent(request, agent_id, asker, Intent.DRAINING)
    return {**wire, "draining_since": agent.updated_at, "drained": not agent.running_task_ids}


@router.post("/agents/{agent_id}/resume")
@requires(Permission.AGENTS_WRITE)
async def resume_agent(request: Request, agent_id: str, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Ends a pause or a drain that an operator set. ``status`` then follows from the agent's liveness, health and load. What
    the agent itself has reported (`paused`, `draining`) stays until it reports `ready` or registers again; `notice` in the
    answer says so."""
    agent, wire = await _set_intent(request, agent_id, asker, Intent.ACTIVE)
    wire = {**wire, "resumed_at": agent.updated_at}
    if agent.held_by is None:
        return wire
    ends = "it gets no new work until its heartbeat says ready, or it registers again"
    return {**wire, "notice": f"The agent itself reported that it is {agent.intent.value}; {ends}."}
