"""Authentication is off: every caller is the local administrator, except for other people's web pages."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import ALL
from cluster.domain.access.principal import Principal
from cluster.domain.base.log import LOCAL_ADMIN
from serve_app.auth.web_pages import WebPages


class LocalAdministrator:
    """The ``PrincipalResolver`` that resolves every caller to an administrator with all permissions; ``pages`` refuses calls
    of other people's web pages."""

    def __init__(self, workspace: str, pages: WebPages) -> None:
        self._pages = pages
        self._principal = Principal(
            id=LOCAL_ADMIN, workspace=workspace, permissions=ALL, everywhere=ALL, roles=frozenset({"admin"})
        )

    async def resolve(self, connection: HTTPConnection) -> Principal:
        """The local administrator.

        Raises: `Forbidden` if a web page of another origin calls."""
        self._pages.check(connection)
        return self._principal
