"""Routes of the dead letter: list, show, replay and purge tasks that failed for good."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import InvalidRequest, NotFound
from cluster.domain.base.ids import check_id
from cluster.domain.base.json_values import check_json
from cluster.domain.base.log import Origin, record_for
from cluster.domain.tasks.chats import check_asked_schema
from cluster.domain.tasks.task import Body, NewTask, Priority, Task, TaskDetail
from cluster.ports.operations import DeadLetterQuery, Replay
from cluster.ports.totals import Total
from cluster.ports.wake_ups import WakeTopic
from serve_app.auth.admission import Asker, admit, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.idempotency import Idempotency, answered_once
from serve_app.http.paging import Contained, Cursor, Filter, Limit, Time, decode_cursor, next_cursor, total_wire
from serve_app.schemas.queue import Chosen, DeadReason, ReplayDead, dead_wire

router = GuardedRouter(prefix="/dead-letter", tags=["dead letter"])


@router.get("")
@requires(Permission.TASKS_READ)
async def dead_letters(
    request: Request,
    asker: Asker,
    task_type: Filter = None,
    queue: Filter = None,
    reason: Annotated[DeadReason | None, Query()] = None,
    error_contains: Contained = None,
    ended_after: Time = None,
    ended_before: Time = None,
    replayed: bool = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Tasks that failed with no retries left (``dead_lettered``) or ran out of time (``timeout``), newest first.
    ``replayed=true`` includes those that were submitted again."""
    await _check_search(request, error_contains)
    query = DeadLetterQuery(
        workspace=asker.workspace,
        task_type=task_type,
        queue=queue,
        reason=None if reason is None else TaskDetail(reason),
        error_contains=error_contains,
        ended_after=ended_after,
        ended_before=ended_before,
        with_replayed=replayed,
        limit=limit,
        before=decode_cursor(cursor),
    )
    tasks, total = await gateway(request).dead_letters.list(query)
    following = next_cursor(tasks, limit, lambda task: (task.completed_at, task.id))
    page = {"tasks": [dead_wire(task) for task in tasks], "limit": limit, "next_cursor": following}
    return page | total_wire(total)


