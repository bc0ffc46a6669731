"""Routes that read tasks: one task, lists, a task's events, and why a task is not running."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request

from cluster.domain.access.permissions import Permission
from cluster.domain.base.conditions import Search
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.ids import check_id
from cluster.domain.base.log import Origin
from cluster.domain.scheduling.explain import Explanation, explain, explain_away
from cluster.domain.scheduling.requests import ExplainRequest
from cluster.domain.scheduling.sub_queues import LEVELS
from cluster.domain.tasks.task import Body, Priority, Task, TaskDetail, TaskStatus
from cluster.ports.tasks import TaskQuery, missing_task
from cluster.ports.totals import Total
from cluster.process.waits import LONGEST_WAIT_S
from serve_app.auth.admission import Asker, Caller, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.words import data_of, may_read_words
from serve_app.gateway import Gateway, gateway
from serve_app.http.hang_ups import hung_up
from serve_app.http.paging import (
    Cursor,
    Filter,
    Limit,
    Sort,
    Time,
    check_sort,
    decode_cursor,
    encode_cursor,
    next_cursor,
    total_wire,
)
from serve_app.http.searching import Searching
from serve_app.routes.agents import without_actor
from serve_app.schemas.fields import MAX_SECONDS, Offset
from serve_app.schemas.tasks import history_wire, retry_wire, task_wire
from serve_app.streams.endings import until_ended

router = GuardedRouter(tags=["tasks"])

T = TypeVar("T")

#: How many seconds a call waits for the end of a task; more than `LONGEST_WAIT_S` is cut to that.
Wait = Annotated[float, Query(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
ENDED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.TIMEOUT)


async def known_task(gate: Gateway, asker: Origin, task_id: str) -> Task:
    """The task as it is now.

    Raises: `NotFound` if there is no such task, `Removed` if retention has removed it, `InvalidRequest` if ``task_id`` is no id.
    """
    task = await gate.task_reads.put((asker.workspace, check_id(task_id, "task_id")))
    if task is None:
        raise await missing_task(gate.tasks, asker.workspace, task_id)
    return shown(gate, task)


async def task_at_its_end(request: Request, asker: Origin, task_id: str, wait_s: float) -> Task:
    """The task when it has ended, ``wait_s`` have passed (at most `LONGEST_WAIT_S`), or the client has hung up. The log tells of
    the end, so no query is made meanwhile.

    Raises: what `known_task` raises; `Unauthenticated`, `Forbidden` if the caller loses its access meanwhile."""
    gate = gateway(request)
    return await at_its_end(
        request,
        asker,
        task_id,
        wait_s,
        read=lambda: known_task(gate, asker, task_id),
        ended=lambda task: task.status in ENDED,
    )


async def at_its_end(
    request: Request,
    asker: Origin,
    entity: str,
    wait_s: float,
    *,
    read: Callable[[], Awaitable[T]],
    ended: Callable[[T], bool],
    permission: Permission = Permission.TASKS_READ,
) -> T:
    """What ``read`` returns of a task, a run or a deliberation: when it has ended, ``wait_s`` have passed, or the client has hung
    up. ``permission``: what the call was admitted with.

    Raises: what ``read`` raises; `Unauthenticated`, `Forbidden` if the caller loses its access meanwhile."""
    gate = gateway(request)
    found = await read()
    if wait_s == 0 or ended(found):
        return found
    hang_up = asyncio.ensure_future(hung_up(request.receive))
    left = asyncio.Event()
    hang_up.add_done_callback(lambda _: left.set())
    try:
        with (
            gate.hub.end_of(asker.workspace, entity) as may_have_ended,
            gate.open_calls.of(request, permission) as call,
        ):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, LONGEST_WAIT_S)):
                    await until_ended(_end(read, ended, may_have_ended), call.ended, left)
            gate.open_calls.check(call)
    finally:
        hang_up.cancel()
    return await read()


async def _end(read: Callable[[], Awaitable[T]], ended: Callable[[T], bool], may_have_ended: asyncio.Event) -> None:
    while True:
        may_have_ended.clear()
        if ended(await read()):
            return
        await may_have_ended.wait()


def shown(gate: Gateway, task: Task) -> Task:
    """The task as of now, with the registered region of the agent that holds it or held it last."""
    agent = gate.directory.known(task.workspace, task.assigned_agent) if task.assigned_agent else None
    region = None if agent is None else agent.region_id
    return replace(task.as_of(gate.clock.now()), assigned_region=region)


async def task_query(
    request: Request,
    asker: Asker,
    status: TaskStatus | None = None,
    status_detail: TaskDetail | None = None,
    task_type: Filter = None,
    agent_id: Filter = None,
    queue: Filter = None,
    created_after: Time = None,
    created_before: Time = None,
    sort: Sort = Sort.CREATED,
    limit: Limit = 100,
    offset: Offset = 0,
    cursor: Cursor = None,
) -> TaskQuery:
    """Filters, order and the page of a list. ``cursor`` is the ``next_cursor`` of the page before; ``offset`` is for clients that
    do not use cursors. 400 (`InvalidRequest`) if ``agent_id`` is no id: a list that can have no task is a mistake."""
    return TaskQuery(
        workspace=asker.workspace,
        statuses=(status,) if status else (),
        details=(status_detail,) if status_detail else (),
        task_type=task_type,
        agent_id=None if agent_id is None else check_id(agent_id, "agent_id"),
        queue=queue,
        created_after=created_after,
        created_before=created_before,
        limit=limit,
        offset=offset,
        before=decode_cursor(cursor),
        by_change=sort is Sort.CHANGED,
        now=gateway(request).clock.now(),
    )


Listing = Annotated[TaskQuery, Depends(task_query)]


async def _listed(gate: Gateway, query: TaskQuery, search: Search | None) -> tuple[Sequence[Task], dict[str, Any]]:
    """The tasks of a page, and the fields of the answer that say which page it is."""
    check_sort(Sort.CHANGED if query.by_change else Sort.CREATED, searched=search is not None)
    if search is None:
        tasks, total = await gate.tasks.list(query)
        return tasks, _page(query, tasks, total)
    page = await gate.tasks.search(query, search)
    more = page.following is not None
    return page.tasks, {
        **total_wire(Total(len(page.tasks), exact=query.before is None and not more)),
        "limit": query.limit,
        "offset": 0,
        "has_more": more,
        "next_cursor": None if page.following is None else encode_cursor(*page.following),
    }


def _created(task: Task) -> tuple[float, str]:
    return task.created_at, task.id


def _changed(task: Task) -> tuple[float, str]:
    return task.changed_at, task.id


def _page(query: TaskQuery, page: list[Task], total: Total) -> dict[str, Any]:
    following = next_cursor(page, query.limit, _changed if query.by_change else _created)
    exactly = query.before is None and total.exact
    more = query.offset + len(page) < total.entries if exactly else following is not None
    return {
        **total_wire(total),
        "limit": query.limit,
        "offset": query.offset,
        "has_more": more,
        "next_cursor": following,
    }


@router.get("/tasks/history")
@requires(Permission.TASKS_READ)
async def task_history(request: Request, asker: Asker, query: Listing, search: Searching) -> dict[str, Any]:
    """Tasks that have ended, newest first; ``where`` as in the list of tasks. 400 (`InvalidRequest`) if ``status`` is that of an
    open task."""
    if query.statuses and query.statuses[0] not in ENDED:
        raise InvalidRequest("status must be completed, failed, cancelled or timeout.", "invalid_status")
    query = replace(query, statuses=query.statuses or ENDED, bodies=(Body.METADATA, Body.RESULT))
    tasks, page = await _listed(gateway(request), query, search)
    return {"history": [history_wire(task) for task in tasks], **page}


@router.get("/tasks")
@requires(Permission.TASKS_READ)
async def list_tasks(request: Request, asker: Asker, query: Listing, search: Searching) -> dict[str, Any]:
    """Tasks of the workspace, newest first; with ``sort=changed`` those that ended, else began, else were submitted last. With
    ``where``, a page may be short or empty while ``next_cursor`` says that there may be more, and ``total`` counts the page.
    400 (`InvalidRequest`) if a condition cannot be meant, 403 (`Forbidden`) if it asks for metadata or tags without
    ``controlplane:payloads.read``."""
    gate = gateway(request)
    tasks, page = await _listed(gate, query, search)
    return {"tasks": [task_wire(shown(gate, task)) for task in tasks], **page}


@router.get("/tasks/{task_id}")
@requires(Permission.TASKS_READ)
async def get_task(request: Request, task_id: str, asker: Asker, wait: Wait = 0.0) -> dict[str, Any]:
    """One task. With ``wait``, when it has ended or so many seconds have passed (at most 25), as it is then. 404 (`NotFound`) if
    there is no such task, 410 (`Removed`, ``task_removed``) if retention has removed it."""
    return task_wire(await task_at_its_end(request, asker, task_id, wait))


@router.get("/tasks/{task_id}/events")
@requires(Permission.TASKS_READ)
async def task_events(
    request: Request,
    task_id: str,
    caller: Caller,
    after: Annotated[int, Query(ge=0, le=2_000_000_000)] = 0,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Events of a task, oldest first. ``n`` counts them from 1 without gaps; read on with ``after`` set to the last ``n``.
    404 (`NotFound`) if there is no such task."""
    gate = gateway(request)
    rows, total = await gate.tasks.events(caller.workspace, check_id(task_id, "task_id"), after, limit)
    if total == 0:
        raise await missing_task(gate.tasks, caller.workspace, task_id)
    words = may_read_words(caller)
    events = [
        {
            "n": n,
            "seq": row.seq,
            "type": row.kind.removeprefix("task."),
            "timestamp": row.at,
            "attempt": row.attempt,
            "principal": row.principal,
            "data": data_of(row, words),
        }
        for n, row in enumerate(rows, after + 1)
    ]
    return {"task_id": task_id, "events": events, "total": total, "has_more": after + len(events) < total}


