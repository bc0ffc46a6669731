"""The layer that serves /mcp: who calls is asked here, by the resolver of all doors, before anything of the call is read.

What a caller may do is decided for each tool where the API decides it (`serve_app.http.route_calls`). Each call is complete in
itself, so any replica answers it and no session is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final

from fastapi import FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCNotification, JSONRPCRequest
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.process.large import in_thread_if_large
from serve_app.http.body_bounds import replayed, whole_body
from serve_app.http.errors import error_response
from serve_app.http.other_protocols import JSON, refusal
from serve_app.mcp.server import make_server

PATH: Final = "/mcp"
#: What the log of requests, the metrics and denials call it.
_ROUTE: Final = SimpleNamespace(path=PATH)


class McpDoor:
    """``app``: the layers inside; ``application``: whose state has the resolver. It serves while `running` is entered."""

    def __init__(self, app: ASGIApp, application: FastAPI, *, max_body_bytes: int) -> None:
        self._app = app
        self._application = application
        self._manager = StreamableHTTPSessionManager(
            make_server(app),
            # An answer, not a stream: nothing is to be told before the end, and a stream would be held by every proxy in between.
            json_response=True,
            stateless=True,
            # Which hosts and origins may call is decided for all calls (`serve_app.auth.web_pages`).
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=max_body_bytes,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        request = Request({**scope, "app": self._application}, receive)
        refused = await refusal(request) or _unread(request)
        if refused is not None:
            await refused(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return  # the client has disconnected
        wrong = await in_thread_if_large(len(body), _wrong, body)
        if wrong is not None:
            code, message = wrong
            await _protocol_error(request, code, message)(scope, receive, send)
            return
        await self._manager.handle_request(request.scope, replayed(body, receive), send)


def _unread(request: Request) -> Response | None:
    """Refuses who would not read the answer: the package does it in a form of its own."""
    accepted = request.headers.get("accept", "")
    if any(kind in accepted for kind in (JSON, "application/*", "*/*")):
        return None
    return error_response(406, f"Send the header Accept: {JSON}.", "not_acceptable", request.scope["state"]["trace_id"])


def _wrong(body: bytes) -> tuple[int, str] | None:
    """The code and a sentence about a body that is no message of the protocol; None if it is one."""
    try:
        message: Any = from_json(body)
    except ValueError:
        return (
            PARSE_ERROR,
            "The body is not JSON, or is nested too deep, or has a number of too many digits; correct it.",
        )
    # The package takes what has a wrong id for a notification, and answers nothing to it.
    kind = JSONRPCRequest if isinstance(message, dict) and "id" in message else JSONRPCNotification
    try:
        kind.model_validate(message, by_name=False)
    except ValidationError:
        return INVALID_REQUEST, "The body is not one request or notification of JSON-RPC 2.0; send one at a time."
    return None


def _protocol_error(request: Request, code: int, message: str) -> Response:
    error = {"code": code, "message": message, "data": {"trace_id": request.scope["state"]["trace_id"]}}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=400)
