"""The port that tells who calls."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import HTTPConnection

from cluster.domain.access.principal import Principal


class PrincipalResolver(Protocol):
    """One per replica, in ``app.state.resolver``. Called once per request, and once per WebSocket before it is accepted."""

    async def resolve(self, connection: HTTPConnection) -> Principal:
        """Who calls. It reads headers and never the body, which has not been received yet.

        Unauthenticated when the caller proves no identity; TryLater when that cannot be found out now.
        """
        ...
