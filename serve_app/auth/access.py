"""Who asks, and what the route they ask for requires.

Every route declares one permission. While authentication is off the asker is the local administrator, who holds all of
them; the declaration is what authentication later checks, and a test holds that no route is without one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from cluster.domain.base.log import LOCAL_ADMIN, Origin

F = TypeVar("F", bound=Callable[..., object])


class Permission(StrEnum):
    PUBLIC = "public"
    AGENTS_READ = "control_plane:agents:read"
    AGENTS_WRITE = "control_plane:agents:write"
    TASKS_READ = "control_plane:tasks:read"
    TASKS_WRITE = "control_plane:tasks:write"
    TASKS_CLAIM = "control_plane:tasks:claim"
    DELIBERATIONS_READ = "control_plane:deliberations:read"
    DELIBERATIONS_WRITE = "control_plane:deliberations:write"
    QUEUE_READ = "control_plane:queue:read"
    QUEUE_WRITE = "control_plane:queue:write"
    HEALTH_READ = "control_plane:health:read"
    METRICS_READ = "control_plane:metrics:read"
    STREAM_READ = "control_plane:stream:read"


def requires(permission: Permission) -> Callable[[F], F]:
    """Declares a route's permission on its endpoint."""

    def declare(endpoint: F) -> F:
        endpoint.permission = permission  # type: ignore[attr-defined]
        return endpoint

    return declare


async def origin(request: Request) -> Origin:
    """The asker and its workspace; the request's trace is the cause of what it changes."""
    return Origin(
        workspace=request.app.state.workspace, principal=LOCAL_ADMIN, cause=request.scope["state"]["trace_id"]
    )


Asker = Annotated[Origin, Depends(origin)]
