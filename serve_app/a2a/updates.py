"""Streams: a task as it is, then each change of its state, by the log.

The id of an event is the ``seq`` of the row that it tells of. Who subscribes again gets the task as it is now, which holds
what was missed, and then what changes. With ``Last-Event-ID`` that works after the end too, which may be what was missed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from a2a.utils.errors import A2AError, InvalidParamsError, UnsupportedOperationError
from starlette.requests import Request
from starlette.responses import Response

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import InvalidRequest
from serve_app.a2a.failures import RpcId, error_body, of_answer
from serve_app.a2a.mapping import (
    ENDED,
    INPUT_REQUIRED,
    WORKING,
    Record,
    artifacts_of,
    name_of,
    stamp,
    status_wire,
    task_wire,
)
from serve_app.auth.open_calls import OpenCall
from serve_app.gateway import gateway
from serve_app.http.route_calls import Refused
from serve_app.routes.stream import cursor_of
from serve_app.streams.hub import StreamFilter, StreamHub
from serve_app.streams.sending import SseEvent, sse_response, watched_events

#: Rows after which a task or a deliberation may be in another state. After those of `_BEGUN` it is working, whatever it is now.
_BEGUN: Final = frozenset({"task.claimed", "deliberation.started"})
_CHANGES: Final = _BEGUN | {
    *("task.asked", "task.answered", "task.completed", "task.failed", "task.cancelled", "task.timeout"),
    *("deliberation.completed", "deliberation.failed", "deliberation.cancelled"),
    *("deliberation.input_required", "deliberation.input_answered"),
}

Read = Callable[[], Awaitable[Record]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """A task that is followed. ``first``: as it was when the log was at ``cursor``."""

    hub: StreamHub
    rows: StreamFilter
    cursor: int
    first: Record
    read: Read

    @property
    def permission(self) -> Permission:
        return Permission.TASKS_READ if self.first.is_task else Permission.DELIBERATIONS_READ

    async def changes(self) -> AsyncGenerator[tuple[int, Record], None]:
        """The rows after which it may be in another state, each with what it is by now.

        It is read for each row by its route: what the route may not let out (to this caller any more, or before it is
        replicated) is not told by this stream either. Close the generator. Raises: `Refused`."""
        async with contextlib.aclosing(self.hub.rows(self.cursor, self.rows)) as rows:
            async for row in rows:
                if row.kind in _CHANGES:
                    now = await self.read()
                    yield row.seq, _Begun.at(now, row.at) if row.kind in _BEGUN else now


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun(Record):
    """A task at the moment when somebody began to work on it."""

    begun_at: float

    @property
    def state(self) -> int:
        return WORKING

    @classmethod
    def at(cls, record: Record, at: float) -> _Begun:
        return cls(id=record.id, is_task=record.is_task, found=record.found, person=record.person, begun_at=at)


async def following(request: Request, workspace: str, record: Record, read: Read) -> Following:
    """``record`` was read before; it is read once more when it is known how far the log is. Raises: `StoreUnavailable`,
    `Refused`."""
    hub = gateway(request).hub
    now = await hub.now()
    rows = StreamFilter(
        workspace=workspace,
        task_id=record.id if record.is_task else None,
        deliberation_id=None if record.is_task else record.id,
    )
    return Following(hub=hub, rows=rows, cursor=now, first=await read(), read=read)


def last_event(request: Request) -> int | None:
    """Raises: `InvalidParamsError` if the header is no id of an event."""
    given = request.headers.get("last-event-id")
    if not given:
        return None
    try:
        return cursor_of(given, 0)
    except InvalidRequest as error:
        raise InvalidParamsError(error.message) from None


def check_open(record: Record, after: int | None) -> None:
    """Raises: `UnsupportedOperationError` if it has ended, unless the client goes on where it was cut off: what it has missed
    may be the end."""
    if record.state in ENDED and after is None:
        raise UnsupportedOperationError(f"Task {record.id} has ended; get it with GetTask.")


def stream(request: Request, rpc_id: RpcId, follow: Following, *, until_asked: bool) -> Response:
    """``until_asked``: it ends also when the task asks somebody."""
    events = partial(_events, request, rpc_id, follow, until_asked)
    closed = partial(_closed, request, rpc_id)
    return sse_response(watched_events(request, follow.permission, str(follow.cursor), events, closed=closed))


async def one_event(request: Request, rpc_id: RpcId, task: dict[str, Any]) -> AsyncIterator[bytes]:
    """A stream that says no more than that a task has begun, which cannot be read yet."""
    yield _event(None, rpc_id, {"task": task})


async def _events(
    request: Request, rpc_id: RpcId, follow: Following, until_asked: bool
) -> AsyncGenerator[SseEvent, None]:
    cursor, told = str(follow.cursor), _moment(follow.first)
    yield cursor, _event(cursor, rpc_id, {"task": task_wire(follow.first)})
    if _is_last(follow.first, until_asked):
        return
    try:
        async with contextlib.aclosing(follow.changes()) as changes:
            async for seq, record in changes:
                if _moment(record) == told:
                    continue
                cursor, told = str(seq), _moment(record)
                for update in _updates(record):
                    yield cursor, _event(cursor if "statusUpdate" in update else None, rpc_id, update)
                if _is_last(record, until_asked):
                    return
    except Refused as error:
        yield cursor, _error(request, rpc_id, of_answer(error.status, error.error))


def _moment(record: Record) -> tuple[int, Any]:
    """What tells a change from a repeat: a task that is tried again, or asks again, is in the same state once more."""
    return record.state, record.found.get("attempt")


def _is_last(record: Record, until_asked: bool) -> bool:
    return record.state in ENDED or (until_asked and record.state == INPUT_REQUIRED)


def _updates(record: Record) -> list[dict[str, Any]]:
    """The events of a change. What it has made comes before the state, and has no id: who is cut off between them gets both
    again."""
    about = {"taskId": record.id, "contextId": record.context_id}
    if isinstance(record, _Begun):
        status = {"state": name_of(WORKING), "timestamp": stamp(record.begun_at)}
        return [{"statusUpdate": {**about, "status": status}}]
    artifacts = [{"artifactUpdate": {**about, "artifact": each, "lastChunk": True}} for each in artifacts_of(record)]
    return [*artifacts, {"statusUpdate": {**about, "status": status_wire(record)}}]


def _event(cursor: str | None, rpc_id: RpcId, result: dict[str, Any]) -> bytes:
    """Without a name: clients of JSON-RPC read what is named no otherwise."""
    text = json.dumps({"jsonrpc": "2.0", "id": rpc_id, "result": result}, ensure_ascii=False)
    named = "" if cursor is None else f"id: {cursor}\n"
    return f"{named}data: {text}\n\n".encode()


def _error(request: Request, rpc_id: RpcId, error: A2AError) -> bytes:
    text = json.dumps(error_body(request, rpc_id, error), ensure_ascii=False)
    return f"event: error\ndata: {text}\n\n".encode()


def _closed(request: Request, rpc_id: RpcId, call: OpenCall, at: float) -> bytes:
    """The last event of a stream whose caller was refused."""
    refusal = call.refusal
    assert refusal is not None, "asked for a refused call only"
    return _error(request, rpc_id, InvalidParamsError(refusal.message, {"code": refusal.code}))
