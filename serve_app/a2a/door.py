"""The layer that serves the card, its key, and the methods at /a2a: who calls is asked here, by the resolver of all doors, before
anything of the call is read.

What a caller may do is decided for each method where the API decides it (`serve_app.http.route_calls`). Nothing is kept
between two calls, so any replica answers each.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.process.large import in_thread_if_large
from serve_app.a2a.card import CARD_PATH, KEYS_PATH, RPC_PATH, SignedCard, etag, key_set
from serve_app.a2a.failures import failure, rpc_error
from serve_app.a2a.handler import HANDLERS, Asking, begun
from serve_app.a2a.rpc import VERSION_HEADER, Unreadable, read_call
from serve_app.a2a.updates import check_open, following, last_event, one_event, stream
from serve_app.gateway import gateway
from serve_app.http.body_bounds import whole_body
from serve_app.http.errors import response_to
from serve_app.http.other_protocols import JSON, refusal, wrong_method
from serve_app.http.route_calls import Routes
from serve_app.streams.sending import sse_response

#: What the log of requests, the metrics and denials call each.
_ROUTES: Final = {path: SimpleNamespace(path=path) for path in (CARD_PATH, KEYS_PATH, RPC_PATH)}
#: How long others may keep the card, in seconds.
_CARD_AGE_S: Final = 300


class A2ADoor:
    """``app``: the layers inside; ``application``: whose state has the resolver. ``url``: by which others reach the API;
    ``auth``: callers need a key."""

    def __init__(self, app: ASGIApp, application: FastAPI, *, url: str, auth: bool) -> None:
        self._app = app
        self._application = application
        self._card = SignedCard(url, auth=auth)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _ROUTES:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTES[scope["path"]]
        request = Request({**scope, "app": self._application}, receive)
        if scope["path"] != RPC_PATH:
            await (await self._published(request))(scope, receive, send)
            return
        refused = await refusal(request)
        if refused is not None:
            await refused(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return  # the client has disconnected
        await (await self._answer(request, body))(scope, receive, send)

    async def _published(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return wrong_method(request, "GET, HEAD")
        try:
            signer = await gateway(request).signing.signer()
        except Exception as error:  # noqa: BLE001 - it becomes the answer, as of any route
            return response_to(request, error)
        if request.url.path == KEYS_PATH:
            return JSONResponse(key_set(signer), headers={"Cache-Control": f"public, max-age={_CARD_AGE_S}"})
        content = self._card.content(signer)
        headers = {"Cache-Control": f"public, max-age={_CARD_AGE_S}", "ETag": etag(content)}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=JSON, headers=headers)

    async def _answer(self, request: Request, body: bytes) -> Response:
        version = request.headers.get(VERSION_HEADER) or request.query_params.get("A2A-Version")
        try:
            call = await in_thread_if_large(len(body), read_call, body, version)
        except Unreadable as error:
            return rpc_error(request, error.rpc_id, error.error)
        workspace = request.scope["state"]["principal"].workspace
        asking = Asking(request, Routes(self._app, request), workspace, call)
        try:
            asking.check_tenant()
            if call.method in HANDLERS:
                result = await HANDLERS[call.method](asking)
                return JSONResponse({"jsonrpc": "2.0", "id": call.rpc_id, "result": result})
            return await _streamed(asking)
        except Exception as error:  # noqa: BLE001 - it becomes the answer, as of any route
            return failure(request, call.rpc_id, error)


async def _streamed(asking: Asking) -> Response:
    """A stream, once it is known that there is something to tell."""
    request, rpc_id = asking.request, asking.call.rpc_id
    is_new = asking.call.method == "SendStreamingMessage"
    after = None if is_new else last_event(request)
    record = await begun(asking) if is_new else await asking.record(asking.call.params.id)
    if isinstance(record, dict):
        return sse_response(one_event(request, rpc_id, record))
    if not is_new:
        check_open(record, after)
    follow = await following(request, asking.workspace, record, lambda: asking.again(record))
    return stream(request, rpc_id, follow, until_asked=is_new)
