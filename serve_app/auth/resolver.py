"""The port for ways to authenticate."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import HTTPConnection

from cluster.domain.access.principal import Principal


class PrincipalResolver(Protocol):
    """One per replica, in ``app.state.resolver``. Called once per request, and once per WebSocket before it is accepted."""

    async def resolve(self, connection: HTTPConnection) -> Principal:
        """Who calls. Implementations read headers and never the body, which has not been received yet.

        Raises: `Unauthenticated` if the caller proves no identity, `TryLater` if that cannot be found out now.
        """
        ...