async def _explained(gate: Gateway, asker: Origin, task_id: str) -> Explanation:
    view = await gate.scheduler.request(ExplainRequest(workspace=asker.workspace, task_id=check_id(task_id, "task_id")))
    agents, stored = await gate.agents.list(asker.workspace), await gate.breakers.load(asker.workspace)
    breakers = {found.agent_id: found.breaker for found in stored if found.agent_id is not None}
    return explain(view, agents, breakers, gate.clock.now(), await without_actor(gate, agents))


@router.get("/tasks/{task_id}/explain")
@requires(Permission.TASKS_READ)
async def explain_task(request: Request, task_id: str, asker: Asker) -> dict[str, Any]:
    """Reasons why a task is not running, and what would change each. A region that does not hear the one which gives out tasks
    answers by itself that they wait for it (`waiting_region`)."""
    gate = gateway(request)
    between = getattr(request.app.state, "replication_gate", None)
    away = None if between is None else between.away()
    if away is not None:
        found = explain_away((await known_task(gate, asker, check_id(task_id, "task_id"))).head(), away)
    else:
        found = await _explained(gate, asker, task_id)
    position, head = found.position, found.head
    wire: dict[str, Any] = {
        "task_id": task_id,
        "status": head.status.value,
        "status_detail": head.detail.value,
        "summary": found.summary,
        "reasons": [
            {"code": reason.code, "message": reason.message, "unblock": reason.unblock, "at": reason.at}
            for reason in found.reasons
        ],
        "able_agents": list(found.able_agents),
        "queue": head.queue,
        "tenant": head.tenant,
    }
    if head.rules is not None and head.rules.retries is not None:
        wire["retry"] = retry_wire(head.rules.retries, head.max_retries)
    if position is not None:
        wire["position"] = position.ahead + 1
        wire["effective_priority"] = Priority(LEVELS[position.effective_level]).wire_name
        wire["fairness_share"] = round(position.share, 6)
        wire["dispatches_until_turn"] = round(position.dispatches_behind, 6)
    return wire
