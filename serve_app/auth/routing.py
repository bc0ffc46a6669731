"""The door in front of FastAPI's routes and WebSockets.

For an HTTP route the door wraps the whole handler. We decided against a FastAPI dependency there, because FastAPI parses the
body before it solves dependencies. A WebSocket has no body, so a dependency in front of the others is early enough.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response, params
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route

from cluster.domain.access.permissions import Permission
from cluster.domain.access.rate_limits import CallKind, kind_of_call
from cluster.domain.base.json_values import check_text
from serve_app.auth.admission import UndeclaredPermission, admit, permission_of, principal_of
from serve_app.auth.named_workspace import check_named_in_body_of
from serve_app.auth.words import shown_response
from serve_app.http.exact_numbers import ExactRequest, float_reader
from serve_app.http.query_names import check_query_names, chooses_by_query, query_names


class GuardedRoute(APIRoute):
    """An HTTP route behind the door."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the door.

        Raises: `UndeclaredPermission` if the endpoint declares no permission.
        """
        permission = permission_of(self.endpoint)
        handler = super().get_route_handler()
        takes_body, path = self.body_field is not None, self.path
        kind = kind_of_call(path)
        keeps_digits = float_reader(self.endpoint) is not None
        names = query_names(self.dependant)
        chooses = chooses_by_query(self.methods or (), self.tags)

        async def admitted(request: Request) -> Response:
            if keeps_digits:
                request = ExactRequest(request.scope, request.receive)
            await admit(request, permission, kind)
            _check_path(request)
            if chooses:
                check_query_names(request, names, takes_body=takes_body)
            if takes_body and permission is not Permission.PUBLIC:
                await check_named_in_body_of(request, await principal_of(request))
            return await shown_response(request, path, await handler(request))

        return admitted


def _check_path(request: Request) -> None:
    """What stands in the path goes into statements, and the database takes no NUL: such a call is refused here, for all routes.

    Raises: `InvalidRequest`."""
    for name, value in request.path_params.items():
        if isinstance(value, str):
            check_text(value, name)


class _Admission(params.Depends):
    """The dependency that guards a WebSocket. Its type tells ``check_routes`` that the WebSocket is guarded."""


def _admission(permission: Permission, kind: CallKind) -> _Admission:
    async def admitted(connection: HTTPConnection) -> None:
        await admit(connection, permission, kind)

    return _Admission(admitted)


class GuardedRouter(APIRouter):
    """A router whose HTTP routes and WebSockets each require the permission that their endpoint declares."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=GuardedRoute, **options)

    def add_api_websocket_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        name: str | None = None,
        *,
        dependencies: Sequence[params.Depends] | None = None,
    ) -> None:
        """Adds a WebSocket behind the door.

        Raises: `UndeclaredPermission` if the endpoint declares no permission.
        """
        guard = _admission(permission_of(endpoint), kind_of_call(path))
        super().add_api_websocket_route(path, endpoint, name, dependencies=[guard, *(dependencies or ())])


def check_routes(routes: Sequence[BaseRoute]) -> None:
    """Checks that every route is behind the door.

    Raises: `UndeclaredPermission` if a route could be reached without it.
    """
    for context in iter_route_contexts(routes):
        route = context.original_route
        if not _is_guarded(route):
            raise UndeclaredPermission(f"{context.path} is outside of the door: add it to a GuardedRouter.")


def _is_guarded(route: BaseRoute) -> bool:
    if isinstance(route, GuardedRoute):
        return True
    if isinstance(route, APIWebSocketRoute):
        return any(isinstance(dependency, _Admission) for dependency in route.dependencies)
    # Pages that FastAPI adds itself are plain routes without a guard, so they must be declared public.
    return isinstance(route, Route) and getattr(route.endpoint, "permission", None) is Permission.PUBLIC
