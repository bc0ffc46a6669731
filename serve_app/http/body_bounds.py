"""Bounds of a request's body: how long it may be, and how long it may take to arrive."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.http.errors import error_response

#: How long a body may take to arrive, like the head of a request in front of us. The whole body, not each part of it: a
#: client that sends a byte now and then would hold its request for ever.
BODY_S = 30.0

#: Bytes of a body that is too large which are read and thrown away, so that its sender reads the answer.
DISCARDED_BYTES = 64 * 1024 * 1024


class BodyTooLarge(HTTPException):
    """The body is longer than allowed; raised inside ``receive`` if its length was not declared.

    It is an HTTPException because FastAPI lets those pass and turns any other error of ``receive`` into a 400. ``has_ended``: the
    whole body has come.
    """

    def __init__(self, has_ended: bool = False) -> None:
        super().__init__(413, "The body is too large; send less.")
        self.has_ended = has_ended


class BodyTooSlow(HTTPException):
    """The body did not arrive in time; raised inside ``receive``, so an HTTPException like `BodyTooLarge`."""

    def __init__(self) -> None:
        # The rest of the body would be taken for the next request of the connection, so that ends.
        message = f"The body did not arrive within {BODY_S:g} s; send the request again."
        super().__init__(408, message, {"Connection": "close"})


class BodyBounds:
    """The layer that answers 413 and 408. ``max_bytes``: of a body, be its length declared or not."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_id = scope["state"]["trace_id"]
        deadline = asyncio.get_running_loop().time() + BODY_S
        try:
            if _declared_length(scope) > self._max_bytes:
                raise BodyTooLarge
            await self._app(scope, self._bounded(receive, deadline), send)
        except BodyTooLarge as error:
            if not error.has_ended:  # else nothing comes any more but the end of the connection
                await _discard(scope, receive, deadline)
            message = f"The body is larger than {self._max_bytes} bytes; send less."
            await error_response(413, message, "body_too_large", trace_id)(scope, receive, send)
        except BodyTooSlow as error:
            response = error_response(408, str(error.detail), "body_too_slow", trace_id, error.headers)
            await response(scope, receive, send)

    def _bounded(self, receive: Receive, deadline: float) -> Receive:
        seen = 0
        complete = False

        async def bounded() -> Message:
            """Raises: `BodyTooLarge` once more than ``max_body_bytes`` have been received; `BodyTooSlow` if the body is not
            complete after ``BODY_S``."""
            nonlocal seen, complete
            if complete:  # what follows is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow from None
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_bytes:
                    raise BodyTooLarge(has_ended=complete)
            return message

        return bounded


async def _discard(scope: Scope, receive: Receive, deadline: float) -> None:
    """Reads on to the end of a body, unless that is too far or takes longer than until ``deadline``.

    Whoever closes a connection while the other end still sends makes the kernel reset it, and the answer is lost (RFC 9112, 9.6):
    senders would take the server for away, and repeat the call. One that waits for ``100 Continue`` has sent nothing.
    """
    if _declared_length(scope) > DISCARDED_BYTES or any(name == b"expect" for name, _ in scope["headers"]):
        return
    left = DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


async def whole_body(receive: Receive) -> bytes | None:
    """The body, which `BodyBounds` has bounded. None if the client hangs up before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """What receives a body that has been read already, and then what ``receive`` does."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
