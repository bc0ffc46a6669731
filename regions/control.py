"""The socket by which `aragora-cp region` reaches the leader of its region: one line of JSON each way.

A file that only the leader's user can open admits operators: whoever can fail a region over while its API and its database
are away can be asked for neither a key nor a role.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.domain.base.errors import Conflict, ControlPlaneError, InternalError, InvalidRequest

_logger = logging.getLogger(__name__)
#: Of a request's line.
_MOST_BYTES = 64 * 1024
#: How long a connection may be open without a request.
_REQUEST_S = 5.0
Command = Callable[..., Awaitable[Any]]


class ControlSocket:
    """``commands``: by name, with their arguments by name."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._commands = commands
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Takes the place of a socket that an earlier leader has left.

        Raises: `Conflict` if something else is there; `OSError` if it cannot be made."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise Conflict(f"{self._path} is there and is no socket; remove it, or set ARAGORA_REGION_SOCKET.")
            self._path.unlink()
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self._path, limit=_MOST_BYTES)
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Takes no more requests."""
        if self._server is not None:
            self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, ValueError, asyncio.CancelledError):
            try:
                line = await asyncio.wait_for(reader.readline(), _REQUEST_S)
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
            finally:
                writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"result": await self._called(line)}
        except ControlPlaneError as error:
            return _refusal(error)
        except Exception:
            _logger.exception("a command of an operator met an error")
            return _refusal(InternalError("The region's leader met an error of its own; its log says more."))

    async def _called(self, line: bytes) -> Any:
        try:
            asked = json.loads(line)
            command, arguments = self._commands[asked["command"]], dict(asked.get("arguments", {}))
            inspect.signature(command).bind(**arguments)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidRequest(
                f"A request is a line of JSON with a command ({', '.join(self._commands)}) and its arguments."
            ) from error
        return await command(**arguments)


def _refusal(error: ControlPlaneError) -> dict[str, Any]:
    return {"error": error.message, "code": error.code, "status": error.status}
