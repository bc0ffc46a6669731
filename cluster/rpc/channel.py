"""Calls between two processes of one deployment, over one TCP connection and past Ray.

A call through Ray costs about a millisecond of CPU on each side; here it is two messages. Ray still decides where an
actor lives, and restarts it. Ray also hands out the address, with a key that the actor's process has drawn: so
exactly those who may call through Ray may call here. Both sides prove that they hold the key (HMAC over both nonces)
before either reads a message, and a message may name only values of our own rooms.

Contents are not encrypted, and Ray's are not either unless its TLS is on. If it is on, there is no channel and Ray
carries the calls.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib
import io
import itertools
import logging
import pickle
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.domain.base.compact import rebuild
from cluster.domain.base.errors import ActorUnavailable, ControlPlaneError

_logger = logging.getLogger(__name__)

KEY_BYTES = 32
_PROOF = hashlib.sha256().digest_size
MAX_MESSAGE = 256 * 1024 * 1024
HANDSHAKE_S = 5.0
CONNECT_S = 1.0
#: A machine that has vanished sends no reset. So a silent connection is probed after 3 s and given up after about 9 s.
KEEPALIVE = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, 1),
    "TCP_KEEPIDLE": (socket.IPPROTO_TCP, 3),
    "TCP_KEEPINTVL": (socket.IPPROTO_TCP, 2),
    "TCP_KEEPCNT": (socket.IPPROTO_TCP, 3),
    "TCP_USER_TIMEOUT": (socket.IPPROTO_TCP, 9000),
}
_LENGTH = struct.Struct("!I")
_ROOMS = frozenset({"actors", "cluster", "regions", "serve_app"})
_RESTARTING = "A part of the control plane is restarting; try again in a moment."

#: (method, arguments)
Call = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a process is called, and the key that it asks for."""

    host: str
    port: int
    key: bytes = field(repr=False)

    def save(self, path: Path) -> None:
        """Writes the address to a file that only processes of the same user can read."""
        path.touch(mode=0o600)
        path.write_text(f"{self.host} {self.port} {self.key.hex()}")

    @classmethod
    def load(cls, path: Path) -> Address:
        """Reads an address that `save` wrote."""
        host, port, key = path.read_text().split()
        return cls(host, int(port), bytes.fromhex(key))


class _OurValues(pickle.Unpickler):
    """Reads plain data and values of our own classes, and nothing else: a plain unpickler calls whatever a message names."""

    #: (module, name) → the class it names. Only classes that passed `_look_up` get in.
    _known: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = self._known.get((module, name))
        if found is None:
            found = self._known[module, name] = self._look_up(module, name)
        return found

    @staticmethod
    def _look_up(module: str, name: str) -> Any:
        room = module.partition(".")[0]
        if room in _ROOMS and "." not in name:
            found = getattr(importlib.import_module(module), name, None)
            if found is rebuild or (isinstance(found, type) and found.__module__ == module):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not a value that calls carry")


def _loads(data: bytes) -> Any:
    return _OurValues(io.BytesIO(data)).load()


def _dumps(message: Any) -> bytes:
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def _proof(key: bytes, side: bytes, nonces: bytes) -> bytes:
    return hmac.digest(key, side + nonces, "sha256")


class _Frames(asyncio.Protocol):
    """Messages, each after its length. The handshake comes first; until it is over no message may be longer than its own."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._read = bytearray()
        self._limit = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, (level, value) in KEEPALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(level, getattr(socket, name), value)

    def data_received(self, data: bytes) -> None:
        read = self._read
        read += data
        at = 0
        while len(read) - at >= 4:
            (length,) = _LENGTH.unpack_from(read, at)
            if length > self._limit:
                self._transport.abort()
                return
            if len(read) - at - 4 < length:
                break
            message = bytes(memoryview(read)[at + 4 : at + 4 + length])
            at += 4 + length
            self._message(message)
            if self._transport.is_closing():
                return
        del read[:at]

    def _message(self, message: bytes) -> None:
        raise NotImplementedError

    def _send(self, message: bytes) -> None:
        self._transport.write(_LENGTH.pack(len(message)) + message)


class ChannelServer:
    """Accepts connections and answers each call by ``call(method, *arguments)``. If a connection is lost, its calls are
    cancelled."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._key = secrets.token_bytes(KEY_BYTES)
        self._connections: set[_Answering] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> Address:
        """Listens on a free port of ``host``, and returns the address."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Answering(self._key, self._call, self._connections), host, 0, start_serving=True
        )
        return Address(host, self._server.sockets[0].getsockname()[1], self._key)

    async def close(self) -> None:
        """Stops listening and breaks off all connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self._connections):
                connection.abort()
            await self._server.wait_closed()


