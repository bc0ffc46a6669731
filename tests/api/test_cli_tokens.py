"""`aragora-cp tokens` and `secrets` on the host: the first access, and its end."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cluster.postgres.migrate import migrate
from tests.api.test_cli import _one_sentence, _run
from tests.support.api import Api, api_settings
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name

pytestmark = pytest.mark.slow
ADMIN = "ann@example.com"
OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"o", b"n"))


async def _status(api: Api, token: str) -> int:
    return (await api.call("GET", "/queue", headers=bearer(token))).status_code


async def test_the_first_access_is_made_on_the_host_and_revoked_there(store_urls: StoreUrls) -> None:
    name = fresh_name()
    await migrate(store_urls.database, name)
    host = {
        "ARAGORA_DATABASE_URL": store_urls.database,
        "ARAGORA_REDIS_URL": store_urls.redis,
        "ARAGORA_DATABASE_SCHEMA": name,
        "ARAGORA_REGION": "test-region",
        "ARAGORA_SECRETS_KEY": OLD,
    }
    # Made before the API has ever run: both use the secret that is stored.
    made = await _run("", "tokens", "create", "--subject", f"user:{ADMIN}", **host)
    assert made.code == 0, made
    settings = api_settings(store_urls, name, auth_enabled=True, secrets_key=OLD, admin_users=(ADMIN,))
    async with Api(settings).running(()) as api:
        admin = made.out.strip()
        assert await _status(api, admin) == 200
        asked = await _run(api.url, "agents", "list", ARAGORA_API_KEY=admin)
        assert asked.code == 0, asked
        _one_sentence(await _run(api.url, "agents", "list"), 1, "ARAGORA_API_KEY")

        rotated = await _run(
            "", "secrets", "rotate", **host | {"ARAGORA_SECRETS_KEY": NEW, "ARAGORA_SECRETS_KEY_PREVIOUS": OLD}
        )
        assert (rotated.code, rotated.out) == (0, "1 secret was sealed anew.\n"), rotated
        host["ARAGORA_SECRETS_KEY"] = NEW
        limited = await _run(
            "", "tokens", "create", "--subject", "agent:a", "--workspace", "default", "--role", "viewer", **host
        )
        assert await _status(api, limited.out.strip()) == 200

        jti = _claims(limited.out)["jti"]
        for words, token in (((jti,), limited.out.strip()), (("--subject", f"user:{ADMIN}"), admin)):
            done = await _run("", "tokens", "revoke", *words, **host)
            assert done.code == 0, done

            async def refused(token: str = token) -> bool:
                return await _status(api, token) == 401

            await eventually(refused)


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
