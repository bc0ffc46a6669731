"""Gives every request a trace id, bounds its body, observes it for the metrics and logs it.

This is one layer of plain ASGI. starlette's ``BaseHTTPMiddleware`` was rejected: it costs a task and a queue per request
and breaks streaming.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.process.traces import begin_trace, end_trace
from serve_app.auth.clients import Clients
from serve_app.http.errors import error_response
from serve_app.http.request_log import HUNG_UP, log_request
from serve_app.http.security_headers import securing

_TRACE = re.compile(rb"[A-Za-z0-9._:@-]{1,128}")
_TRACE_HEADERS = (b"x-request-id", b"x-correlation-id")

#: How long a body may take to arrive, like the head of a request in front of us. The whole body, not each part of it: a
#: client that sends a byte now and then would hold its request for ever.
BODY_S = 30.0

#: Bytes of a body that is too large which are read and thrown away, so that its sender reads the answer.
DISCARDED_BYTES = 64 * 1024 * 1024

#: (method, route template, status, seconds)
Observe = Callable[[str, str, int, float], None]


class BodyTooLarge(HTTPException):
    """The body is longer than allowed; raised inside ``receive`` if its length was not declared.

    It is an HTTPException because FastAPI lets those pass and turns any other error of ``receive`` into a 400.
    """

    def __init__(self) -> None:
        super().__init__(413, "The body is too large; send less.")


class BodyTooSlow(HTTPException):
    """The body did not arrive in time; raised inside ``receive``, so an HTTPException like `BodyTooLarge`."""

    def __init__(self) -> None:
        # The rest of the body would be taken for the next request of the connection, so that ends.
        message = f"The body did not arrive within {BODY_S:g} s; send the request again."
        super().__init__(408, message, {"Connection": "close"})


class RequestMiddleware:
    def __init__(self, app: ASGIApp, *, max_body_bytes: int, observe: Observe, clients: Clients) -> None:
        self._app = app
        self._clients = clients
        self._max_body_bytes = max_body_bytes
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        trace_id = _trace_id(headers)
        scope.setdefault("state", {})["trace_id"] = trace_id
        token = begin_trace(trace_id)
        send = securing(send, self._clients.uses_tls(scope))
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send, headers, trace_id)
            else:
                await self._app(scope, receive, send)
        finally:
            end_trace(token)

    async def _http(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], trace_id: str
    ) -> None:
        started = time.perf_counter()
        # None until it is decided. Ray Serve cancels the call of a caller that hangs up; other servers say so to whoever
        # receives, and what is sent after that reaches nobody.
        status: int | None = None

        async def receive_or_end() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and status is None:
                status = HUNG_UP
            return message

        async def send_with_trace(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = status or message["status"]
                message.setdefault("headers", []).append((b"x-trace-id", trace_id.encode()))
            await send(message)

        try:
            if _declared_length(headers) > self._max_body_bytes:
                raise BodyTooLarge
            await self._app(scope, self._bounded(receive_or_end), send_with_trace)
        except BodyTooLarge:
            await _discard(receive_or_end, headers, started + BODY_S - time.perf_counter())
            response = error_response(
                413, f"The body is larger than {self._max_body_bytes} bytes; send less.", "body_too_large", trace_id
            )
            await response(scope, receive, send_with_trace)
        except BodyTooSlow as error:
            response = error_response(408, str(error.detail), "body_too_slow", trace_id, error.headers)
            await response(scope, receive, send_with_trace)
        except Exception:
            status = status or 500
            raise
        finally:
            self._note(scope, status or HUNG_UP, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts and logs a call that is over."""
        template = getattr(scope.get("route"), "path", None) or "unmatched"
        self._observe(_method(scope["method"]), template, status, seconds)
        log_request(scope["method"], scope["path"], template, status, seconds, lambda: self._clients.address(scope))

    def _bounded(self, receive: Receive) -> Receive:
        seen = 0
        deadline = asyncio.get_running_loop().time() + BODY_S
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
                if seen > self._max_body_bytes:
                    raise BodyTooLarge
            return message

        return bounded


async def _discard(receive: Receive, headers: dict[bytes, bytes], seconds: float) -> None:
    """Reads on to the end of a body, unless that is too far or takes longer than ``seconds``.

    Whoever closes a connection while the other end still sends makes the kernel reset it, and the answer is lost (RFC 9112, 9.6):
    senders would take the server for away, and repeat the call. One that waits for ``100 Continue`` has sent nothing.
    """
    if b"expect" in headers or _declared_length(headers) > DISCARDED_BYTES:
        return
    left = DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _method(method: str) -> str:
    return method if method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS") else "other"


def _trace_id(headers: dict[bytes, bytes]) -> str:
    for name in _TRACE_HEADERS:
        value = headers.get(name, b"")
        if _TRACE.fullmatch(value):
            return value.decode()
    return secrets.token_hex(8)


def _declared_length(headers: dict[bytes, bytes]) -> int:
    value = headers.get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0
