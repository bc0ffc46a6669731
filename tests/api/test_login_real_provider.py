"""Logins with a real OIDC provider (npm's ``oidc-provider``), which holds us to the protocol as we hold it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.api import CP
from tests.support.authenticated import Authenticated, authenticated
from tests.support.openid import ORIGIN, SESSION, Browser, login_settings
from tests.support.principals import bearer
from tests.support.real_provider import RealProvider, real_provider
from tests.support.stores import StoreUrls

#: A process of its own for the provider.
pytestmark = pytest.mark.slow
CALLBACK = f"{ORIGIN}{CP}/auth/callback"


@dataclass
class Ground:
    door: Authenticated
    provider: RealProvider

    async def log_in(self, person: str) -> Browser:
        browser, _ = await self.logged_in(person)
        return browser

    async def logged_in(self, person: str) -> tuple[Browser, str]:
        """A browser with a session, and the answer that it brought."""
        browser = Browser(self.door.api)
        await self.provider.seat(person)
        begun = await browser.call("GET", "/auth/login?next=/docs")
        answer = urlsplit(await self.provider.visit(begun.headers["location"], CALLBACK))
        finished = await browser.call("GET", f"/auth/callback?{answer.query}")
        assert (finished.status_code, finished.headers["location"]) == (303, f"{ORIGIN}/docs"), finished.text
        return browser, answer.query


@pytest.fixture
async def ground(store_urls: StoreUrls) -> AsyncIterator[Ground]:
    async with (
        real_provider(CALLBACK) as provider,
        authenticated(store_urls, **login_settings(provider.url, oauth_group_roles=("builders=operator",))) as door,
    ):
        yield Ground(door, provider)


async def test_people_log_in_with_their_addresses_and_groups(ground: Ground) -> None:
    ann = await ground.log_in("ann@example.com")
    shown = (await ann.call("GET", "/auth/session")).json()
    assert (shown["principal"], shown["groups"]) == ("user:ann@example.com", ["builders"])
    csrf = shown["csrf_token"]
    assert (await ann.call("POST", "/tasks", {"task_type": "t"}, X_CSRF_Token=csrf)).status_code == 201
    assert (await ann.call("GET", "/keys")).status_code == 403
    root = await ground.log_in("root@example.com")
    assert (await root.call("GET", "/keys")).status_code == 200
    nobody = await ground.log_in("unverified@example.com")
    principal = (await nobody.call("GET", "/auth/session")).json()["principal"]
    assert principal == "user:subject/127.0.0.1/unverified%40example.com"


async def test_a_replayed_answer_and_one_of_another_browser_are_refused(ground: Ground) -> None:
    browser, query = await ground.logged_in("ann@example.com")
    for other in (browser, Browser(ground.door.api)):
        answer = await other.call("GET", f"/auth/callback?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "login_mismatch")


async def test_a_code_that_another_login_got_is_refused(ground: Ground) -> None:
    """Its verifier is another browser's, so the provider itself refuses it."""
    _, query = await ground.logged_in("root@example.com")
    code = dict(part.split("=") for part in query.split("&"))["code"]
    victim = Browser(ground.door.api)
    asked = await victim.begin()
    answer = await victim.finish(ground.provider.url, state=asked["state"], code=code)
    assert (answer.status_code, answer.json()["code"]) == (400, "login_refused")
    assert SESSION not in victim.cookies


async def test_a_command_line_logs_in_by_any_browser(ground: Ground, tmp_path: Path) -> None:
    api = ground.door.api
    await ground.provider.seat("ann@example.com")
    begun = await api.post("/auth/device")
    waiting = await api.call("POST", "/auth/device/token", {"device_code": begun["device_code"]})
    assert waiting.json()["code"] == "authorization_pending"
    await ground.provider.visit(begun["verification_uri_complete"], "Sign-in Success")
    done = await api.post("/auth/device/token", {"device_code": begun["device_code"]})
    assert done["principal"] == "user:ann@example.com"
    assert (await api.call("GET", "/tasks", headers=bearer(done["token"]))).status_code == 200
    again = await api.call("POST", "/auth/device/token", {"device_code": begun["device_code"]})
    assert (again.status_code, again.json()["code"]) == (400, "login_refused")
