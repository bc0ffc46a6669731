"""Every route of the application, as tests ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

from serve_app.application import make_app
from tests.support.api import CP

ROOT = ("/health", "/health/live", "/health/detailed", "/metrics")


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    endpoint: Any
    headers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def http_routes() -> list[Route]:
    """FastAPI keeps included routers as they are, in routes of their own."""
    app = make_app()
    found = []
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            dependants = [context.dependant, *context.dependant.dependencies]
            headers = tuple(param.alias.lower() for dependant in dependants for param in dependant.header_params)
            found += [Route(method, context.path, context.endpoint, headers) for method in context.methods]
    assert {path for route in found if (path := route.path).startswith(CP)} == set(app.openapi()["paths"]) - set(ROOT)
    return found


def websocket_routes() -> list[Route]:
    contexts = iter_route_contexts(make_app().routes)
    return [
        Route("WS", str(route_context.path), route_context.endpoint)
        for route_context in contexts
        if isinstance(route_context.original_route, APIWebSocketRoute)
    ]
