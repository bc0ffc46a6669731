"""The fast path: plain calls go straight to their endpoints, and all others go through FastAPI.

FastAPI's work for a request (half a dozen layers, trying routes one after the other, solving dependencies) took a third
of the replica's CPU, with the same outcome for every request of a route. So a route is called from a table if its only
parameters are the request, the asker, an idempotency key, one segment of the path and a JSON body, and parameters of the query
that may be left out.

A request goes through FastAPI if it has a query, another content type, a body that does not validate, or an ``Origin`` header.
FastAPI also words every refusal of a body, so that the API has one wording and one description.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, get_type_hints

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.domain.access.principal import Principal
from cluster.domain.access.rate_limits import kind_of_call
from cluster.process.large import in_thread_if_large
from serve_app.auth.admission import Asker, admit, origin, permission_of, principal_of
from serve_app.auth.named_workspace import check_named_in
from serve_app.auth.routing import GuardedRoute
from serve_app.auth.words import shown, shown_response
from serve_app.http import errors
from serve_app.http.body_bounds import replayed, whole_body
from serve_app.http.exact_numbers import float_reader
from serve_app.http.idempotency import Idempotency, idempotency_key
from serve_app.http.methods import answers_head


class DirectRoute:
    """One route of the table. ``fills`` maps each parameter of the endpoint to what fills it (``_kind``)."""

    def __init__(self, route: APIRoute, fills: dict[str, str], body: TypeAdapter[Any] | None) -> None:
        self.route = route
        self._permission = permission_of(route.endpoint)
        self._kind = kind_of_call(route.path)
        self._endpoint = route.endpoint
        self._status = route.status_code or 200
        self._fills = fills
        self._body = body
        self._reader = float_reader(route.endpoint)

    async def __call__(self, app: FastAPI, scope: Scope, receive: Receive, send: Send, part: str) -> None:
        scope["app"] = app
        scope["route"] = self.route
        request = Request(scope, receive)
        try:
            await admit(request, self._permission, self._kind)
        except Exception as error:  # noqa: BLE001 - it becomes the answer, as FastAPI's handlers make it
            await errors.response_to(request, error)(scope, receive, send)
            return
        raw = b""
        body: Any = None
        if self._body is not None:
            read = await whole_body(receive)
            if read is None:
                return  # the client has disconnected
            raw = read
            try:
                body = await in_thread_if_large(len(raw), self._parsed, raw, await principal_of(request))
            except Exception:  # noqa: BLE001 - FastAPI reads the body again and words the refusal
                await app.whole_way(scope, replayed(raw, receive), send)  # type: ignore[attr-defined]
                return
        try:
            answer = await self._endpoint(**await self._arguments(request, part, body))
        except Exception as error:  # noqa: BLE001 - as above
            answer = errors.response_to(request, error)
        if isinstance(answer, Response):
            response = await shown_response(request, self.route.path, answer)
            await response(scope, receive, send)
        else:
            await _send_json(send, self._status, to_json(shown(request, self.route.path, self._status, answer)))

    def _parsed(self, raw: bytes, principal: Principal) -> Any:
        assert self._body is not None
        sent = json.loads(raw, parse_float=self._reader) if raw else None
        check_named_in(sent, principal)
        return self._body.validate_python(sent)

    async def _arguments(self, request: Request, part: str, body: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, kind in self._fills.items():
            if kind == "request":
                values[name] = request
            elif kind == "asker":
                values[name] = await origin(request)
            elif kind == "query":
                continue  # there is none: its default
            elif kind == "key":
                values[name] = await idempotency_key(request, _header(request.scope, b"idempotency-key"))
            else:
                values[name] = part if kind == "part" else body
        return values


def direct_route(route: APIRoute) -> DirectRoute | None:
    """The table's entry for a route; None if the route needs a query, a header of its own or a dependency."""
    if route.dependencies or route.response_model not in (None, dict[str, Any]) or "POST" not in (route.methods or ()):
        return None
    hints = get_type_hints(route.endpoint, include_extras=True)
    fills: dict[str, str] = {}
    body: TypeAdapter[Any] | None = None
    for name in inspect.signature(route.endpoint).parameters:
        kind = _kind(hints[name], name, route)
        if kind is None:
            return None
        if kind == "body":
            body = TypeAdapter(hints[name])
        fills[name] = kind
    return DirectRoute(route, fills, body)


