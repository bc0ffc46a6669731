"""Pages of rules, schedules, workflows, money, people and keys: each with real data, and each action once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Viewer
from tests.support.authenticated import Authenticated, authenticated
from tests.support.changes import MAIL
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi
from tests.support.workflows import Agents, settle, workflow_keeper

ASKED = {
    "question": "Which tier does the customer get?",
    "answer_schema": {
        "type": "object",
        "properties": {"tier": {"enum": [1, 2, 3]}, "urgent": {"type": "boolean"}, "note": {"type": "string"}},
        "required": ["tier"],
    },
}
FLOW = (
    '{"name": "release", "steps": [{"id": "go", "signal": {"name": "approved"}},'
    ' {"id": "build", "after": ["go"], "task": {"task_type": "build"}}]}'
)


async def test_questions_schedules_and_workflows_are_worked_with(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    asked = await tasks.submit("approval", input_required=ASKED)
    plain = await tasks.submit("approval", input_required={"question": "Shall we?"})
    await viewer.open("/")
    await tab.get_by_role("link", name="2 tasks wait for people").click()
    await expect(tab.get_by_text("2 open questions")).to_be_visible()
    await viewer.check("questions")
    form = tab.get_by_role("form", name=f"Answer of Task {asked}")
    await form.get_by_label("tier").select_option("2")
    await form.get_by_label("urgent").select_option("yes")
    await form.get_by_role("button", name="Answer").click()
    await eventually(lambda: tasks.is_detail(asked, "completed"))
    assert (await tasks.get(f"/tasks/{asked}"))["result"] == {"tier": 2, "urgent": True}
    await tab.get_by_role("button", name="Approve").click()
    await expect(tab.get_by_text("Nobody asks anything now.")).to_be_visible()
    assert (await tasks.get(f"/tasks/{plain}"))["result"] is True

    await tab.get_by_text("More", exact=True).click()
    await tab.get_by_role("link", name="Schedules").click()
    made = tab.get_by_role("form", name="New schedule")
    await made.get_by_label("Name").fill("nightly")
    await made.get_by_label("Task type").fill("backup")
    await made.get_by_label("Cron", exact=True).fill("0 6 * * *")
    await made.get_by_label("Time zone").fill("Europe/Berlin")
    await made.get_by_label("Payload").fill('{"all": []}')
    await made.get_by_role("button", name="Make it").click()
    await expect(tab.get_by_role("heading", name="nightly")).to_be_visible()
    await expect(tab.get_by_text("0 6 * * * (Europe/Berlin)")).to_be_visible()
    await expect(tab.locator("ol.short li")).to_have_count(10)
    await tab.get_by_role("button", name="Run now").click()
    await expect(tab.get_by_text("Started.", exact=True)).to_be_visible()
    (run,) = (await tasks.get("/tasks", task_type="backup"))["tasks"]
    assert run["payload"] == {"all": []}
    await tab.get_by_role("button", name="Pause").click()
    await expect(tab.get_by_role("button", name="Pause")).to_have_accessible_description("It is paused.")
    await viewer.check("schedule")

    await viewer.open("/workflows")
    await tab.get_by_label("Document").fill('{"name": ')
    await tab.get_by_role("button", name="Store").click()
    await expect(tab.get_by_role("alert")).to_contain_text("The document is not JSON.")
    await tab.get_by_label("Document").fill(FLOW)
    await tab.get_by_role("button", name="Store").click()
    await tab.get_by_label("Input").fill('{"tag": ""}')
    await viewer.check("workflow")
    await tab.get_by_role("button", name="Start", exact=True).click()
    await tab.wait_for_url("**/runs/*")
    await tab.get_by_label("Value of the signal approved").fill('""')
    await tab.get_by_role("button", name="Send approved").click()
    await expect(tab.get_by_text("Sent.", exact=True)).to_be_visible()
    keeper = workflow_keeper(viewer.api.stores, Agents(viewer.api.stores, "default"))
    await settle(keeper)
    steps = tab.get_by_role("region", name="Steps").locator("tbody tr")
    await expect(steps.filter(has_text="go").first).to_contain_text("completed")
    await expect(tab.get_by_role("link", name=".build.")).to_be_visible()
    await viewer.check("run")
    await tab.get_by_role("button", name="Cancel", exact=True).click()
    await tab.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    await expect(tab.get_by_role("dialog")).to_have_count(0)

    async def over() -> bool:
        await settle(keeper)
        (run,) = (await viewer.api.get("/workflow-runs"))["runs"]
        return bool(run["status"] == "cancelled")

    await eventually(over)
    await expect(tab.get_by_role("button", name="Cancel", exact=True)).to_have_accessible_description("It has ended.")


async def test_policies_budgets_and_the_audit_are_worked_with(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await tasks.submit("deploy")
    await viewer.open("/policies")
    made = tab.get_by_role("form", name="New policy")
    await made.get_by_label("Name").fill("No deploys")
    await made.get_by_label("Task types").fill("deploy, ")
    await made.get_by_label("Deny when").fill('task.task_type == "deploy"')
    await made.get_by_label("Enforced").select_option("hard")
    await made.get_by_role("button", name="Go on").click()
    await expect(tab.get_by_text("would have denied 1,")).to_be_visible()
    assert (await tasks.get("/policies"))["total"] == 0
    await made.get_by_label("What to do").select_option("make it")
    await made.get_by_role("button", name="Go on").click()
    await tab.wait_for_url("**/policies/*")
    await tasks.post("/tasks", {"task_type": "deploy"}, expect=403)
    await expect(tab.get_by_text("1 violation", exact=True)).to_be_visible()
    await viewer.check("policy")
    await tab.get_by_role("button", name="Resolve").click()
    await expect(tab.get_by_role("button", name="Open again")).to_be_visible()
    await tab.get_by_role("button", name="Disable").click()
    await expect(tab.get_by_role("button", name="Enable")).to_be_visible()
    await tab.get_by_role("button", name="Go back to 1").click()
    await expect(tab.get_by_role("button", name="Disable")).to_be_visible()
    assert (await tasks.get("/policies"))["policies"][0]["version"] == 3

    await viewer.open("/budgets")
    budget = tab.get_by_role("form", name="New budget")
    await budget.get_by_label("Name").fill("Night runs")
    await budget.get_by_label("Limit").fill("10.00")
    await budget.get_by_label("Estimate").fill("0.10")
    await budget.get_by_role("button", name="Make it").click()
    await expect(tab.get_by_text("of $10.00")).to_be_visible()
    await tab.get_by_role("form", name="Quotas").get_by_label("Agents").fill("7")
    await tab.get_by_role("button", name="Set", exact=True).click()
    await expect(tab.get_by_text("0 of 7")).to_be_visible()
    await viewer.check("budgets")

    await tasks.post("/notifications/channels", {"name": "mail", **MAIL})
    await viewer.open("/notifications")
    rule = tab.get_by_role("form", name="New rule")
    await rule.get_by_label("Name").fill("all")
    await rule.get_by_label("Events").fill("task.dead_lettered")
    await rule.get_by_label("Channels").fill("mail")
    await rule.get_by_role("button", name="Make or replace it").click()
    await expect(tab.get_by_text("task.dead_lettered from info up to mail")).to_be_visible()
    await tab.get_by_role("button", name="Test mail").click()
    await expect(tab.get_by_text("1 notification", exact=True)).to_be_visible()
    await viewer.check("notifications")

    await viewer.open("/audit?actions=budget.created")
    await expect(tab.get_by_text("1 entry", exact=True)).to_be_visible()
    await tab.get_by_role("button", name="Verify", exact=True).click()
    await expect(tab.get_by_text("It is", exact=True)).to_be_visible()
    await viewer.check("audit")

    await tab.emulate_media(color_scheme="dark")
    await tab.set_viewport_size({"width": 360, "height": 900})
    for path in (
        "/policies",
        "/budgets",
        "/notifications",
        "/audit",
        "/access",
        "/receipt",
        "/schedules",
        "/workflows",
    ):
        await viewer.open(path)
        await expect(tab.get_by_text("Loading…")).to_have_count(0)
        await viewer.check(f"{path[1:]}-dark-360")


async def test_several_conditions_live_in_the_address(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    both = await tasks.submit("build", metadata={"tags": ["nightly"], "pr": 17})
    await tasks.submit("build", metadata={"tags": ["nightly"]})
    await viewer.open("/queue")
    await tab.get_by_label("Condition 1").fill("tag=nightly")
    await tab.get_by_role("button", name="And").click()
    await tab.get_by_label("Condition 2").fill("metadata.pr=17")
    await tab.get_by_role("button", name="Show").click()
    await expect(tab.locator("tbody tr")).to_have_count(1)
    await expect(tab.get_by_role("link", name=both)).to_be_visible()
    await tab.reload()
    await expect(tab.get_by_label("Condition 2")).to_have_value("metadata.pr=17")


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls) as found:
        yield found


async def test_a_key_is_made_and_does_what_its_role_may(door: Authenticated, tab: Page) -> None:
    viewer = Viewer(tab, door.api)
    await viewer.open("/access")
    await tab.get_by_label("API key or token").fill(await door.key("admin"))
    await tab.get_by_role("button", name="Use it in this tab").click()
    made = tab.get_by_role("form", name="New key")
    await made.get_by_label("Name").fill("watcher")
    await made.get_by_label("Roles").fill("viewer")
    await made.get_by_role("button", name="Make a key").click()
    token = await tab.locator("pre").first.inner_text()
    found = await door.call("GET", "/auth/caller", headers=bearer(token))
    assert found["roles"] == ["viewer"]
    await tab.get_by_role("button", name="I have it").click()
    assert token not in await tab.content()
    secret = tab.get_by_role("form", name="New credential")
    await secret.get_by_label("Name").fill("provider")
    await secret.get_by_label("Secret").fill(" kept as it is ")
    await secret.get_by_role("button", name="Store").click()
    await expect(tab.get_by_role("heading", name="provider")).to_be_visible()
    assert "kept as it is" not in await tab.content()
    await viewer.check("access")
    # The new key sees the pages, and what it may not do with the reason.
    await tab.evaluate("token => sessionStorage.setItem('aragora-key', token)", token)
    await viewer.open("/policies")
    go = tab.get_by_role("button", name="Go on")
    await expect(go).to_have_accessible_description("Your role lacks controlplane:policies.write.")
    await go.click(force=True)
    await expect(tab.get_by_role("alert")).to_have_count(0)
    await viewer.open("/access")
    await expect(tab.get_by_text("Your role lacks controlplane:access.read.")).to_be_visible()
    await viewer.open("/audit")
    await expect(tab.get_by_role("button", name="Verify", exact=True)).to_have_accessible_description(
        "Your role lacks controlplane:audit.verify."
    )
    await viewer.check("audit-viewer")
