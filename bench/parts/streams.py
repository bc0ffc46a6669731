"""Streams of events in one process: ``python -m bench.parts.streams URL``.

All streams are read; the events of every ``SAMPLED``th are timed, and those of the others counted by their bytes only. With
thousands of streams, a client that read each event would be what is measured.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
import time
from typing import Any, cast
from urllib.parse import urlsplit

from bench.parts.loop import Handlers, run

SERVER = urlsplit(sys.argv[1])
HOST, PORT = SERVER.hostname or "127.0.0.1", SERVER.port or 80
PATH = "/api/control-plane/stream"
SAMPLED = 20
OPENING = 50
_AT = re.compile(rb'"timestamp": ?([0-9.]+)')


class Stream(asyncio.Protocol):
    """One stream. ``lags``: milliseconds from an event's time to its arrival; None: they are not timed."""

    def __init__(self, timed: bool) -> None:
        self.lags: list[float] | None = [] if timed else None
        self.got = 0
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none of asyncio's
        head = f"GET {PATH} HTTP/1.1\r\nhost: {SERVER.netloc}\r\naccept: text/event-stream\r\n\r\n"
        self.transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            if b" 200 " not in data[:20]:
                self.begun.set_exception(RuntimeError(f"a stream was answered {data[:200]!r}"))
                return
            self.begun.set_result(None)
        self.got += len(data)
        if self.lags is None:
            return
        now, data = time.time(), self._rest + data
        whole, _, self._rest = data.rpartition(b"\n")
        self.lags += [(now - float(at)) * 1000 for at in _AT.findall(whole)]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.begun.done():
            self.begun.set_exception(RuntimeError(f"a stream was not answered: {error}"))


class Streams:
    """All streams of this process."""

    def __init__(self) -> None:
        self._opened: list[Stream] = []

    async def _one(self) -> None:
        timed = len(self._opened) % SAMPLED == 0
        stream = Stream(timed)
        self._opened.append(stream)
        await asyncio.get_running_loop().create_connection(lambda: stream, HOST, PORT)
        await stream.begun

    async def open(self, total: int) -> dict[str, Any]:
        """Opens streams until there are so many."""
        while (missing := total - len(self._opened)) > 0:
            await asyncio.gather(*(self._one() for _ in range(min(OPENING, missing))))
        return {}

    async def forget(self) -> dict[str, Any]:
        """Forgets the times of what has come."""
        for stream in self._opened:
            if stream.lags is not None:
                stream.lags.clear()
        return {}

    async def lags(self) -> dict[str, Any]:
        """The times of all timed streams together, and how many events the first has had."""
        if any(stream.lost for stream in self._opened):
            raise RuntimeError("a stream was ended")
        timed = [stream.lags for stream in self._opened if stream.lags is not None]
        every = [lag for lags in timed for lag in lags]
        p99 = statistics.quantiles(every, n=100)[98]
        return {"events": len(timed[0]), "p50": statistics.median(every), "p99": p99}

    async def leave(self) -> dict[str, Any]:
        for stream in self._opened:
            stream.transport.close()
        self._opened.clear()
        return {}


async def streams() -> Handlers:
    all_of_them = Streams()
    return {
        "open": all_of_them.open,
        "forget": all_of_them.forget,
        "lags": all_of_them.lags,
        "leave": all_of_them.leave,
    }


if __name__ == "__main__":
    run(streams)
