"""Calls between two processes without Ray: pickled messages over a Unix socket, for figures of our own code alone."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from cluster.domain.errors import ActorUnavailable

_LENGTH = struct.Struct("!I")


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    return pickle.loads(await reader.readexactly(length))


def _write(writer: asyncio.StreamWriter, message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    writer.write(_LENGTH.pack(len(data)) + data)


async def serve(path: Path, call: Callable[[Any], Awaitable[Any]]) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running: set[asyncio.Task[None]] = set()

        async def answer(number: int, message: Any) -> None:
            _write(writer, (number, await call(message)))

        try:
            while True:
                task = asyncio.create_task(answer(*await _read(reader)))
                running.add(task)
                task.add_done_callback(running.discard)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await asyncio.start_unix_server(connected, path)


class Connection:
    """The caller's end; a lost connection fails every call, as a dead actor does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def call(self, message: Any) -> Any:
        try:
            if self._writer is None:
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                self._reading = asyncio.create_task(self._read(reader))
            number = next(self._numbers)
            self._waiting[number] = asyncio.get_running_loop().create_future()
            _write(self._writer, (number, message))
        except OSError as error:
            raise ActorUnavailable("The shard does not answer.") from error
        return await self._waiting[number]

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, answer = await _read(reader)
                self._waiting.pop(number).set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._writer = None
            for future in self._waiting.values():
                future.set_exception(ActorUnavailable("The shard has gone."))
            self._waiting.clear()
