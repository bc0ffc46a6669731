"""Authentication of a whole replica: what the settings turn on, what is stored about access, and what is kept sealed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.access.api_key import SECRET_BYTES, ApiKey, digest_of, secret_of, token_of
from cluster.domain.access.tokens import Claims, make_token
from cluster.domain.base.log import Origin
from cluster.ports.access import Revocation
from cluster.ports.secrets import JWT_SECRET
from cluster.postgres.migrate import migrate
from cluster.process.clock import SystemClock
from serve_app.auth.making import AuthenticationOff
from serve_app.replica import make_ingress
from tests.support.api import Api, api_settings
from tests.support.bearer_tables import claims, own_token
from tests.support.issuers import Issuer
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name
from tests.support.tokens import SECRET

ADMIN = "ann@example.com"
ORIGIN = Origin(workspace="default", principal="test", cause="test")
KEY = base64.b64encode(b"k" * 32).decode()


@asynccontextmanager
async def _running(store_urls: StoreUrls, **changes: Any) -> AsyncIterator[Api]:
    """A replica with authentication, and no actors."""
    name = fresh_name()
    await migrate(store_urls.database, name)
    given = {"auth_enabled": True, "admin_users": (ADMIN,), "http_host": "0.0.0.0", **changes}
    async with Api(api_settings(store_urls, name, **given)).running(()) as api:
        yield api


async def _status(api: Api, token: str | None, path: str = "/queue") -> int:
    return (await api.call("GET", path, headers={} if token is None else bearer(token))).status_code


async def _key(api: Api) -> tuple[ApiKey, str]:
    secret = secret_of(b"s" * SECRET_BYTES)
    key = ApiKey(
        id="0123456789abcdefghjk",
        name="k",
        workspaces=("default",),
        grants=("viewer",),
        digests=(digest_of(secret),),
        created_at=1.0,
        created_by="test",
    )
    await api.stores.access.create_key(ORIGIN, key)
    return key, token_of(key.id, secret)


async def test_a_stored_key_opens_the_door_until_it_is_revoked(store_urls: StoreUrls) -> None:
    async with _running(store_urls, jwt_secret=SECRET.decode()) as api:
        assert await _status(api, None) == 401
        key, token = await _key(api)

        async def opens() -> bool:
            return await _status(api, token) == 200

        await eventually(opens)
        assert (await api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(token))).status_code == 403
        admin = own_token(SystemClock(), ADMIN)
        assert await _status(api, admin) == 200
        revoked = Revocation(subject=f"user:{ADMIN}", not_before=SystemClock().now(), until=2e9)
        await api.stores.access.revoke(ORIGIN, revoked)
        await api.stores.access.put_key(ORIGIN, replace(key, revoked_at=2.0))

        async def closed() -> bool:
            return await _status(api, token) == 401

        await eventually(closed)
        assert await _status(api, admin) == 401


async def test_the_last_use_of_a_key_is_stored(store_urls: StoreUrls) -> None:
    name = fresh_name()
    await migrate(store_urls.database, name)
    settings = api_settings(store_urls, name, auth_enabled=True)
    async with Api(settings).running(()) as api:
        _, token = await _key(api)

        async def opens() -> bool:
            return await _status(api, token) == 200

        await eventually(opens)
    async with Api(settings).running(()) as api:
        (stored,) = (await api.stores.access.load()).keys
        assert stored.last_used_at is not None


async def test_administrators_of_the_settings_may_everything(store_urls: StoreUrls) -> None:
    async with _running(store_urls, jwt_secret=SECRET.decode()) as api:
        admin, guest = own_token(SystemClock(), ADMIN), own_token(SystemClock(), "bob@example.com")
        created = await api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(admin))
        assert created.status_code == 201, created.text
        assert await _status(api, guest) == 200  # the default role, viewer
        refused = await api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(guest))
        assert refused.status_code == 403


async def test_without_roles_whoever_is_known_may_everything(store_urls: StoreUrls) -> None:
    async with _running(store_urls, jwt_secret=SECRET.decode(), rbac_enabled=False) as api:
        guest = bearer(own_token(SystemClock(), "bob@example.com"))
        assert (await api.call("POST", "/tasks", {"task_type": "t"}, headers=guest)).status_code == 201
        assert await _status(api, None) == 401


async def test_replicas_share_a_secret_that_they_made_and_sealed(store_urls: StoreUrls) -> None:
    async with _running(store_urls, secrets_key=KEY) as api:
        secret = await api.stores.secrets([b"k" * 32]).own(JWT_SECRET, b"another")
        assert len(secret) >= 32
        now = SystemClock().now()
        token = make_token(Claims(subject=f"user:{ADMIN}", issued_at=now, expires_at=now + 60, jti="t"), secret)
        assert await _status(api, token) == 200
        (row,) = await api.stores.pool.rows("select sealed from secrets")
        assert secret not in bytes(row["sealed"])
        again = Api(api.settings)
        async with again._served():
            async with asyncio.timeout(10):
                answer = await api.client.get(f"{again.url}/api/control-plane/queue", headers=bearer(token))
            assert answer.status_code == 200


async def test_with_neither_secret_nor_key_no_token_counts(store_urls: StoreUrls) -> None:
    async with _running(store_urls) as api:
        assert await _status(api, own_token(SystemClock(), ADMIN)) == 401
        assert (await api.client.get("/health")).status_code in (200, 503)


async def test_tokens_of_another_issuer_are_checked_with_its_keys(store_urls: StoreUrls) -> None:
    async with Issuer().running() as issuer:
        named = {"jwt_jwks_url": issuer.url, "jwt_issuer": "https://id", "jwt_audience": "cp"}
        async with _running(store_urls, **named) as api:
            said = claims(SystemClock(), "u1", iss="https://id", aud="cp", email=ADMIN, email_verified=True)
            admin = bearer(issuer.token(said))
            assert (await api.call("POST", "/tasks", {"task_type": "t"}, headers=admin)).status_code == 201
            assert await _status(api, issuer.token({**said, "aud": "others"})) == 401
            assert await _status(api, own_token(SystemClock(), ADMIN)) == 401


@pytest.mark.parametrize("change", [{"embedded": False}, {"http_host": "0.0.0.0"}], ids=str)
def test_without_authentication_only_loopback_is_served(store_urls: StoreUrls, change: dict[str, Any]) -> None:
    settings = api_settings(store_urls, "s")

    def unresolved(*_: Any) -> Any:
        raise AssertionError

    assert make_ingress(settings, unresolved, unresolved)
    with pytest.raises(AuthenticationOff, match="ARAGORA_AUTH_ENABLED"):
        make_ingress(settings.model_copy(update=change), unresolved, unresolved)
