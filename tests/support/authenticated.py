"""The control plane with authentication on: an administrator of everything, and keys of the roles that a test needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cluster.ports.clock import Clock
from cluster.postgres.migrate import migrate
from cluster.process.clock import SystemClock
from tests.support.api import STARTED, Api, api_settings
from tests.support.bearer_tables import own_token
from tests.support.principals import bearer
from tests.support.stores import StoreUrls, fresh_name
from tests.support.tokens import SECRET

ADMIN = "root@example.com"


class AheadClock(SystemClock):
    """The machine's clock, ``ahead_s`` ahead of it: a test lets keys and tokens run out by raising that."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


class Authenticated:
    """``admin`` is the header of an administrator of all workspaces."""

    def __init__(self, api: Api, clock: AheadClock) -> None:
        self.api = api
        self.clock = clock
        self.admin = bearer(own_token(clock, ADMIN, jti="of the administrator"))

    async def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The JSON of a call that succeeds, by the administrator unless there are other headers."""
        answer = await self.api.call(method, path, body, headers=headers or self.admin)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def key(self, *grants: str, workspace: str = "default", **fields: Any) -> str:
        """The token of a new key."""
        body = {"name": "k", "grants": grants, "workspaces": [workspace], **fields}
        return str((await self.call("POST", "/keys", body))["token"])


@asynccontextmanager
async def authenticated(
    store_urls: StoreUrls, kinds: tuple[str, ...] = STARTED, clock: Clock | None = None, **changes: Any
) -> AsyncIterator[Authenticated]:
    name, ahead = fresh_name(), AheadClock()
    await migrate(store_urls.database, name)
    given = {"auth_enabled": True, "admin_users": (ADMIN,), "jwt_secret": SECRET.decode(), **changes}
    async with Api(api_settings(store_urls, name, **given), clock or ahead).running(kinds) as api:
        yield Authenticated(api, ahead)
