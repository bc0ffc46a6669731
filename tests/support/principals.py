"""The second adapter of ``PrincipalResolver``: bearer tokens from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.requests import HTTPConnection

from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.access.principal import Principal
from cluster.domain.base.errors import StoreUnavailable, Unauthenticated

#: The role that every `principal` has.
ROLE = "tester"
#: Its holder can be told from nobody else, as when the store of tokens does not answer.
UNKNOWABLE = "unknowable"


class TokenTable:
    def __init__(self, table: Mapping[str, Principal]) -> None:
        self.table = dict(table)
        self.resolved = 0

    async def resolve(self, connection: HTTPConnection) -> Principal:
        self.resolved += 1
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if token == UNKNOWABLE:
            raise StoreUnavailable("The tokens cannot be read now; try again.")
        if scheme != "Bearer" or token not in self.table:
            raise Unauthenticated("Send a token that this server knows as a bearer token.")
        return self.table[token]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def principal(name: str, workspace: str = "w", permissions: Iterable[Permission] = ALL) -> Principal:
    return Principal(
        id=f"user:{name}", workspace=workspace, permissions=frozenset(permissions), roles=frozenset({ROLE})
    )