@router.post("/replay")
@requires(Permission.TASKS_WRITE)
async def replay_many(request: Request, body: ReplayDead, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Submits dead tasks again as new tasks. Each is replayed once, however often you call this. ``dry_run`` only lists
    them. 400 (`InvalidRequest`) without ids and filter, with both payload and payload_patch, or if the patch does not fit."""
    gate = gateway(request)
    _check_payload(body)
    await _check_search(request, None if body.filter is None else body.filter.error_contains)
    change = functools.partial(_replay_many, gate, asker, body)
    return await answered_once(gate, asker, "dead-letter/replay", key, body.model_dump(mode="json"), change)


async def _replay_many(gate: Gateway, asker: Origin, body: ReplayDead) -> dict[str, Any]:
    tasks, total = await _chosen(gate, asker, body, _read(body))
    if body.dry_run:
        payloads = [{"task_id": task.id, "payload": _payload(task, body)} for task in tasks]
        return {"dry_run": True, "would_replay": payloads, **_left(total, len(tasks))}
    replayed = await _replay(gate, asker, tasks, body)
    return {"dry_run": False, "replayed": replayed, **_left(total, len(tasks))}


def _left(total: Total, chosen: int) -> dict[str, Any]:
    return {**total_wire(total), "remaining": max(total.entries - chosen, 0)}


@router.post("/purge")
@requires(Permission.QUEUE_WRITE)
async def purge(request: Request, body: Chosen, asker: Asker, key: Idempotency) -> dict[str, Any]:
    """Removes tasks from the dead letter and deletes their payloads; their history stays. This cannot be undone. 400
    (`InvalidRequest`) without ids and filter, or with both."""
    gate = gateway(request)
    await _check_search(request, None if body.filter is None else body.filter.error_contains)
    change = functools.partial(_purge, gate, asker, body)
    return await answered_once(gate, asker, "dead-letter/purge", key, body.model_dump(mode="json"), change)


async def _purge(gate: Gateway, asker: Origin, body: Chosen) -> dict[str, Any]:
    tasks, total = await _chosen(gate, asker, body)
    ids = [task.id for task in tasks]
    if body.dry_run:
        return {"dry_run": True, "would_purge": ids, **_left(total, len(ids))}
    now = gate.clock.now()
    records = [record_for(asker, now, "task.purged", id_, {"task_id": id_}) for id_ in ids]
    purged = await gate.dead_letters.purge(asker.workspace, ids, records)
    return {"dry_run": False, "purged": purged, **_left(total, len(ids))}


async def _not_there(gate: Gateway, asker: Origin, task_id: str) -> NotFound:
    stub = await gate.tasks.stub(asker.workspace, task_id)
    if stub is not None:
        return stub.error("task")
    return NotFound(f"There is no task {task_id} in the dead letter.", "task_not_found")


@router.get("/{task_id}")
@requires(Permission.TASKS_READ)
async def dead_letter(request: Request, task_id: str, asker: Asker) -> dict[str, Any]:
    """One task of the dead letter, with its payload. 404 (`NotFound`) if it is not there."""
    query = DeadLetterQuery(workspace=asker.workspace, ids=(check_id(task_id, "task_id"),), with_replayed=True)
    tasks, _ = await gateway(request).dead_letters.list(query)
    if not tasks:
        raise await _not_there(gateway(request), asker, task_id)
    return dead_wire(tasks[0])


@router.post("/{task_id}/replay")
@requires(Permission.TASKS_WRITE)
async def replay_one(
    request: Request, task_id: str, asker: Asker, key: Idempotency, body: ReplayDead | None = None
) -> dict[str, Any]:
    """Submits one dead task again; a repeat gets the same answer. 404 (`NotFound`) if the task is not in the dead letter, 400
    (`InvalidRequest`) with both payload and payload_patch, or if the patch does not fit."""
    gate = gateway(request)
    body = (body or ReplayDead()).model_copy(update={"ids": [check_id(task_id, "task_id")], "filter": None})
    _check_payload(body)
    tasks, _ = await _chosen(gate, asker, body, _read(body), with_replayed=True)
    if not tasks:
        raise await _not_there(gate, asker, task_id)
    if body.dry_run:
        return {"dry_run": True, "task_id": task_id, "payload": _payload(tasks[0], body)}
    (entry,) = await _replay(gate, asker, tasks, body)
    return {"dry_run": False, **entry}


async def _check_search(request: Request, error_contains: str | None) -> None:
    """Refuses a search in words that the caller may not read: what it finds tells them."""
    if error_contains is not None:
        await admit(request, Permission.PAYLOADS_READ)


def _check_payload(body: ReplayDead) -> None:
    if body.payload is not None and body.payload_patch is not None:
        raise InvalidRequest("Give payload or payload_patch, not both.", "invalid_request")
    check_json(body.payload, "payload")
    check_asked_schema(body.payload)
    check_json(body.payload_patch, "payload_patch")


def _read(body: ReplayDead) -> tuple[Body, ...]:
    """What a replay has to read of dead tasks: a payload that stays as it is goes from one task to the other in the database."""
    return (Body.PAYLOAD,) if body.payload_patch is not None or (body.dry_run and body.payload is None) else ()


async def _chosen(
    gate: Gateway, asker: Origin, body: Chosen, bodies: tuple[Body, ...] = (), *, with_replayed: bool = False
) -> tuple[list[Task], Total]:
    """The first of the tasks that were asked for, as many as can be read at once, and how many there are."""
    if (body.ids is None) == (body.filter is None):
        raise InvalidRequest("Give ids or a filter; an empty filter chooses all dead tasks.", "invalid_request")
    query = DeadLetterQuery(workspace=asker.workspace, limit=body.limit, with_replayed=with_replayed, bodies=bodies)
    if body.ids is not None:
        query = replace(query, ids=tuple(body.ids), limit=len(body.ids))
    if body.filter is not None:
        query = replace(query, **body.filter.model_dump())
    tasks, total = await gate.dead_letters.list(query)
    return list(itertools.takewhile(lambda task: not task.left_out, tasks)), total


def _payload(task: Task, body: ReplayDead) -> Any:
    if body.payload is not None:
        return body.payload
    if body.payload_patch is None:
        return task.payload
    if not isinstance(task.payload, dict):
        raise InvalidRequest(
            f"The payload of {task.id} is not a JSON object; give payload instead of payload_patch.", "invalid_request"
        )
    return {**task.payload, **body.payload_patch}


async def _replay(gate: Gateway, asker: Origin, tasks: list[Task], body: ReplayDead) -> list[dict[str, Any]]:
    now = gate.clock.now()
    replays = [_again(gate, asker, task, now, _payload(task, body)) for task in tasks]
    outcomes = await gate.dead_letters.replay(replays)
    gate.notify(WakeTopic.TASKS, WakeTopic.NAMED)
    return [
        {"task_id": task.id, "replayed_as": outcome}
        for task, outcome in zip(tasks, outcomes, strict=True)
        if outcome is not None
    ]


def _again(gate: Gateway, asker: Origin, task: Task, now: float, payload: Any) -> Replay:
    """The replay of ``task``: a copy with a new id and without dependencies, which have all ended."""
    rules = None if task.rules is None else replace(task.rules, after=(), parent=None, depth=0).or_none()
    new = NewTask(
        id=gate.new_id("task"),
        origin=asker,
        task_type=task.task_type,
        created_at=now,
        payload=payload,
        required_capabilities=task.required_capabilities,
        priority=Priority(task.priority),
        timeout_s=task.timeout_s,
        max_retries=task.max_retries,
        queue=task.queue,
        target_agent=task.target_agent,
        rules=rules,
        replay_of=task.id,
    )
    record = record_for(asker, now, "task.replayed", task.id, {"replayed_as": new.id, "task_type": task.task_type})
    return Replay(of=task.id, task=new, record=record, new_payload=payload is not task.payload)
