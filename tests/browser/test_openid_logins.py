"""People log in on the page with a real OIDC provider, and what they see when that does not work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, expect

from cluster.embedded.ports import free_ports
from cluster.postgres.migrate import migrate
from tests.browser.conftest import Viewer
from tests.support.api import CP, Api, api_settings
from tests.support.authenticated import AheadClock
from tests.support.openid import login_settings
from tests.support.real_provider import RealProvider, real_provider
from tests.support.stores import StoreUrls, fresh_name
from tests.support.tokens import SECRET

#: A process of its own for the provider.
pytestmark = pytest.mark.slow
COOKIE = "aragora-session"


@dataclass
class Ground:
    api: Api
    provider: RealProvider
    clock: AheadClock


@pytest.fixture
async def ground(store_urls: StoreUrls) -> AsyncIterator[Ground]:
    """The page on the address that ARAGORA_PUBLIC_URL names."""
    (port,) = free_ports(1)
    schema, url, clock = fresh_name(), f"http://127.0.0.1:{port}", AheadClock()
    await migrate(store_urls.database, schema)
    async with real_provider(f"{url}{CP}/auth/callback") as provider:
        given = login_settings(provider.url, public_url=url, oauth_group_roles=("builders=operator",))
        given |= {"auth_enabled": True, "admin_users": ("root@example.com",), "jwt_secret": SECRET.decode()}
        async with Api(api_settings(store_urls, schema, **given), clock).running(port=port) as api:
            yield Ground(api, provider, clock)


async def _log_in(tab: Page) -> None:
    await tab.get_by_role("link", name="Log in with your organisation").click()


async def test_a_person_logs_in_works_and_logs_out(ground: Ground, tab: Page) -> None:
    viewer = Viewer(tab, ground.api)
    await ground.provider.seat("ann@example.com")
    await viewer.open("/submit")
    await _log_in(tab)
    await expect(tab).to_have_url(f"{ground.api.url}/submit")
    await tab.get_by_label("Type").fill("from-the-page")
    await tab.get_by_role("button", name="Submit").click()
    await tab.wait_for_url("**/tasks/task_*")
    (cookie,) = [each for each in await tab.context.cookies() if each["name"] == COOKIE]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert await tab.evaluate("document.cookie") == ""
    (row,) = [row for row in await ground.api.rows() if row.kind == "task.submitted"]
    assert row.principal == "user:ann@example.com"
    await tab.get_by_role("button", name="Log out").click()
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
    assert COOKIE not in [each["name"] for each in await tab.context.cookies()]


async def test_a_session_that_has_ended_leads_back_to_the_login(ground: Ground, tab: Page) -> None:
    viewer = Viewer(tab, ground.api)
    await ground.provider.seat("ann@example.com")
    await viewer.open("/queue")
    await _log_in(tab)
    await expect(tab.get_by_text("Live", exact=True)).to_be_visible()
    ground.clock.ahead_s = ground.api.settings.oauth_session_life + 1
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
    # This clock is hours ahead of the provider's, whose tokens do not count then. What a person gets to see is no JSON.
    await _log_in(tab)
    await expect(tab.get_by_role("heading", name="You are not logged in")).to_be_visible()
    await expect(tab.get_by_text("token does not count here")).to_be_visible()


async def test_who_brings_another_browsers_answer_reads_why(ground: Ground, tab: Page) -> None:
    viewer = Viewer(tab, ground.api)
    await viewer.open(f"{CP}/auth/callback?state=x&code=y")
    await expect(tab.get_by_text("This login was begun in another browser")).to_be_visible()
    await tab.get_by_role("link", name="Log in again").click()
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
