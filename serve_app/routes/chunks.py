"""Routes of chunks: the holder of a running task writes them, and whoever may read payloads reads them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request, WebSocket, WebSocketDisconnect
from starlette.responses import JSONResponse, Response

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import CallerError, Conflict, StoreUnavailable
from cluster.domain.base.ids import check_id
from cluster.domain.tasks.chunks import (
    START,
    ChunkCursor,
    ChunkPage,
    NewChunks,
    cursor_of,
    next_number,
    written_contents,
)
from cluster.domain.tasks.task import LeaseToken
from cluster.ports.tasks import missing_task
from cluster.process.large import in_thread_if_large, rough_size
from serve_app.auth.admission import Asker, Caller, requires
from serve_app.auth.agent_identity import acting_agent
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import Gateway, gateway
from serve_app.http.errors import close_reason
from serve_app.http.idempotency import Idempotency
from serve_app.http.paging import Limit
from serve_app.http.query_names import check_query_names
from serve_app.schemas.chunks import WriteChunks, page_wire
from serve_app.streams import sending
from serve_app.streams.chunks import PAGE, OutputEvent
from serve_app.streams.endings import REFUSED, close_ended, until_ended
from serve_app.streams.sending import SseEvent, sse_event, sse_response, talk, watched_events

router = GuardedRouter(tags=["tasks"])

_After = Annotated[str | None, Query(max_length=32)]
_SOCKET_NAMES = frozenset({"after", "ticket"})


@router.post("/tasks/{task_id}/chunks")
@requires(Permission.TASKS_CLAIM)
async def write_chunks(
    request: Request, task_id: str, body: WriteChunks, asker: Asker, key: Idempotency
) -> dict[str, Any]:
    """Adds chunks (text or JSON) to the output of a running task; whoever holds its lease may. They are numbered from 1 in each
    attempt and written in order; ``next`` is the number that comes next. A repeat is answered like the first call. 409
    (`Conflict`): ``lease_lost``; ``chunk_gap`` if a number is left out without ``skip``; ``chunk_changed`` if a number was taken
    with another content. 413 (`TooLarge`): ``chunk_too_large``, ``chunks_too_large`` for the whole call, ``chunks_full`` for the
    task. 429 (`RateLimited`): ``chunks_too_fast``. 404 (`NotFound`) if there is no such task."""
    token = LeaseToken.decode(body.lease_token)
    if token.task_id != check_id(task_id, "task_id"):
        raise Conflict("lease_token belongs to another task.", "lease_lost")
    acting_agent(request, token.agent_id)
    gate = gateway(request)
    contents = await in_thread_if_large(rough_size(body.chunks), written_contents, body.chunks)
    new = NewChunks(
        workspace=asker.workspace,
        token=token,
        first=body.first,
        contents=contents,
        at=gate.clock.now(),
        skip=body.skip,
    )
    return {"next": next_number(new, await gate.chunk_writes.put(new))}


async def chunk_page(gate: Gateway, workspace: str, task_id: str, after: ChunkCursor, limit: int) -> ChunkPage:
    """Raises: `NotFound` if there is no such task in the workspace, `Removed` if retention has removed it."""
    page = await gate.chunks.read(workspace, task_id, after, limit, has_peers=gate.settings.has_peers)
    if page is None:
        raise await missing_task(gate.tasks, workspace, task_id)
    return page


@router.get("/tasks/{task_id}/chunks")
@requires(Permission.PAYLOADS_READ)
async def read_chunks(
    request: Request, task_id: str, asker: Asker, after: _After = None, limit: Limit = 100
) -> dict[str, Any]:
    """Chunks of a task in the order of their attempts and numbers, after the one that ``after`` names (ATTEMPT.N). Read on with
    ``after`` of the answer. A page has about a megabyte at most. ``elsewhere``: another region may have taken some that are not
    here. 404 (`NotFound`) if there is no such task, 400 (`InvalidRequest`, ``invalid_cursor``) if ``after`` has not that
    form."""
    cursor = START if after is None else cursor_of(after)
    page = await chunk_page(gateway(request), asker.workspace, check_id(task_id, "task_id"), cursor, limit)
    return page_wire(task_id, cursor, page)


async def _events(gate: Gateway, workspace: str, task_id: str, after: ChunkCursor) -> AsyncGenerator[SseEvent, None]:
    async with contextlib.aclosing(gate.chunk_hub.output(workspace, task_id, after)) as output:
        async for event in output:
            yield sse_event(event.cursor.encode(), event.frame())


@router.get("/tasks/{task_id}/chunks/stream", response_model=None)
@requires(Permission.PAYLOADS_READ)
async def follow_chunks(request: Request, task_id: str, asker: Asker, after: _After = None) -> Response:
    """Chunks of a task as they are written, new attempts, and the end of the task, with which the stream ends, if the call sends
    ``Accept: text/event-stream``; else the first page of them. Resume with ``Last-Event-ID`` or ``after`` (ATTEMPT.N). 404
    (`NotFound`) if there is no such task, 400 (`InvalidRequest`, ``invalid_cursor``) if the cursor has not that form."""
    gate = gateway(request)
    text = request.headers.get("last-event-id") or after
    cursor = START if text is None else cursor_of(text)
    page = await chunk_page(gate, asker.workspace, check_id(task_id, "task_id"), cursor, PAGE)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return JSONResponse(page_wire(task_id, cursor, page))
    events = partial(_events, gate, asker.workspace, task_id, cursor)
    return sse_response(
        watched_events(request, Permission.PAYLOADS_READ, cursor.encode(), events, slow_s=sending.SLOW_S)
    )


@router.websocket("/tasks/{task_id}/chunks/stream")
@requires(Permission.PAYLOADS_READ)
async def websocket_chunks(socket: WebSocket, task_id: str, caller: Caller) -> None:
    """The same as frames. A client resumes with the query parameter ``after``, set to ``data.after`` of the last frame."""
    with contextlib.suppress(WebSocketDisconnect):  # a client may hang up at every step, also before the first frame
        await socket.accept()
        try:
            check_query_names(socket, _SOCKET_NAMES)
            given = socket.query_params.get("after")
            cursor = START if given is None else cursor_of(given)
            await chunk_page(gateway(socket), caller.workspace, check_id(task_id, "task_id"), cursor, 1)
        except CallerError as error:
            await socket.close(code=REFUSED, reason=close_reason(error.message))
            return
        except StoreUnavailable as error:
            await socket.close(code=1013, reason=close_reason(error.message))
            return
        await _follow(socket, caller.workspace, task_id, cursor)


async def _follow(socket: WebSocket, workspace: str, task_id: str, cursor: ChunkCursor) -> None:
    gate, sent, over, slow = gateway(socket), [cursor], asyncio.Event(), asyncio.Event()
    with gate.open_calls.of(socket, Permission.PAYLOADS_READ, exact=True) as call:
        restart = gate.endings.now()
        push = _push(socket, gate.chunk_hub.output(workspace, task_id, cursor), sent, over, slow)
        if not await until_ended(talk(socket, push), restart, call.ended, over, slow):
            return
        if over.is_set():
            await socket.close()
        else:
            await close_ended(socket, call, f"The stream begins anew; connect again with after={sent[-1].encode()}.")


async def _push(
    socket: WebSocket,
    output: AsyncGenerator[OutputEvent, None],
    sent: list[ChunkCursor],
    over: asyncio.Event,
    slow: asyncio.Event,
) -> None:
    """``sent`` has one entry: the cursor of the last event that was sent. Sets ``over`` at the end of the task, ``slow`` if the
    client does not take an event in time."""
    loop = asyncio.get_running_loop()
    async with contextlib.aclosing(output):
        async for event in output:
            late = loop.call_later(sending.SLOW_S, slow.set)
            await socket.send_text(json.dumps(event.frame(), ensure_ascii=False))
            late.cancel()
            sent[:] = [event.cursor]
    over.set()
