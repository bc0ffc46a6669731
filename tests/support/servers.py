"""Uvicorn in the test's own loop, without the pauses that it makes when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from tests.support.ends import ended

#: A connection that was accepted is handed over within so many turns of the loop.
_TURNS = 5
_POLL_S = 0.005


class PromptServer(uvicorn.Server):
    """Leaves signals to the test runner, and ends when it is told, not at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._told = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        self.should_exit = True
        self._told.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, which sleeps for a tenth of a second before it looks, and between its looks."""
        for server in self.servers:
            server.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 (nothing tells)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@contextlib.asynccontextmanager
async def serving_app(application: Any, port: int = 0, **options: Any) -> AsyncIterator[PromptServer]:
    """Serves an ASGI application on loopback, on a free port if it is 0. ``options`` are uvicorn's; calls that are under way at
    the end have a second."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio sets it only where it made the socket
    values = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 1}
    server = PromptServer(uvicorn.Config(application, **(values | options)))
    serving = asyncio.ensure_future(server.serve([listener]))
    try:
        while not server.started:
            assert not serving.done(), "the application did not start"
            await asyncio.sleep(_POLL_S)
        yield server
    finally:
        server.end()
        await ended(serving, "the served application")
        listener.close()
