"""Gives every request a trace id, observes it for the metrics and logs it.

This is one layer of plain ASGI. starlette's ``BaseHTTPMiddleware`` was rejected: it costs a task and a queue per request
and breaks streaming.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.process.spans import trace_of
from cluster.process.traces import begin_trace, end_trace
from serve_app.auth.clients import Clients
from serve_app.http.methods import route_of, shown_method
from serve_app.http.request_log import HUNG_UP, log_request
from serve_app.http.security_headers import securing

_TRACE = re.compile(rb"[A-Za-z0-9._:@-]{1,128}")
_TRACE_HEADERS = (b"x-request-id", b"x-correlation-id")

#: (method, route template, status, seconds, trace id)
Observe = Callable[[str, str, int, float, str], None]


class RequestMiddleware:
    def __init__(self, app: ASGIApp, *, observe: Observe, clients: Clients) -> None:
        self._app = app
        self._clients = clients
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
                await self._http(scope, receive, send, trace_id)
            else:
                await self._app(scope, receive, send)
        finally:
            end_trace(token)

    async def _http(self, scope: Scope, receive: Receive, send: Send, trace_id: str) -> None:
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
            await self._app(scope, receive_or_end, send_with_trace)
        except Exception:
            status = status or 500
            raise
        finally:
            self._note(scope, status or HUNG_UP, time.perf_counter() - started, trace_id)

    def _note(self, scope: Scope, status: int, seconds: float, trace_id: str) -> None:
        """Counts and logs a call that is over."""
        template = route_of(scope)
        self._observe(shown_method(scope["method"]), template, status, seconds, trace_id)
        log_request(scope["method"], scope["path"], template, status, seconds, lambda: self._clients.address(scope))


def _trace_id(headers: dict[bytes, bytes]) -> str:
    """That of the caller's trace context (W3C), else what a header names, else a new one, of the same form as the first."""
    given = headers.get(b"traceparent")
    if given is not None and (caller := trace_of(given.decode("latin-1"))):
        return caller
    for name in _TRACE_HEADERS:
        value = headers.get(name, b"")
        if _TRACE.fullmatch(value):
            return value.decode()
    return secrets.token_hex(16)
