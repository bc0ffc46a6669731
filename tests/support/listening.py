"""A TCP server of a test, whose connections end with it.

A socket that is still open when its loop ends is a warning in whichever test runs when the collector finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

#: A connection that was accepted is handed over within so many turns of the loop.
_TURNS = 5


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def listening(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.Server]:
    """Serves on a free port of loopback. At the end ``talk`` is cancelled where it still runs, and connections are closed."""
    talks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        writers.append(writer)
        with contextlib.suppress(asyncio.CancelledError):
            await talk(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    try:
        yield server
    finally:
        server.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        for writer in writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
