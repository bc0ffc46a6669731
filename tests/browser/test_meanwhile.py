"""What happens while somebody uses the page: a token expires, the network is slow, only a keyboard is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Viewer
from tests.support.authenticated import ADMIN, Authenticated, authenticated
from tests.support.bearer_tables import LIFE_S, own_token
from tests.support.models import models, register, vote
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls) as found:
        yield found


async def _log_in(tab: Page, token: str) -> None:
    await tab.get_by_label("API key or token").fill(token)
    await tab.get_by_role("button", name="Use it in this tab").click()


async def test_a_token_that_expires_costs_nothing_that_was_typed(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    await viewer.open("/submit")
    await _log_in(tab, own_token(door.clock, ADMIN, jti="the first"))
    await tab.get_by_label("Type").fill("build")
    await tab.get_by_label("Payload").fill('{"typed": "for long"}')
    door.clock.ahead_s += LIFE_S + 60
    await tab.get_by_role("button", name="Submit", exact=True).click()
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
    await expect(tab.get_by_label("Payload")).to_be_hidden()
    await viewer.check("expired")
    # What is hidden asks nothing: whoever only looks at the login is not taken for one who guesses.
    asked = len(viewer.asked)
    await tab.get_by_label("API key or token").fill("typed meanwhile")
    assert len(viewer.asked) == asked
    await _log_in(tab, own_token(door.clock, ADMIN, jti="the second"))
    await expect(tab.get_by_label("Payload")).to_have_value('{"typed": "for long"}')
    await tab.get_by_role("button", name="Submit", exact=True).click()
    await tab.wait_for_url("**/tasks/task_*")
    await expect(tab.get_by_text("Live", exact=True)).to_be_visible()


async def test_another_person_sees_nothing_of_the_one_before(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    made = await door.call("POST", "/tasks", {"task_type": "build", "payload": {"text": "zanzibar"}})
    await viewer.open(f"/tasks/{made['task_id']}")
    await _log_in(tab, own_token(door.clock, ADMIN, jti="the first"))
    await expect(tab.get_by_text("Payload")).to_be_visible()
    assert "zanzibar" in await tab.content()
    door.clock.ahead_s += LIFE_S + 60
    door.admin = {"Authorization": f"Bearer {own_token(door.clock, ADMIN, jti='of the administrator later')}"}
    key = await door.key("viewer")
    # What it reads by itself tells the page.
    await expect(tab.get_by_role("heading", name="Log in")).to_be_visible()
    await _log_in(tab, key)
    await expect(tab.get_by_text("Your role lacks controlplane:payloads.read, so payload")).to_be_visible()
    assert "zanzibar" not in await tab.content()


async def test_a_new_user_finds_everything_by_keyboard_on_a_narrow_window(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await tasks.agent("builder-1", capabilities=["build"])
    await tasks.submit("flaky", required_capabilities=["build"], max_retries=0)
    await tasks.fail(await tasks.claim_one("builder-1"), error="no such branch")
    waiting = await tasks.submit("translate", required_capabilities=["french"])
    await tab.set_viewport_size({"width": 360, "height": 740})
    await viewer.open("/")
    await expect(tab.get_by_role("heading", name="Components")).to_be_visible()

    async def press_on(name: str, role: Literal["link", "button"] = "link") -> None:
        """Goes on by Tab until the focus is on what is named so, and presses Enter."""
        target = tab.get_by_role(role, name=name).first
        await expect(target).to_be_visible()
        for _ in range(80):
            await tab.keyboard.press("Tab")
            if await target.evaluate("found => found === document.activeElement"):
                box = await target.bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 361, f"{name} is beyond the window"
                await tab.keyboard.press("Enter")
                return
        raise AssertionError(f"the keyboard does not reach {name}")

    # Why does a task wait?
    await press_on("Queue")
    await expect(tab.get_by_role("heading", name="Queue", exact=True)).to_be_focused()
    await press_on(waiting)
    await expect(tab.locator(".reasons")).to_contain_text("french")
    await viewer.check("keyboard-task")
    # Replay a dead letter.
    await press_on("Aragora, overview")
    await press_on("1 task in the dead letter")
    await expect(tab.get_by_role("heading", name="Dead letter")).to_be_focused()
    (dead,) = (await tasks.get("/dead-letter"))["tasks"]
    await press_on(dead["id"])
    await press_on("Replay", "button")
    await expect(tab.get_by_text("Submitted again.").or_(tab.get_by_text("Replayed as")).first).to_be_visible()
    # Watch a deliberation, and check its receipt.
    async with models(lambda model, _: vote("ship", f"{model} thinks so")) as endpoint:
        await register(viewer.api, endpoint, "a", "b", "c")
        await press_on("Deliberations")
        await press_on("Ask")
        await tab.get_by_role("textbox", name="Question").focus()
        await tab.keyboard.type("Shall we ship today?")
        await tab.get_by_role("textbox", name="Options").focus()
        await tab.keyboard.type("ship")
        await tab.keyboard.press("Enter")
        await tab.keyboard.type("wait")
        await press_on("Ask", "button")
        await expect(tab.locator(".answer")).to_have_text("ship")
    await press_on("Verify its receipt")
    await expect(tab.get_by_text("It is what was signed.")).to_be_visible()
    await viewer.check("keyboard-receipt")


async def test_a_slow_network_shows_that_something_is_on_its_way(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await tasks.submit("build")
    session = await tab.context.new_cdp_session(tab)
    slow = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", slow)
    await viewer.open("/queue")
    await expect(tab.get_by_text("Connecting").or_(tab.get_by_text("Loading…")).first).to_be_visible()
    await expect(tab.locator("tbody tr")).to_have_count(1)
    await tab.locator("tbody a").first.click()
    cancel = tab.get_by_role("button", name="Cancel", exact=True)
    await cancel.click()
    await tab.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    # While it is on its way it says so, and is not sent twice.
    await expect(tab.get_by_role("button", name="Cancel…")).to_have_attribute("aria-disabled", "true")
    await expect(cancel).to_have_accessible_description("It has ended.")
    sent = [url for url in viewer.asked if url.endswith("/cancel")]
    assert len(sent) == 1
