"""What the API of one region of several answers: a write where the region is not the primary is the primary's to answer
(`serve_app.http.to_primary`), no read is too old, and nothing leaves before it is replicated (`cluster.log.replication_gate`).

It is one layer of plain ASGI around all routes, so that no route can forget it. A region alone has no such layer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from cluster.domain.base.errors import ControlPlaneError, InvalidRequest, StoreUnavailable, TryLater
from cluster.log.replication_gate import NOT_PRIMARY, ReplicationGate
from serve_app.http.errors import control_plane_response, refuse_socket
from serve_app.http.to_primary import ToPrimary

_READS = ("GET", "HEAD", "OPTIONS")
#: Paths that say how this replica is, or what it serves, and rest on no row: they answer also when nothing is replicated.
_OF_THE_REPLICA = ("/health", "/health/live", "/health/detailed", "/metrics", "/docs", "/openapi.json")
#: What this region's leader knows: asked above all where nothing is replicated.
_REGIONS = "-plane/regions"
#: Written to the region's own Redis, for a WebSocket of the region itself.
_TICKETS = "-plane/auth/ticket"
#: Reads of what is not replicated: only the region that is the primary has it.
_NOT_REPLICATED = ("/chunks", "/chunks/stream")
#: Reads of what the scheduler has in memory. While the primary is away, any region says so itself.
_OF_THE_SCHEDULER = "/explain"
#: By it a read asks for all that was acknowledged anywhere before it came.
CONSISTENCY = b"x-aragora-consistency"
_LINEARIZABLE = b"linearizable"
STALENESS = b"x-aragora-staleness"
PRIMARY = b"x-aragora-primary"


def is_of_the_replica(scope: Scope) -> bool:
    """Whether a call asks how this replica is, or what it serves."""
    return scope["path"] in _OF_THE_REPLICA or scope["path"].endswith(_REGIONS)


def is_write(scope: Scope) -> bool:
    """Whether a call changes what all regions have."""
    return scope["type"] == "http" and scope["method"] not in _READS and not scope["path"].endswith(_TICKETS)


def is_forwarded(scope: Scope, gate: ReplicationGate) -> bool:
    """Whether a call is the primary's to answer, and this region is another one."""
    if scope["type"] != "http" or gate.is_primary:
        return False
    asks = any(name == CONSISTENCY for name, _ in scope["headers"])
    return is_write(scope) or asks or _is_elsewhere(scope, gate)


class ReplicatedAnswers:
    """``gate_of`` and ``to_primary_of`` return what is opened after the application was made. ``catch_up``: brings what this
    process remembers of the log up to its end."""

    def __init__(
        self,
        app: ASGIApp,
        gate_of: Callable[[], ReplicationGate],
        to_primary_of: Callable[[], ToPrimary],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._app = app
        self._catch_up = catch_up
        self._gate_of = gate_of
        self._to_primary_of = to_primary_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or is_of_the_replica(scope):
            await self._app(scope, receive, send)
            return
        gate = self._gate_of()
        if scope["type"] == "websocket":
            stale = gate.not_primary() if _is_elsewhere(scope, gate) else gate.why_not_read()
            if stale is None:
                await self._app(scope, receive, _held_frames(send, gate))
            else:
                await refuse_socket(WebSocket(scope, receive, send), stale)
            return
        answer = _HeldAnswer(scope, receive, send, gate)
        refused = await self._why_not_here(scope, gate, answer)
        if refused is None:
            await self._app(scope, receive, answer.send)
        elif refused.code == NOT_PRIMARY:
            await self._elsewhere(scope, receive, send, answer, refused)
        else:
            await answer.refuse(refused)

    async def _why_not_here(self, scope: Scope, gate: ReplicationGate, answer: _HeldAnswer) -> ControlPlaneError | None:
        """Why this region does not answer a call; None if it does. A linearizable read is for the region that is the primary when
        it comes, and still when its answer leaves."""
        if scope["method"] not in _READS:
            return gate.why_not_read() if scope["path"].endswith(_TICKETS) else gate.why_not_write()
        if _is_elsewhere(scope, gate):
            return gate.not_primary()
        asked = [value for name, value in scope["headers"] if name == CONSISTENCY]
        if not asked:
            return gate.why_not_read()
        if asked != [_LINEARIZABLE]:
            return InvalidRequest("X-Aragora-Consistency is linearizable, or is left out.", "invalid_consistency")
        answer.epoch = gate.writes_under
        if answer.epoch is None:
            return gate.not_primary()
        try:
            await self._catch_up()
        except StoreUnavailable as error:
            return error
        return gate.why_not_read()

    async def _elsewhere(
        self, scope: Scope, receive: Receive, send: Send, answer: _HeldAnswer, refused: ControlPlaneError
    ) -> None:
        """Has the primary answer, which lets out nothing before it is replicated; refuses the call if that is not possible."""
        gate, to_primary = self._gate_of(), self._to_primary_of()
        to = to_primary.address(scope, gate)
        if to is None:
            await answer.refuse(refused)
            return
        try:
            await to_primary.answer(to, scope, receive, send, gate, [(PRIMARY, to[1].encode())])
        except (TryLater, InvalidRequest) as error:
            await answer.refuse(error)


class _HeldAnswer:
    """One answer. One of a known length is complete when it begins, so it is held once; the parts of a stream are held one by
    one, for as long as it takes, since whoever reads one waits for whatever comes next."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, gate: ReplicationGate) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._gate = gate
        #: Under which this region has to be the primary still when the answer leaves; None: under any, or as a secondary.
        self.epoch: int | None = None
        self._streams = False
        #: An error was sent in the place of the answer.
        self._refused = False

    async def send(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            if message["status"] < 500:  # what says that the server failed rests on no row
                try:
                    await self._gate.passed()
                    # The gate has read since then whether the database is trusted to be the primary's.
                    if self.epoch is not None and self.epoch != self._gate.writes_under:
                        raise self._gate.not_primary()
                except TryLater as error:
                    self._refused = True
                    await self.refuse(error)
                    return
            headers = list(message.get("headers", ()))
            self._streams = all(name != b"content-length" for name, _ in headers)
            message = {**message, "headers": headers + self._headers()}
        elif self._streams:
            await self._gate.passed(None)
        await self._send(message)

    async def refuse(self, error: ControlPlaneError) -> None:
        """Answers the error, with what the client has to know to ask elsewhere."""
        response = control_plane_response(HTTPConnection(self._scope), error)
        response.raw_headers.extend(self._headers())
        await response(self._scope, self._receive, self._send)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        """Where this region is not the primary: how many seconds old its answers are at most, and where the primary's API is."""
        if self._gate.is_primary:
            return []
        staleness_s, (_, url) = self._gate.staleness_s(), self._gate.primary
        headers = [] if staleness_s is None else [(STALENESS, f"{staleness_s:.3f}".encode())]
        return headers if url is None else [*headers, (PRIMARY, url.encode())]


def _is_elsewhere(scope: Scope, gate: ReplicationGate) -> bool:
    """Whether only another region has what a call reads."""
    if gate.is_primary:
        return False
    path = scope["path"]
    return path.endswith(_NOT_REPLICATED) or (path.endswith(_OF_THE_SCHEDULER) and gate.away() is None)


def _held_frames(send: Send, gate: ReplicationGate) -> Send:
    async def held(message: Message) -> None:
        if message["type"] == "websocket.send":
            await gate.passed(None)
        await send(message)

    return held
