"""Ends streams (SSE, WebSocket) before somebody cuts them, so that their clients learn from where to resume.

When the list of replicas changes, HAProxy is replaced by another process, and perhaps a replica leaves. The old process is
killed, and the replica ended, at a bound (`cluster.process.waits`) that streams would always reach. Streams that end by
their age were rejected: clients would reconnect all the time for a change that is rare. A bound of hours was too: Serve
keeps the port of a replica that has ended back for as long, and has a hundred of them. So the program that starts HAProxy
leaves a mark on its node (`cluster.process.haproxy`), and each replica there ends its streams when it sees that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketState

from serve_app.auth.open_calls import OpenCall
from serve_app.http.errors import close_reason

LOOK_S = 1.0
#: From the mark until the new HAProxy has the port: streams of this time may have come through the old one.
SETTLE_S = 4.0
#: "Service restart": clients connect again, which many do not after 1000 and 1001.
RESTART = 1012
#: "Policy violation", as a handshake is refused: clients that connect again after a failure of the server do not after this.
REFUSED = 1008


class StreamEndings:
    """``end_all`` ends the streams that are open; those that begin later are open until the next time."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    def now(self) -> asyncio.Event:
        """What a stream that begins now has to wait for."""
        return self._ended

    def end_all(self) -> None:
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()


def _written(mark: Path) -> int:
    with contextlib.suppress(OSError):
        return mark.stat().st_mtime_ns
    return 0


async def end_when_replaced(
    endings: StreamEndings, mark: Path, look_s: float = LOOK_S, settle_s: float = SETTLE_S
) -> None:
    seen = _written(mark)
    while True:
        await asyncio.sleep(look_s)
        if (written := _written(mark)) != seen:
            seen = written
            await asyncio.sleep(settle_s)
            endings.end_all()


async def until_ended(work: Coroutine[Any, Any, Any], *endings: asyncio.Event) -> bool:
    """Runs ``work``, and cancels it if one of ``endings`` is set first. Whether one was."""
    working = asyncio.ensure_future(work)
    waiting = [asyncio.ensure_future(ended.wait()) for ended in endings]
    try:
        await asyncio.wait({working, *waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()  # raises the error that ended it
            return False
        return True
    finally:
        for task in (working, *waiting):
            task.cancel()
        await asyncio.gather(working, *waiting, return_exceptions=True)


async def close_ended(socket: WebSocket, call: OpenCall, reason: str) -> None:
    """Closes the socket of a call that has ended: for good if its caller was refused, else for a restart."""
    if call.refusal is None:
        await close_for_restart(socket, reason)
    elif socket.application_state is WebSocketState.CONNECTED:
        await socket.close(code=REFUSED, reason=close_reason(call.refusal.message))


async def close_for_restart(socket: WebSocket, reason: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.close(code=RESTART, reason=reason)
