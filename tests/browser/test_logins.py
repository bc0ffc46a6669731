"""The page with authentication on: who is let in, in which workspace, and what a role may not do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Viewer
from tests.support.authenticated import Authenticated, authenticated
from tests.support.stores import StoreUrls


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls) as found:
        yield found


async def _log_in(tab: Page, key: str) -> None:
    await tab.get_by_label("API key or token").fill(key)
    await tab.get_by_role("button", name="Use it in this tab").click()


async def test_a_viewer_sees_what_it_may_not_do_and_why(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    made = await door.call("POST", "/tasks", {"task_type": "build", "payload": {"text": "zanzibar"}})
    path = f"/tasks/{made['task_id']}"
    await viewer.open(path)
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
    await viewer.check("login")
    await _log_in(tab, "ara_wrong")
    await expect(tab.get_by_role("alert")).to_contain_text("does not count")
    await _log_in(tab, await door.key("viewer"))
    # The address that was asked for is shown after the login, and once more after a reload.
    cancel = tab.get_by_role("button", name="Cancel", exact=True)
    await expect(cancel).to_have_accessible_description("Your role lacks controlplane:tasks.write.")
    await cancel.click(force=True)  # it can be reached, and does nothing
    await expect(tab.get_by_role("dialog")).to_have_count(0)
    await tab.reload()
    await expect(tab.get_by_text("Your role lacks controlplane:payloads.read, so payload")).to_be_visible()
    assert "zanzibar" not in await tab.content()
    await expect(tab.get_by_text("Live", exact=True)).to_be_visible()
    await viewer.check("task-viewer")
    await tab.get_by_role("button", name="Log out").click()
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
    assert await tab.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_a_key_of_two_workspaces_shows_one_at_a_time(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    await door.call("POST", "/workspaces", {"id": "second"})
    key = await door.key("operator", workspaces=["default", "second"])
    for workspace in ("default", "second"):
        headers = {"Authorization": f"Bearer {key}", "X-Aragora-Workspace": workspace}
        await door.call("POST", "/tasks", {"task_type": f"of-{workspace}"}, headers)
    await viewer.open("/queue")
    await _log_in(tab, key)
    await expect(tab.get_by_role("cell", name="of-default")).to_be_visible()
    await tab.get_by_label("Workspace").select_option("second")
    await expect(tab.get_by_role("cell", name="of-second")).to_be_visible()
    await expect(tab.get_by_role("cell", name="of-default")).to_have_count(0)


async def test_a_key_that_is_revoked_leads_back_to_the_login(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    made = await door.call("POST", "/keys", {"name": "k", "grants": ["viewer"], "workspaces": ["default"]})
    await viewer.open("/")
    await _log_in(tab, made["token"])
    await expect(tab.get_by_text("Live", exact=True)).to_be_visible()
    await door.call("DELETE", f"/keys/{made['id']}")
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
