"""Routes of heartbeats: of one agent, of many in one call, and over a WebSocket that stays open.

A status in a heartbeat changes the agent's own intent (``paused``, ``draining``, and back to active) or is ignored. It never
changes the intent that an operator set, nor what the health monitor found.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from fastapi import Request, WebSocket, WebSocketDisconnect
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import Permission
from cluster.domain.agents.agent import REPORTED_INTENT, AgentStatus, IntentBy, reported_intent
from cluster.domain.base.errors import CallerError, ControlPlaneError, InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import NotJson, parse_json
from cluster.domain.base.log import Origin
from cluster.ports.presence import HeartbeatRecord
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.denials import note_denial
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency
from serve_app.routes.agents import intent_change
from serve_app.schemas.agents import Heartbeat, HeartbeatItem, Heartbeats, RefusedHeartbeat
from serve_app.streams.endings import close_ended, until_ended
from serve_app.streams.frames import received

router = GuardedRouter(tags=["agents"])

MAX_FRAME_CHARS = 1_048_576


async def _change_intents(gate: Gateway, asker: Origin, reported: Sequence[tuple[str, str | None]]) -> None:
    """Stores the intents that agents report, beside those that operators set. Of several reports of one agent the last
    counts."""
    changes = []
    last = {agent_id: AgentStatus(status) for agent_id, status in reported if status and status in REPORTED_INTENT}
    for agent_id, status in last.items():
        agent = await gate.directory.get(asker.workspace, agent_id)
        intent = reported_intent(agent, status) if agent is not None else None
        if intent is not None and agent is not None:
            changes.append(intent_change(gate, asker, agent, intent, IntentBy.AGENT))
    if changes:
        await gate.agents.change(changes)
        gate.notify(WakeTopic.AGENTS)
        # The copy is updated now: the agent's next heartbeat is compared with it, maybe before the log brings the change.
        for agent in (await gate.agents.get_many([(change.workspace, change.agent_id) for change in changes])).values():
            gate.directory.note(agent)


async def _heartbeat_many(connection: HTTPConnection, asker: Origin, items: Sequence[HeartbeatItem]) -> dict[str, Any]:
    gate = gateway(connection)
    known: list[HeartbeatItem] = []
    unknown: list[str] = []
    refused: list[dict[str, Any]] = []
    for at, item in enumerate(items):
        if isinstance(item, RefusedHeartbeat):
            refused.append({"index": at, "agent_id": item.named, "error": item.refusal, "code": item.code})
        elif (refusal := _not_its_own(connection, item.agent_id)) is not None:
            refused.append({"index": at, "agent_id": item.agent_id, "error": refusal.message, "code": refusal.code})
        elif await gate.directory.get(asker.workspace, item.agent_id) is None:
            unknown.append(item.agent_id)
        else:
            known.append(item)
    await _change_intents(gate, asker, [(item.agent_id, item.status) for item in known])
    now = gate.clock.now()
    answers = await gate.heartbeat(
        [
            HeartbeatRecord(workspace=asker.workspace, agent_id=item.agent_id, at=now, process=item.worker_process)
            for item in known
        ]
    )
    cancelling = sorted({entry[1:] for answer in answers for entry in answer.cancelling})
    answer = {
        "acknowledged": len(known),
        "unknown": unknown,
        "cancelling": [{"agent_id": agent_id, "task_id": task_id} for agent_id, task_id in cancelling],
    }
    return {**answer, "refused": refused} if refused else answer


def _not_its_own(connection: HTTPConnection, agent_id: str) -> CallerError | None:
    """Why a call may not send heartbeats of an agent, which is noted as a denial; None if it may."""
    try:
        acting_agent(connection, agent_id)
    except CallerError as refusal:
        note_denial(connection, refusal)
        return refusal
    return None


@router.post("/agents/heartbeats")
@requires(Permission.AGENTS_CONNECT)
async def heartbeats(request: Request, body: Heartbeats, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Heartbeats of many agents. ``unknown`` names agents that are not registered; ``cancelling`` names tasks that their
    agents should stop. A heartbeat that is not valid is listed in ``refused`` with its ``index``; the others count."""
    return await _heartbeat_many(request, asker, body.heartbeats)


@router.post("/agents/{agent_id}/heartbeat")
@requires(Permission.AGENTS_CONNECT)
async def heartbeat(
    request: Request, agent_id: str, asker: Asker, key: Idempotency, body: Heartbeat | None = None
) -> dict[str, Any]:
    """A heartbeat: it renews every lease of the agent. With `worker_process` it renews no lease of a claim that names another
    process (a `claim_id` `process:NAME:…`). ``cancelling`` names tasks that the agent should stop. 404 (`NotFound`) if the
    agent is not registered."""
    gate = gateway(request)
    acting_agent(request, agent_id)
    agent = await gate.directory.get(asker.workspace, check_id(agent_id, "agent_id"))
    if agent is None:
        raise NotFound(f"There is no agent {agent_id}; register it first.", "agent_not_found")
    await _change_intents(gate, asker, [(agent_id, body.status if body else None)])
    (answer,) = await gate.heartbeat(
        [
            HeartbeatRecord(
                workspace=asker.workspace,
                agent_id=agent_id,
                at=gate.clock.now(),
                process=body.worker_process if body else None,
            )
        ]
    )
    return {"acknowledged": True, "cancelling": [task_id for _, _, task_id in answer.cancelling]}


def _frame(text: str) -> list[HeartbeatItem]:
    """Heartbeats of a frame: ``{"agent_id", "status"?}`` or ``{"heartbeats": [...]}``."""
    if len(text) > MAX_FRAME_CHARS:
        raise InvalidRequest(f"The frame has more than {MAX_FRAME_CHARS} characters; send less.", "too_large")
    try:
        value = parse_json(text, "A frame")
        if isinstance(value, dict) and "heartbeats" in value:
            return Heartbeats.model_validate(value).heartbeats
        return [HeartbeatItem.model_validate(value)]
    except (NotJson, ValidationError):
        raise InvalidRequest(
            'Send {"agent_id": "..."} or {"heartbeats": [{"agent_id": "..."}, ...]}.', "invalid_request"
        ) from None


@router.websocket("/agents/heartbeats")
@requires(Permission.AGENTS_CONNECT)
async def websocket_heartbeats(socket: WebSocket, asker: Asker) -> None:
    """Answers every frame as a call with heartbeats is answered. An error is answered with a frame; the socket stays open."""
    await socket.accept()
    gate = gateway(socket)
    with contextlib.suppress(WebSocketDisconnect), gate.open_calls.of(socket, Permission.AGENTS_CONNECT) as call:
        if await until_ended(_acknowledge(socket, gate, asker), gate.endings.now(), call.ended):
            await close_ended(socket, call, "The API's front is replaced; connect again.")


async def _acknowledge(socket: WebSocket, gate: Gateway, asker: Origin) -> None:
    while True:
        text = await received(socket)
        try:
            kind, data = "heartbeat_ack", await _heartbeat_many(socket, asker, _frame(text))
        except ControlPlaneError as error:
            kind, data = "error", {"error": error.message, "code": error.code}
        await socket.send_text(json.dumps({"type": kind, "timestamp": gate.clock.now(), "data": data}))
