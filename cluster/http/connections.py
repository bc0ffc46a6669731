"""A pool of HTTP connections for many calls at once. The cost of a call does not grow with the size of the pool.

For every request, httpcore's own pool goes through all its connections and asks the socket of each idle one whether it
has been closed. This pool looks at the connection that it hands out, and at the one that has been idle for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpcore

from cluster.domain.base.errors import AgentMalformed
from cluster.domain.base.json_values import shown_text
from cluster.http.sockets import AsyncioStream

KEEP_S = 15.0
#: How many connections may be open before idle ones are closed for new ones.
MAX_KEPT = 500
#: How many characters of what is wrong with an answer are shown.
MAX_SHOWN = 120

#: Parts in which a body may come, and after how many others run: a part costs the same whether it has a byte or many, and none is
#: waited for while the next has arrived.
MAX_PARTS = 120_000
PARTS_AT_ONCE = 50

#: How the errors begin by which h11 and httpcore tell that the other side closed the connection before its answer was whole.
#: They have the type of those about wrong bytes, and nothing else tells the two apart.
_CLOSED = ("Server disconnected", "peer closed connection", "peer unexpectedly closed connection")
Server = tuple[bytes, bytes, int]
"""(scheme, host, port)"""


@dataclass(slots=True)
class _Room:
    """The slots of one server's calls. ``calls`` counts those that have one or wait for one."""

    slots: asyncio.Semaphore
    calls: int = 0


class ConnectionPool:
    """At most ``size`` connections to each server; further calls to it wait, in order, and calls to other servers do not. An
    idle connection is used again for up to ``KEEP_S``. When a new one is made, those that are idle for longer are closed; and
    if ``kept`` are open, the one that has been idle for longest is."""

    def __init__(
        self, *, size: int, tls: ssl.SSLContext, backend: httpcore.AsyncNetworkBackend, kept: int = MAX_KEPT
    ) -> None:
        self._size = size
        self._tls = tls
        self._backend = backend
        self._kept = kept
        #: The slots of the servers that are called now. Without a bound of their own, servers that hang would take all.
        self._rooms: dict[Server, _Room] = {}
        #: Connections that are in use or idle.
        self._open = 0
        self._closed = False
        #: Idle connections of each server, and of all servers with the server of each. The last one used is at the end.
        self._idle: dict[Server, OrderedDict[httpcore.AsyncHTTPConnection, None]] = {}
        self._oldest: OrderedDict[httpcore.AsyncHTTPConnection, Server] = OrderedDict()

    async def handle_async_request(
        self, request: httpcore.Request, begins: Callable[[], None] = lambda: None
    ) -> httpcore.Response:
        """Returns the answer's head. Its connection comes back to the pool when the body is closed. Calls ``begins`` when the
        call has its slot: the time in which others kept it waiting is not the server's.

        Raises: `AgentMalformed` if what comes back is not HTTP, as reading the body does; httpcore's errors if the server cannot
        be reached or closes the connection too early."""
        origin = request.url.origin
        server = (origin.scheme, origin.host, origin.port)
        await self._enter(server)
        connection: httpcore.AsyncHTTPConnection | None = None
        try:
            begins()
            connection = await self._connection(origin, server)
            with _judged(server):
                response = await connection.handle_async_request(request)
            stream = response.extensions.get("network_stream")
            if isinstance(stream, AsyncioStream):
                stream.body_begins()
        except BaseException:
            if connection is None:
                self._leave(server)
            else:
                await self.done(connection, server)
            raise
        return httpcore.Response(
            status=response.status,
            headers=response.headers,
            content=_Body(self, connection, server, response.stream),
            extensions=response.extensions,
        )

    async def _enter(self, server: Server) -> None:
        room = self._rooms.get(server)
        if room is None:
            room = self._rooms[server] = _Room(asyncio.Semaphore(self._size))
        room.calls += 1
        try:
            await room.slots.acquire()
        except BaseException:
            self._forget(server, room)
            raise

    def _leave(self, server: Server) -> None:
        room = self._rooms[server]
        room.slots.release()
        self._forget(server, room)

    def _forget(self, server: Server, room: _Room) -> None:
        room.calls -= 1
        if room.calls == 0:
            del self._rooms[server]

    async def _connection(self, origin: httpcore.Origin, server: Server) -> httpcore.AsyncHTTPConnection:
        while idle := self._idle.get(server):
            connection = next(reversed(idle))
            self._take(connection)
            if not connection.has_expired():
                return connection
            await self._close(connection)
        while self._oldest and (self._open >= self._kept or next(iter(self._oldest)).has_expired()):
            connection = next(iter(self._oldest))
            self._take(connection)
            await self._close(connection)
        self._open += 1
        return httpcore.AsyncHTTPConnection(
            origin, ssl_context=self._tls, keepalive_expiry=KEEP_S, network_backend=self._backend
        )

    def _take(self, connection: httpcore.AsyncHTTPConnection) -> None:
        server = self._oldest.pop(connection)
        del self._idle[server][connection]
        if not self._idle[server]:
            del self._idle[server]

    async def done(self, connection: httpcore.AsyncHTTPConnection, server: Server) -> None:
        """Takes a connection back. If its answer was read to the end, and nothing came behind it, it is idle from now on; if
        not, it is closed."""
        kept = connection.is_idle() and not connection.is_closed() and not self._closed and not _holds_more(connection)
        if kept:
            self._oldest[connection] = server
            self._idle.setdefault(server, OrderedDict())[connection] = None
        self._leave(server)
        if not kept:
            await self._close(connection)

    async def _close(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._open -= 1
        await connection.aclose()

    async def aclose(self) -> None:
        """Closes the idle connections now, and those in use when their answers have been read."""
        self._closed = True
        for connection in list(self._oldest):
            self._take(connection)
            await self._close(connection)


@contextlib.contextmanager
def _judged(server: Server) -> Iterator[None]:
    """Tells an answer that is not HTTP, which shows that the server is there, from a connection that was lost."""
    try:
        yield
    except httpcore.RemoteProtocolError as error:
        if str(error).startswith(_CLOSED):
            raise
        host = server[1].decode("ascii", "replace")
        why = shown_text(str(error), MAX_SHOWN).rstrip(".")
        raise AgentMalformed(f"{host} gave an answer that is not HTTP: {why}.") from error


def _holds_more(connection: httpcore.AsyncHTTPConnection) -> bool:
    """Whether bytes that came in one piece with the end of an answer wait in the parser: they would be the next call's answer.
    httpcore shows this nowhere."""
    parser = connection._connection._h11_state  # type: ignore[union-attr]
    return bool(parser.trailing_data[0])


class _Body:
    """The body of an answer; gives the connection back when it is closed."""

    def __init__(
        self, pool: ConnectionPool, connection: httpcore.AsyncHTTPConnection, server: Server, stream: Any
    ) -> None:
        self._pool = pool
        self._connection = connection
        self._server = server
        self._stream = stream
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        for part in itertools.count(1):
            if part % PARTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if part > MAX_PARTS:
                host = self._server[1].decode("ascii", "replace")
                raise AgentMalformed(f"{host} sent its answer in more than {MAX_PARTS} parts.")
            with _judged(self._server):  # not around the yield: the reader's errors are its own
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            yield chunk

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._stream.aclose()
        finally:
            await self._pool.done(self._connection, self._server)
