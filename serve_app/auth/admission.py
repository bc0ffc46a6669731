"""The door: each route declares one permission, and only callers that have it reach the endpoint.

Admission comes before the body is read: a caller without the permission must not learn whether its body was valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import Permission
from cluster.domain.access.principal import Principal, allows
from cluster.domain.access.rate_limits import CallKind
from cluster.domain.base.errors import ControlPlaneError, Unauthenticated
from cluster.domain.base.log import Origin
from serve_app.auth.agent_identity import check_certificate
from serve_app.auth.call_limits import CallLimits
from serve_app.auth.login_throttle import LoginThrottle
from serve_app.auth.named_workspace import check_named
from serve_app.auth.resolver import PrincipalResolver
from serve_app.auth.socket_tickets import SocketTickets
from serve_app.auth.suspension import refusal

F = TypeVar("F", bound=Callable[..., object])


class UndeclaredPermission(Exception):
    """A route declares no permission, so everybody could call it: the application does not start."""


def requires(permission: Permission) -> Callable[[F], F]:
    """Declares a route's permission on its endpoint."""

    def declare(endpoint: F) -> F:
        endpoint.permission = permission  # type: ignore[attr-defined]
        return endpoint

    return declare


def permission_of(endpoint: Any) -> Permission:
    """The permission that the endpoint declares.

    Raises: `UndeclaredPermission` if it declares none.
    """
    permission = getattr(endpoint, "permission", None)
    if not isinstance(permission, Permission):
        name = getattr(endpoint, "__qualname__", endpoint)
        raise UndeclaredPermission(f"{name} declares no permission: add @requires(Permission...) below its route.")
    return permission


async def principal_of(connection: HTTPConnection) -> Principal:
    """Who calls. The first answer is kept for the request, be it an error, because a call that leaves the fast path for FastAPI
    passes the door twice, and a layer before the door may ask too: a failed login must not count twice.

    Raises: `Unauthenticated` if the caller proves no identity, `TryLater` if that cannot be found out now or too many
    logins have failed.
    """
    state = connection.scope.setdefault("state", {})
    known: Principal | None = state.get("principal")
    if known is None:
        unproven: ControlPlaneError | None = state.get("unproven")
        if unproven is not None:
            raise unproven
        try:
            known = state["principal"] = await _proven(connection)
        except ControlPlaneError as error:
            state["unproven"] = error
            raise
    return known


async def _proven(connection: HTTPConnection) -> Principal:
    resolver: PrincipalResolver = connection.app.state.resolver
    throttle: LoginThrottle | None = connection.app.state.throttle
    await _redeem(connection, throttle)
    if throttle is None:
        return await resolver.resolve(connection)
    return await throttle.resolve(resolver, connection)


async def _redeem(connection: HTTPConnection, throttle: LoginThrottle | None) -> None:
    """Redeems the ticket of a WebSocket; one that does not count is a failed login. Addresses that have failed too often are not
    refused before that: a good ticket's credential has counted, maybe at another replica."""
    tickets: SocketTickets | None = connection.app.state.tickets
    if tickets is None:
        return
    try:
        await tickets.redeem(connection)
    except Unauthenticated:
        if throttle is not None:
            await throttle.fail(connection)
        raise


async def admit(connection: HTTPConnection, permission: Permission, kind: CallKind = CallKind.OTHERS) -> None:
    """Returns if the caller may make this call. ``kind``: which of its limits the call counts for.

    Raises: `Forbidden` if it lacks the permission (``workspace_suspended`` if only the suspension takes the permission away) or
    names another workspace, `Unauthenticated` if the permission is one of agents' and the call lacks the certificate that
    it needs, `RateLimited` if it calls too often, and the errors of ``principal_of``.
    """
    if permission is Permission.PUBLIC:
        return
    principal = await let_in(connection, kind)
    check_certificate(connection, permission, principal)
    if not allows(principal, permission):
        raise refusal(principal, permission)


async def let_in(connection: HTTPConnection, kind: CallKind = CallKind.OTHERS) -> Principal:
    """Who makes this call, which is counted. It is half of the door: what the caller may do is left to ``admit``.

    Raises: `Forbidden` if the call names another workspace, `RateLimited` if the caller calls too often, and the errors of
    ``principal_of``.
    """
    principal = await principal_of(connection)
    await _count(connection, principal, kind)
    check_named(connection, principal)
    return principal


async def _count(connection: HTTPConnection, principal: Principal, kind: CallKind) -> None:
    """Counts a call once, although one that leaves the fast path for FastAPI passes the door twice. What the caller may not do
    counts too, or it could ask for that without end."""
    limits: CallLimits | None = connection.app.state.limits
    state = connection.scope["state"]
    if limits is not None and "counted" not in state:
        state["counted"] = True
        await limits.check(principal, kind)


async def origin(connection: HTTPConnection) -> Origin:
    """The caller, its workspace and the trace id, for the log: the trace id is the cause of what the call changes."""
    principal = await principal_of(connection)
    return Origin(workspace=principal.workspace, principal=principal.id, cause=connection.scope["state"]["trace_id"])


Asker = Annotated[Origin, Depends(origin)]
#: The caller with its permissions, for what is shown to some and not to others.
Caller = Annotated[Principal, Depends(principal_of)]
