"""Routes of the queue for operators: what waits and runs, priorities, pauses, rates and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import LogRecord, Origin, record_for
from cluster.domain.scheduling.limits import Control, check_control
from cluster.domain.scheduling.requests import PrioritizeRequest
from cluster.domain.tasks.task import Body, Priority, TaskStatus
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Limit
from serve_app.routes.task_reads import known_task
from serve_app.schemas.queue import ControlName, ControlSettings, control_wire
from serve_app.schemas.tasks import Prioritize, job_wire, task_wire

router = GuardedRouter(tags=["queue"])
#: A job shows its name and its progress, which are metadata.
_SHOWN = (Body.METADATA,)


@router.get("/queue")
@requires(Permission.QUEUE_READ)
async def queue(request: Request, asker: Asker, limit: Limit = 50) -> dict[str, Any]:
    """The oldest running tasks, then the oldest waiting tasks sorted by priority."""
    gate = gateway(request)
    store = gate.tasks
    now = gate.clock.now()
    running = await store.oldest(asker.workspace, TaskStatus.RUNNING, limit, _SHOWN)
    pending = await store.oldest(asker.workspace, TaskStatus.PENDING, limit, _SHOWN)
    pending.sort(key=lambda task: (-task.priority, task.order_key or (task.created_at, task.id)))
    numbers = await gate.tally.queue_metrics(asker.workspace, now)
    total = int(numbers["running"] + numbers["pending"])
    return {"jobs": [job_wire(task.as_of(now)) for task in (*running, *pending)][:limit], "total": total}


@router.get("/queue/metrics")
@requires(Permission.QUEUE_READ)
async def queue_metrics(request: Request, asker: Asker) -> dict[str, Any]:
    """How many tasks wait and run now, totals of today (UTC), means of the last hour, and completions of the last minute. A task
    whose end was answered before the request is counted. 503 (`StoreUnavailable`) if the counting cannot catch up in time."""
    gate = gateway(request)
    return await gate.tally.queue_metrics(asker.workspace, gate.clock.now())


@router.post("/queue/prioritize")
@requires(Permission.QUEUE_WRITE)
async def prioritize(request: Request, body: Prioritize, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Changes the priority of a waiting task, or its position among the waiting tasks of the same priority, tenant and queue
    that the same agents may have."""
    gate = gateway(request)
    change = PrioritizeRequest(
        workspace=asker.workspace,
        principal=asker.principal,
        task_id=check_id(body.task_id, "task_id"),
        priority=None if body.priority is None else int(Priority.parse(body.priority)),
        position=body.position,
        cause=asker.cause,
    )
    await gate.scheduler.request(change)
    return {"success": True, "task": task_wire(await known_task(gate, asker, body.task_id))}


@router.get("/queue/controls")
@requires(Permission.QUEUE_READ)
async def controls(request: Request, asker: Asker) -> dict[str, Any]:
    """Controls of queues, task types and tenants; those that are not listed have the defaults."""
    found = await gateway(request).controls.list(asker.workspace)
    return {"controls": [control_wire(control) for control in found], "total": len(found)}


@router.put("/queue/controls")
@requires(Permission.QUEUE_WRITE)
async def set_control(request: Request, body: ControlSettings, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Sets the rate and burst of a queue, or the weight of a tenant. The scheduler applies it within a second."""
    gate = gateway(request)

    async def change() -> dict[str, Any]:
        old = await _control(gate, asker, body)
        changed = replace(
            old,
            rate_per_s=body.rate_per_second if "rate_per_second" in body.model_fields_set else old.rate_per_s,
            burst=old.burst if body.burst is None else body.burst,
            weight=old.weight if body.weight is None else body.weight,
        )
        return control_wire(await _put(gate, asker, check_control(changed), "control.changed"))

    return await answered_once(gate, asker, "queue/controls", key, body.model_dump(mode="json"), change)


@router.post("/queue/pause")
@requires(Permission.QUEUE_WRITE)
async def pause(request: Request, body: ControlName, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Pauses a queue, task type or tenant: none of its tasks starts until it is resumed; running tasks go on. A repeat
    changes nothing."""
    return await _set_paused(gateway(request), asker, body, key, paused=True)


@router.post("/queue/resume")
@requires(Permission.QUEUE_WRITE)
async def resume(request: Request, body: ControlName, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Resumes a queue, task type or tenant. A repeat changes nothing."""
    return await _set_paused(gateway(request), asker, body, key, paused=False)


async def _set_paused(
    gate: Gateway, asker: Origin, body: ControlName, key: str | None, *, paused: bool
) -> dict[str, Any]:
    async def change() -> dict[str, Any]:
        control = replace(await _control(gate, asker, body), paused=paused)
        return control_wire(await _put(gate, asker, control, "control.paused" if paused else "control.resumed"))

    route = "queue/pause" if paused else "queue/resume"
    return await answered_once(gate, asker, route, key, body.model_dump(mode="json"), change)


async def _control(gate: Gateway, asker: Origin, body: ControlName) -> Control:
    found = await gate.controls.get(asker.workspace, body.kind, body.name)
    return found or Control(workspace=asker.workspace, kind=body.kind, name=body.name)


async def _put(gate: Gateway, asker: Origin, control: Control, kind: str) -> Control:
    record: LogRecord = record_for(asker, gate.clock.now(), kind, control.entity, control.to_log())
    stored = await gate.controls.put(control, record)
    gate.notify(WakeTopic.CONTROLS)
    return stored
