"""Routes of the event stream: server-sent events, WebSockets, and a JSON description for a plain GET."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request, WebSocket, WebSocketDisconnect
from starlette.responses import JSONResponse, Response

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal
from cluster.domain.base.errors import CursorLost, InvalidRequest, StoreUnavailable
from cluster.domain.base.ids import check_id
from serve_app.auth.admission import Caller, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.auth.words import hidden_kinds, may_read_words
from serve_app.gateway import gateway
from serve_app.http.query_names import check_query_names
from serve_app.streams.endings import close_ended, until_ended
from serve_app.streams.hub import StreamFilter, StreamHub, frame
from serve_app.streams.sending import SseEvent, send_frame, sse_event, sse_response, talk, watched_events

router = GuardedRouter(tags=["stream"])
#: Mounted at the root, where the released client connects.
root = GuardedRouter(tags=["stream"])

#: A ``seq`` of the log. 18 digits always fit into a 64-bit integer, 19 may not.
_CURSOR = re.compile("[0-9]{1,18}")
#: ``debate_id`` is what the released client's socket sends; it is ignored.
_SOCKET_NAMES = frozenset({"task_id", "agent_id", "deliberation_id", "after", "debate_id", "ticket"})

_ID = Annotated[str | None, Query(max_length=128)]


def _stream_filter(
    caller: Principal, task_id: str | None, agent_id: str | None, deliberation_id: str | None
) -> StreamFilter:
    for value, name in ((task_id, "task_id"), (agent_id, "agent_id"), (deliberation_id, "deliberation_id")):
        if value is not None:
            check_id(value, name)
    return StreamFilter(
        workspace=caller.workspace,
        words=may_read_words(caller),
        without=hidden_kinds(caller),
        task_id=task_id,
        agent_id=agent_id,
        deliberation_id=deliberation_id,
    )


def cursor_of(text: str | None, default: int) -> int:
    if text is None:
        return default
    if _CURSOR.fullmatch(text) is None:
        raise InvalidRequest(
            "after (or Last-Event-ID) must be a cursor: the id of an event of this stream, a number such as 1234.",
            "invalid_cursor",
        )
    return int(text)


@router.get("/stream", response_model=None)
@requires(Permission.STREAM_READ)
async def stream(
    request: Request,
    caller: Caller,
    task_id: _ID = None,
    agent_id: _ID = None,
    deliberation_id: _ID = None,
    after: Annotated[str | None, Query(max_length=20)] = None,
) -> Response:
    """Events as they are committed, if the call sends ``Accept: text/event-stream``; else a description of the stream. Resume
    with ``Last-Event-ID`` or ``after``. 400 (`InvalidRequest`) if that is not the id of an event, 410 (`CursorLost`)
    if the events after it are not kept any more."""
    gate = gateway(request)
    hub = gate.hub
    now = await hub.now()
    # An empty header is what a browser means by none; an empty ``after`` is a script whose variable is empty.
    asked = request.headers.get("last-event-id") or after
    cursor = cursor_of(asked, now)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return JSONResponse(_description(now))
    if asked:
        await hub.check_cursor(cursor)
    stream_filter = _stream_filter(caller, task_id, agent_id, deliberation_id)
    events = partial(_rows, hub, cursor, stream_filter)
    return sse_response(watched_events(request, Permission.STREAM_READ, str(cursor), events))


def _description(now: int) -> dict[str, Any]:
    return {
        "sse": {
            "path": "/api/control-plane/stream",
            "accept": "text/event-stream",
            "resume": "Last-Event-ID header, or the query parameter after",
        },
        "websocket": {"paths": ["/api/control-plane/stream", "/ws/control-plane"], "resume": "query parameter after"},
        "filters": ["task_id", "agent_id", "deliberation_id"],
        "frame": {"type": "string", "timestamp": "epoch seconds", "seq": "log sequence number", "data": "object"},
        "last_event_id": now,
    }


async def _rows(hub: StreamHub, cursor: int, stream_filter: StreamFilter) -> AsyncGenerator[SseEvent, None]:
    async with contextlib.aclosing(hub.rows(cursor, stream_filter)) as rows:
        async for row in rows:
            yield sse_event(str(row.seq), frame(row, words=stream_filter.words))


@root.websocket("/ws/control-plane")
# What the released client's socket asks for: it ends each URL that it is given with /ws.
@root.websocket("/ws/control-plane/ws")
@root.websocket("/ws")
@router.websocket("/stream")
@requires(Permission.STREAM_READ)
async def websocket_stream(socket: WebSocket, caller: Caller) -> None:
    """Sends events as frames. A client resumes with the query parameter ``after``, set to the last ``seq`` it saw."""
    with contextlib.suppress(WebSocketDisconnect):  # a client may hang up at every step, also before the first frame
        await socket.accept()
        await _serve(socket, caller)


async def _serve(socket: WebSocket, caller: Principal) -> None:
    hub = gateway(socket).hub
    query = socket.query_params
    try:
        check_query_names(socket, _SOCKET_NAMES)
        cursor = cursor_of(query.get("after"), await hub.now())
        if query.get("after"):
            await hub.check_cursor(cursor)
        stream_filter = _stream_filter(
            caller, query.get("task_id"), query.get("agent_id"), query.get("deliberation_id")
        )
    except (InvalidRequest, CursorLost) as error:
        await socket.close(code=1008, reason=error.message)
        return
    except StoreUnavailable as error:
        await socket.close(code=1013, reason=error.message)
        return
    gate, sent = gateway(socket), [cursor]
    with gate.open_calls.of(socket, Permission.STREAM_READ, exact=True) as call:
        ended = gate.endings.now()
        await send_frame(
            socket, "connected", {"message": "Connected to the control plane stream", "last_event_id": cursor}
        )
        if await until_ended(talk(socket, _push(socket, hub, sent, stream_filter)), ended, call.ended):
            await close_ended(socket, call, f"The stream begins anew; connect again with after={sent[-1]}.")


async def _push(socket: WebSocket, hub: StreamHub, sent: list[int], stream_filter: StreamFilter) -> None:
    """``sent`` has one entry: the ``seq`` of the last event that was sent, or of that before the first."""
    async with contextlib.aclosing(hub.rows(sent[-1], stream_filter)) as rows:
        async for row in rows:
            await socket.send_text(json.dumps(frame(row, words=stream_filter.words), ensure_ascii=False))
            sent[:] = [row.seq]
