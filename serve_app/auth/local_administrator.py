"""Authentication is off: every caller is the local administrator."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import ALL
from cluster.domain.access.principal import Principal
from cluster.domain.base.log import LOCAL_ADMIN


class LocalAdministrator:
    """The ``PrincipalResolver`` that resolves every caller to an administrator with all permissions."""

    def __init__(self, workspace: str) -> None:
        self._principal = Principal(id=LOCAL_ADMIN, workspace=workspace, permissions=ALL)

    async def resolve(self, connection: HTTPConnection) -> Principal:
        return self._principal
