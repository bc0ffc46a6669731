"""Pages of hooks, workspaces with members and roles, retention and regions, and what is done to all that a filter finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.conftest import Viewer
from tests.support.authenticated import Authenticated, authenticated
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls) as found:
        yield found


async def log_in(tab: Page, key: str) -> None:
    await tab.get_by_label("API key or token").fill(key)
    await tab.get_by_role("button", name="Use it in this tab").click()


def dialog(tab: Page, button: str) -> Locator:
    return tab.get_by_role("dialog").get_by_role("button", name=button)


async def test_a_hook_is_made_rotated_paused_and_deleted(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await viewer.open("/hooks")
    made = tab.get_by_role("form", name="New hook")
    await made.get_by_label("Name", exact=True).fill("builds")
    await made.get_by_label("Task type, workflow").fill("build")
    await made.get_by_label("Input").fill('{"pr": ')
    await made.get_by_role("button", name="Make it").click()
    await expect(tab.get_by_role("alert")).to_contain_text("The input is not JSON.")
    await made.get_by_label("Input").fill('{"pr": {"from": "body", "path": "/number"}}')
    await made.get_by_role("button", name="Make it").click()
    secret = tab.locator("pre").first
    await expect(secret).to_contain_text("whsec_")
    first = await secret.inner_text()
    await viewer.check("hooks")
    (hook,) = (await tasks.get("/hooks"))["hooks"]
    assert (hook["task_type"], hook["input"]) == ("build", {"pr": {"from": "body", "path": "/number"}})
    await tab.get_by_role("button", name="I have it").click()
    assert first not in await tab.content()

    group = tab.get_by_role("group", name="Hook builds")
    await group.get_by_role("button", name="Pause").click()
    await dialog(tab, "Pause").click()
    await expect(group.get_by_role("button", name="Pause")).to_have_accessible_description("It is paused.")
    await group.get_by_role("button", name="Rotate").click()
    await dialog(tab, "Rotate").click()
    await expect(secret).to_contain_text("whsec_")
    assert await secret.inner_text() != first
    await expect(tab.get_by_text("A secret of before counts until")).to_be_visible()
    await group.get_by_role("button", name="Delete").click()
    await dialog(tab, "Delete").click()
    await expect(tab.get_by_text("There are no hooks")).to_be_visible()
    assert (await tasks.get("/hooks"))["total"] == 0


async def test_retention_is_counted_before_it_removes_anything(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    key = await door.key("admin")
    for _ in range(3):
        made = await door.call("POST", "/tasks", {"task_type": "build"})
        await door.call("POST", f"/tasks/{made['task_id']}/cancel", {})
    # What has ended just now stays, since a call may be repeated.
    door.clock.ahead_s += 3 * 86_400
    await viewer.open("/retention")
    await log_in(tab, key)
    remove = tab.get_by_role("button", name="Remove it now")
    await expect(remove).to_have_accessible_description("Count it first.")
    form = tab.get_by_role("form", name="Retention")
    await form.get_by_label("Tasks, the newest").fill("1")
    await form.get_by_role("button", name="Change what is kept").click()
    await expect(tab.get_by_text("set for this workspace")).to_be_visible()
    mine = bearer(key)
    rule = await door.call("GET", "/retention", headers=mine)
    assert (rule["task_count"], rule["is_default"]) == (1, False)
    await tab.get_by_role("button", name="Count what would go").click()
    await expect(tab.get_by_text("2 tasks, 0 deliberations and 0 runs would go")).to_be_visible()
    assert (await door.call("GET", "/tasks", headers=mine))["total"] == 3
    await viewer.check("retention")
    await remove.click()
    await dialog(tab, "Remove it now").click()
    await expect(tab.get_by_text("A pass was asked for.", exact=False).first).to_be_visible()
    assert (await door.call("GET", "/retention", headers=mine))["run_requested"]


async def test_members_roles_and_workspaces_are_looked_after(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    await viewer.open("/workspaces")
    await log_in(tab, await door.key("admin", workspace="*"))
    await expect(tab.get_by_role("heading", name="Choose a workspace")).to_have_count(0)
    role = tab.get_by_role("form", name="New role")
    await role.get_by_label("Name").fill("releaser")
    await role.get_by_label("Permissions").fill("tasks.read, tasks.write")
    await role.get_by_role("button", name="Define it").click()
    await expect(tab.get_by_role("heading", name="releaser")).to_be_visible()
    member = tab.get_by_role("form", name="New member")
    await member.get_by_label("Who").fill("user:ada@example.com")
    await member.get_by_label("Role").select_option("releaser")
    await member.get_by_role("button", name="Give it").click()
    row = tab.get_by_role("region", name="Members").get_by_role("row", name="user:ada@example.com")
    await expect(row).to_contain_text("releaser")
    await viewer.check("workspaces")
    # What is in use stays, in the server's words.
    roles = tab.get_by_role("group", name="Role releaser")
    await roles.get_by_role("button", name="Remove").click()
    await dialog(tab, "Remove").click()
    await expect(tab.get_by_role("alert")).to_contain_text("has this role")
    await row.get_by_role("button", name="Take away").click()
    await dialog(tab, "Take away").click()
    await expect(tab.get_by_text("Nobody has a role here by name.")).to_be_visible()

    new = tab.get_by_role("form", name="New workspace")
    await new.get_by_label("Id", exact=True).fill("second")
    await new.get_by_role("button", name="Make it").click()
    second = tab.get_by_role("group", name="Workspace second")
    await second.get_by_role("button", name="Suspend").click()
    await dialog(tab, "Suspend").click()
    await expect(second.get_by_role("button", name="Suspend")).to_have_accessible_description("It is suspended.")
    await second.get_by_role("button", name="Resume").click()
    await expect(second.get_by_role("button", name="Resume")).to_have_accessible_description("It is active.")
    found = await door.call("GET", "/workspaces")
    assert {each["id"]: each["state"] for each in found["workspaces"]} == {"default": "active", "second": "active"}
    await second.get_by_role("button", name="Delete").click()
    await dialog(tab, "Delete").click()
    await expect(second).to_have_count(0)


async def test_a_viewer_sees_the_new_pages_and_why_it_may_not(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    body = {"name": "builds", "task": {"task_type": "build"}}
    await door.call("POST", "/hooks", body)
    await viewer.open("/hooks")
    await log_in(tab, await door.key("viewer"))
    group = tab.get_by_role("group", name="Hook builds")
    for button in ("Pause", "Rotate", "Delete"):
        refused = group.get_by_role("button", name=button)
        await expect(refused).to_have_accessible_description("Your role lacks controlplane:hooks.write.")
        await refused.click(force=True)
    await expect(tab.get_by_role("dialog")).to_have_count(0)
    assert not (await door.call("GET", "/hooks/builds"))["paused"]
    await viewer.check("hooks-viewer")
    await viewer.open("/retention")
    await expect(tab.get_by_role("button", name="Count what would go")).to_have_accessible_description(
        "Your role lacks controlplane:payloads.erase."
    )
    await viewer.open("/workspaces")
    await expect(tab.get_by_text("Your role lacks controlplane:access.read.")).to_be_visible()
    await viewer.open("/regions")
    await expect(tab.get_by_text("Your role lacks controlplane:system.read.")).to_be_visible()
    await tab.set_viewport_size({"width": 360, "height": 900})
    for path in ("/hooks", "/retention", "/workspaces", "/regions"):
        await viewer.open(path)
        await expect(tab.get_by_text("Loading…")).to_have_count(0)
        await viewer.check(f"{path[1:]}-viewer-360")


async def test_a_region_alone_has_no_page_of_regions(viewer: Viewer) -> None:
    tab = viewer.tab
    await viewer.open("/")
    await expect(tab.get_by_role("heading", name="Components")).to_be_visible()
    await tab.get_by_text("More", exact=True).click()
    await expect(tab.get_by_role("link", name="Hooks")).to_be_visible()
    await expect(tab.get_by_role("link", name="Regions")).to_have_count(0)
    await viewer.open("/regions")
    await expect(tab.get_by_text("This region is alone")).to_be_visible()


async def test_all_that_a_filter_finds_is_cancelled_after_a_count(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    chosen = [await tasks.submit("nightly") for _ in range(3)]
    other = await tasks.submit("other")
    await viewer.open("/queue")
    await tab.get_by_text("Cancel all that the filter finds").click()
    count = tab.get_by_role("button", name="Count them")
    await expect(count).to_have_attribute("aria-disabled", "true")
    await expect(tab.get_by_text("Give a filter first")).to_be_visible()
    await viewer.open("/queue?type=nightly")
    await tab.get_by_text("Cancel all that the filter finds").click()
    await count.click()
    await tab.get_by_role("button", name="Cancel 3 tasks").click()
    assert not await tasks.is_detail(chosen[0], "cancelled")
    await viewer.check("queue-bulk")
    await dialog(tab, "Cancel 3 tasks").click()
    await expect(tab.get_by_text("3 tasks cancelled.")).to_be_visible()
    for task in chosen:
        await eventually(lambda task=task: tasks.is_detail(task, "cancelled"))
    assert (await tasks.get(f"/tasks/{other}"))["status"] == "pending"


async def test_dead_letters_are_removed_only_by_a_filter(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await tasks.agent("a1", capabilities=["x"])
    await tasks.submit("flaky", max_retries=0)
    await tasks.fail(await tasks.claim_one("a1"), error="no")
    await viewer.open("/queue?view=dead")
    await tab.get_by_role("button", name="Count them").click()
    remove = tab.get_by_role("button", name="Remove 1 task from the dead letter")
    await expect(remove).to_have_accessible_description("Give a type or a queue first: this cannot be undone.")
    await viewer.open("/queue?view=dead&type=flaky")
    await tab.get_by_role("button", name="Count them").click()
    await remove.click()
    await dialog(tab, "Remove 1 task").click()

    async def removed() -> bool:
        return bool((await tasks.get("/dead-letter"))["total"] == 0)

    await eventually(removed)
    await expect(tab.get_by_text("No task matches.")).to_be_visible()


async def test_a_suspended_workspace_is_said_and_nothing_changes(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    made: dict[str, Any] = await door.call("POST", "/tasks", {"task_type": "build"})
    key = await door.key("operator")
    await viewer.open(f"/tasks/{made['task_id']}")
    await log_in(tab, key)
    cancel = tab.get_by_role("button", name="Cancel", exact=True)
    await expect(cancel).to_have_attribute("aria-disabled", "false")
    await door.call("PATCH", "/workspaces/default", {"state": "suspended"})
    # An operator is told nothing of access by the stream: the first change that is refused tells.
    await cancel.click()
    await dialog(tab, "Cancel").click()
    await expect(tab.get_by_role("alert")).to_contain_text("The workspace default is suspended")
    await expect(tab.get_by_role("status").filter(has_text="The workspace default is suspended")).to_be_visible()
    await expect(cancel).to_have_accessible_description(
        "The workspace is suspended: nothing changes in it until an administrator resumes it."
    )
    await cancel.click(force=True)
    await expect(tab.get_by_role("dialog")).to_have_count(0)
    await viewer.check("task-suspended")
    await door.call("PATCH", "/workspaces/default", {"state": "active"})
    await tab.reload()
    await expect(cancel).to_have_attribute("aria-disabled", "false")
    await expect(tab.get_by_text("The workspace default is suspended")).to_have_count(0)
    await cancel.click()
    await dialog(tab, "Cancel").click()

    async def cancelled() -> bool:
        found = await door.call("GET", f"/tasks/{made['task_id']}", headers=bearer(key))
        return bool(found["status"] == "cancelled")

    await eventually(cancelled)