class _Answering(_Frames):
    """The server's end of one connection."""

    def __init__(self, key: bytes, call: Call, connections: set[_Answering]) -> None:
        super().__init__()
        self._key = key
        self._call = call
        self._all = connections
        self._nonce = secrets.token_bytes(KEY_BYTES)
        self._proven = False
        self._running: set[asyncio.Task[None]] = set()
        self._handshake_timer: asyncio.TimerHandle

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._all.add(self)
        self._limit = KEY_BYTES + _PROOF
        self._handshake_timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self.abort)
        self._send(self._nonce)

    def connection_lost(self, error: Exception | None) -> None:
        self._handshake_timer.cancel()
        self._all.discard(self)
        for task in self._running:
            task.cancel()

    def abort(self) -> None:
        self._transport.abort()

    def _message(self, message: bytes) -> None:
        if not self._proven:
            self._prove(message)
            return
        try:
            number, method, arguments = _loads(message)
        except Exception as error:  # noqa: BLE001 - unpickling raises whatever the bytes say
            _logger.error("a message that is no call ends its connection: %s", error)
            self.abort()
            return
        task = asyncio.get_running_loop().create_task(self._answer(number, method, arguments))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _prove(self, message: bytes) -> None:
        nonces = self._nonce + message[:KEY_BYTES]
        if not hmac.compare_digest(message[KEY_BYTES:], _proof(self._key, b"caller", nonces)):
            _logger.warning("a connection without the right key was refused")
            self.abort()
            return
        self._proven = True
        self._limit = MAX_MESSAGE
        self._handshake_timer.cancel()
        self._send(_proof(self._key, b"called", nonces))

    async def _answer(self, number: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            answer = _dumps((number, True, await self._call(method, *arguments)))
        except ControlPlaneError as error:
            answer = _dumps((number, False, error))
        except Exception as error:
            _logger.error("%s failed", method, exc_info=error)
            answer = _dumps((number, False, ControlPlaneError(f"The control plane failed in {method}.")))
        if not self._transport.is_closing():
            self._send(answer)


class Channel(_Frames):
    """The caller's end of one connection, made by ``open``. If the connection is lost, it is not opened again."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key
        self._limit = KEY_BYTES
        self._nonces = b""
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._retired = False

    @classmethod
    async def open(cls, address: Address) -> Channel:
        """Connects and does the handshake. Raises: `OSError` if nobody who holds the key answers."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):  # its TimeoutError is an OSError
            _, channel = await loop.create_connection(lambda: cls(address.key), address.host, address.port)
            try:
                await channel._ready
            except BaseException:
                channel.close()
                raise
        return channel

    async def call(self, method: str, *arguments: Any) -> Any:
        """Returns the answer. Raises: the ControlPlaneError that the other side raised, or `ActorUnavailable` if the
        connection is lost."""
        if self._transport.is_closing():
            raise ActorUnavailable(_RESTARTING)
        number = next(self._numbers)
        message = _dumps((number, method, arguments))
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send(message)
        try:
            return await future
        finally:
            self._waiting.pop(number, None)
            if self._retired and not self._waiting:
                self.close()

    @property
    def stale(self) -> bool:
        """Whether the connection is lost or being closed."""
        return self._transport.is_closing()

    def retire(self) -> None:
        """Closes the connection as soon as all its calls are answered."""
        self._retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        self._transport.close()

    def _message(self, message: bytes) -> None:
        if self._ready.done():
            number, fine, answer = _loads(message)
            future = self._waiting.get(number)
            if future is not None and not future.done():
                if fine:
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
        elif not self._nonces:
            mine = secrets.token_bytes(KEY_BYTES)
            self._nonces = message + mine
            self._send(mine + _proof(self._key, b"caller", self._nonces))
        elif hmac.compare_digest(message, _proof(self._key, b"called", self._nonces)):
            self._limit = MAX_MESSAGE
            self._ready.set_result(None)
        else:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionRefusedError("the handshake failed"))
            self._ready.exception()  # marks it as retrieved: ``open`` may not wait any more
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ActorUnavailable(_RESTARTING))