def _kind(hint: Any, name: str, route: APIRoute) -> str | None:
    if hint is Request:
        return "request"
    if hint == Asker:
        return "asker"
    if hint == Idempotency:
        return "key"
    if hint is str and f"{{{name}}}" in route.path:
        return "part"
    if any(field.name == name and not field.field_info.is_required() for field in route.dependant.query_params):
        return "query"
    models = [option for option in (getattr(hint, "__args__", None) or (hint,)) if option is not type(None)]
    return "body" if len(models) == 1 and isinstance(models[0], type) and issubclass(models[0], BaseModel) else None


class DirectApp(FastAPI):
    """FastAPI with the fast path in front of it. ``around`` wraps both in a layer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        #: Routes with a constant path, by that path.
        self._exact: dict[str, DirectRoute] = {}
        #: Routes with one variable segment, the last but one, by the path before it and the segment after it.
        self._varying: dict[tuple[str, str], DirectRoute] = {}
        self._entry: ASGIApp = self._dispatch
        #: Adds to the OpenAPI document what FastAPI cannot know.
        self.complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document
        # Routes that are added to the application itself go through the door like those of routers.
        self.router.route_class = GuardedRoute

    def include_router(self, router: APIRouter, *, prefix: str = "", **options: Any) -> None:
        super().include_router(router, prefix=prefix, **options)
        for route in router.routes:
            if isinstance(route, APIRoute):
                direct = direct_route(route)
                if direct is not None:
                    self._put(prefix + route.path, direct)

    def share_routes(self, holder: DirectApp) -> None:
        """Serves the routes of ``holder`` too, which takes no more of them."""
        self.router.routes.extend(holder.router.routes)
        self._exact |= holder._exact
        self._varying |= holder._varying

    def _put(self, template: str, direct: DirectRoute) -> None:
        if "{" not in template:
            self._exact[template] = direct
            return
        parts = template.rsplit("/", 2)
        if len(parts) == 3 and parts[1].startswith("{") and "{" not in parts[0] + parts[2]:
            self._varying[parts[0], parts[2]] = direct

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = self.complete(super().openapi())
        return self.openapi_schema

    def directly(self) -> set[str]:
        """Path templates of the routes in the table, for tests."""
        return set(self._exact) | {f"{head}/*/{tail}" for head, tail in self._varying}

    def around(self, layer: Callable[[ASGIApp], ASGIApp]) -> None:
        self._entry = layer(self._entry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._entry(scope, receive, send)

    async def whole_way(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD" and answers_head(scope["path"]):
            await self.whole_way({**scope, "method": "GET"}, receive, _without_body(send))
            return
        if scope["type"] == "http" and scope["method"] == "POST" and _has_no_prefix_or_query(scope):
            path: str = scope["path"]
            direct, part = self._exact.get(path), ""
            if direct is None:
                head, _, rest = path.rpartition("/")
                head, _, part = head.rpartition("/")
                direct = self._varying.get((head, rest)) if part else None
            if direct is not None and _plain(scope):
                await direct(self, scope, receive, send, part)
                return
        await self.whole_way(scope, receive, send)


def _has_no_prefix_or_query(scope: Scope) -> bool:
    """A call of the table has no query. One that is sent takes FastAPI's way, which reads it, or refuses it where it matters."""
    return not scope.get("root_path") and not scope["query_string"]


def _without_body(send: Send) -> Send:
    async def headers_only(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return headers_only


def _plain(scope: Scope) -> bool:
    """Whether the request has a JSON body or none, no ``Origin`` header and at most one idempotency key."""
    seen: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name == b"origin" or (name in seen and name == b"idempotency-key"):
            return False
        seen[name] = value
    kind = seen.get(b"content-type")
    return kind == b"application/json" or (kind is None and seen.get(b"content-length", b"0") == b"0")


def _header(scope: Scope, sought: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == sought:
            return str(value.decode("latin-1"))
    return None


async def _send_json(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
