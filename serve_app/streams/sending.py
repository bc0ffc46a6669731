"""Sends events by SSE and WebSocket, whatever they are about, until there are no more or the stream has to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, WebSocket, WebSocketDisconnect
from starlette.responses import StreamingResponse

from cluster.domain.access.permissions import Permission
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import parse_json
from serve_app.auth.open_calls import OpenCall
from serve_app.gateway import gateway
from serve_app.streams.frames import received

PING_S = 15.0
#: When a browser connects again after the end of a stream.
RECONNECT_MS = 1000
MAX_FRAME_CHARS = 4096
#: A client that takes longer for one event of a task's output is told where to go on, and disconnected.
SLOW_S = 60.0

#: The cursor after an event, and the event as SSE.
SseEvent = tuple[str, bytes]


def sse_event(cursor: str, content: dict[str, Any]) -> SseEvent:
    """An event, named by its type."""
    text = json.dumps(content, ensure_ascii=False)
    return cursor, f"id: {cursor}\nevent: {content['type']}\ndata: {text}\n\n".encode()


def sse_response(content: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(
        content,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _resume(cursor: str) -> bytes:
    """Not an event: it tells the client when to connect again and with which ``Last-Event-ID``."""
    return f"retry: {RECONNECT_MS}\nid: {cursor}\n\n".encode()


def _closed(call: OpenCall, at: float) -> bytes:
    """The last event of a stream whose caller was refused: a browser connects again, and is answered with the status."""
    refusal = call.refusal
    assert refusal is not None, "asked for a refused call only"
    content = {"type": "closed", "timestamp": at, "data": {"error": refusal.message, "code": refusal.code}}
    return f"event: closed\ndata: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


async def watched_events(
    request: Request,
    permission: Permission,
    cursor: str,
    events: Callable[[], AsyncGenerator[SseEvent, None]],
    *,
    slow_s: float | None = None,
    closed: Callable[[OpenCall, float], bytes] = _closed,
) -> AsyncIterator[bytes]:
    """The events until there are no more, the caller has no access to them any more, or the stream has to end. ``closed``: the
    last event if the caller was refused."""
    gate = gateway(request)
    with gate.open_calls.of(request, permission, exact=True) as call:
        endings = (gate.endings.now(), call.ended)
        async with contextlib.aclosing(_until(events(), cursor, endings, slow_s)) as sent:
            async for event in sent:
                yield event
        if call.refusal is not None:
            yield closed(call, gate.clock.now())


async def _until(
    events: AsyncGenerator[SseEvent, None], cursor: str, endings: Sequence[asyncio.Event], slow_s: float | None
) -> AsyncGenerator[bytes, None]:
    yield b": connected\n" + _resume(cursor)
    loop = asyncio.get_running_loop()
    pending = asyncio.ensure_future(anext(events, None))
    waiting = [asyncio.ensure_future(ended.wait()) for ended in endings]
    try:
        while not any(ending.done() for ending in waiting):
            await asyncio.wait({pending, *waiting}, timeout=PING_S, return_when=asyncio.FIRST_COMPLETED)
            if any(ended.is_set() for ended in endings):
                break
            sent_at = loop.time()
            if pending.done():
                event = pending.result()
                if event is None:
                    return
                yield event[1]
                cursor = event[0]
                pending = asyncio.ensure_future(anext(events, None))
            else:
                yield b": ping\n\n"
            if slow_s is not None and loop.time() - sent_at > slow_s:
                break
        yield _resume(cursor)
    finally:
        for task in (pending, *waiting):
            task.cancel()
        await asyncio.gather(pending, *waiting, return_exceptions=True)
        await events.aclose()


async def talk(socket: WebSocket, push: Coroutine[Any, Any, None]) -> None:
    """Answers what a client sends while ``push`` sends it events, until it hangs up."""
    sender = asyncio.ensure_future(push)
    try:
        while not sender.done():
            await _answer(socket, await received(socket))
    finally:
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await sender


async def _answer(socket: WebSocket, text: str) -> None:
    """Answers ``ping``. ``subscribe`` and ``unsubscribe``, which the released client sends, are accepted and change nothing."""
    kind = None
    if len(text) <= MAX_FRAME_CHARS:
        with contextlib.suppress(InvalidRequest):
            message = parse_json(text, "A frame")
            kind = message.get("type") if isinstance(message, dict) else None
    if kind == "ping":
        await send_frame(socket, "pong", {})
    elif kind not in ("subscribe", "unsubscribe"):
        await send_frame(socket, "error", {"error": 'Send {"type": "ping"}; filters are query parameters.'})


async def send_frame(socket: WebSocket, kind: str, data: dict[str, Any]) -> None:
    """Sends a frame as of now."""
    clock = gateway(socket).clock
    await socket.send_text(json.dumps({"type": kind, "timestamp": clock.now(), "data": data}))
