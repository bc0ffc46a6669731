"""The FastAPI application: routes under both prefixes of the wire, errors in one shape, one middleware."""

from __future__ import annotations

import functools

from fastapi.routing import APIRoute, iter_route_contexts
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from cluster.domain.access.permissions import Permission
from cluster.process import spans
from cluster.process.front import EXPOSED_HEADERS
from cluster.telemetry.observations import HttpObservations
from cluster.version import VERSION
from serve_app.auth.admission import permission_of, requires
from serve_app.auth.clients import Clients
from serve_app.auth.routing import check_routes
from serve_app.http import errors
from serve_app.http.body_bounds import BodyBounds
from serve_app.http.fast_path import DirectApp
from serve_app.http.middleware import RequestMiddleware
from serve_app.http.spans import TracedRequests
from serve_app.http.unmatched import answer_elsewhere
from serve_app.openapi.document import completed
from serve_app.routes import (
    access,
    agents,
    api_keys,
    audit,
    budgets,
    caller,
    child_submits,
    children,
    chunks,
    claims,
    credentials,
    dead_letter,
    deliberations,
    erasures,
    health,
    heartbeats,
    hook_calls,
    hooks,
    login,
    metrics,
    notifications,
    outcomes,
    policies,
    questions,
    queue,
    quotas,
    receipts,
    regions,
    reports,
    retention,
    schedules,
    story,
    stream,
    submits,
    task_reads,
    tickets,
    violations,
    workflows,
)
from serve_app.ui.pages import add_pages

PREFIXES = ("/api/control-plane", "/api/v1/control-plane")
#: FastAPI tries routes in this order, one after the other, so the routes that workers call all the time come first.
_ROUTERS = (
    submits.router,
    claims.router,
    reports.router,
    heartbeats.router,
    task_reads.router,
    chunks.router,
    questions.router,
    children.router,
    child_submits.router,
    agents.router,
    queue.router,
    dead_letter.router,
    deliberations.router,
    schedules.router,
    credentials.router,
    workflows.router,
    hooks.router,
    hook_calls.router,
    notifications.router,
    receipts.router,
    outcomes.router,
    violations.router,
    policies.router,
    budgets.router,
    quotas.router,
    health.router,
    regions.router,
    metrics.router,
    story.router,
    audit.router,
    erasures.router,
    retention.router,
    stream.router,
    tickets.router,
    access.router,
    api_keys.router,
    login.router,
    caller.router,
)


def make_app(public_url: str | None = None) -> DirectApp:
    """The routes, without anything to serve them: the composition root sets ``app.state.gateway`` and ``resolver``, and
    ``limits`` and ``throttle`` if calls and logins are limited, ``denials`` and ``tickets`` if authentication is on, ``sessions``
    and ``logins`` if people can log in, and ``mcp`` if that is served.

    Raises: `UndeclaredPermission` if a route declares no permission.
    """
    app = DirectApp(
        title="Aragora control plane",
        version=VERSION,
        description="Agents, tasks and deliberations. Every mutating call takes an `Idempotency-Key`.",
        servers=None if public_url is None else [{"url": public_url}],
    )
    app.state.public_url = public_url
    answer_elsewhere(app)
    app.state.limits = app.state.throttle = app.state.sessions = app.state.logins = None
    app.state.denials = app.state.tickets = app.state.mcp = None
    _declare_pages(app)
    app.share_routes(_routes())
    add_pages(app)
    errors.install(app)
    check_routes(app.routes)
    app.complete = lambda document: completed(document, PREFIXES[0], _permissions(app))
    return app


@functools.cache
def _routes() -> DirectApp:
    """Holds the routes of every application of this process. FastAPI prepares an included route anew for each application,
    which takes 0.2 s of CPU for ours, and a test process makes hundreds of applications."""
    holder = DirectApp(openapi_url=None)
    for prefix in PREFIXES:
        for router in _ROUTERS:
            holder.include_router(router, prefix=prefix, include_in_schema=prefix == PREFIXES[0])
    for router in (stream.root, health.root):
        holder.include_router(router)
    return holder


def _permissions(app: DirectApp) -> dict[tuple[str, str], Permission]:
    return {
        (method, context.path or ""): permission_of(context.original_route.endpoint)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.original_route.methods or ()
    }


def _declare_pages(app: DirectApp) -> None:
    """Declares the pages that FastAPI has added itself public: they describe the API and show no stored data."""
    for route in app.routes:
        if isinstance(route, Route):
            requires(Permission.PUBLIC)(route.endpoint)


def add_middleware(
    app: DirectApp,
    *,
    max_body_bytes: int,
    cors_origins: tuple[str, ...],
    observations: HttpObservations,
    clients: Clients,
) -> None:
    """The layers around fast path and FastAPI, the innermost first. That of CORS is outside of what answers errors, since a
    browser shows a page no answer without its headers."""
    app.around(lambda inner: BodyBounds(inner, max_bytes=max_body_bytes))
    if cors_origins:
        app.around(
            lambda inner: CORSMiddleware(
                inner,
                allow_origins=list(cors_origins),
                allow_credentials="*" not in cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
            )
        )
    if spans.tracer is not None:
        app.around(TracedRequests)
    app.around(lambda inner: RequestMiddleware(inner, observe=observations.observe, clients=clients))
