"""Each page with real work in it, each action, in light and dark, from narrow to wide."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from playwright.async_api import expect

from actors.roles import SCHEDULER
from tests.browser.conftest import Viewer
from tests.support.links import FaultProxy
from tests.support.models import models, register, vote
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

MARKUP = "<img src=x onerror=alert(1)>"


async def _work(tasks: TaskApi) -> dict[str, str]:
    """A task in each state that a page treats in a way of its own."""
    await tasks.agent("builder-1", capabilities=["build"], model="m-1", max_concurrency=4)
    await tasks.agent("builder-2", capabilities=["build", "docs"])
    await tasks.submit("build", required_capabilities=["build"], payload={"pr": 17}, metadata={"tags": ["nightly"]})
    done = await tasks.claim_one("builder-1")
    await tasks.complete(done)
    await tasks.submit("flaky", required_capabilities=["build"], max_retries=0, payload={"text": MARKUP})
    dead = await tasks.claim_one("builder-1")
    await tasks.fail(dead, error=f"no such branch {MARKUP}")
    await tasks.submit("build", required_capabilities=["build"], priority="high")
    running = await tasks.claim_one("builder-2")
    waiting = await tasks.submit("translate", required_capabilities=["french"])
    return {"done": done["id"], "dead": dead["id"], "running": running["id"], "waiting": waiting}


async def test_an_operator_finds_out_why_a_task_waits_and_acts(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    ids = await _work(tasks)
    await viewer.open("/")
    await expect(tab.get_by_role("link", name="1 task in the dead letter")).to_be_visible()
    await expect(tab.get_by_role("heading", name="Components")).to_be_visible()
    await expect(tab.get_by_text("4 submitted")).to_be_visible()
    await expect(tab.get_by_text("Live", exact=True)).to_be_visible()
    await viewer.check("overview")
    await tab.get_by_role("link", name="All tasks").click()
    await expect(tab.locator("tbody tr")).to_have_count(4)
    await viewer.check("queue")
    await tab.get_by_label("Status").select_option("pending")
    await expect(tab.locator("tbody tr")).to_have_count(1)
    assert parse_qs(urlsplit(tab.url).query) == {"status": ["pending"]}
    await tab.reload()
    await tab.get_by_role("link", name=ids["waiting"]).click()
    await expect(tab.get_by_role("heading", name="Why it waits")).to_be_visible()
    await expect(tab.locator(".reasons")).to_contain_text("french")
    await expect(tab.locator(".timeline")).to_contain_text("submitted")
    await viewer.check("task-waiting")
    # By keyboard alone; what the change has led to comes over the stream.
    await tab.get_by_role("button", name="Make it urgent").focus()
    await tab.keyboard.press("Enter")
    await expect(tab.locator(".timeline")).to_contain_text("prioritized")
    await tab.get_by_role("button", name="Cancel", exact=True).click()
    await tab.get_by_role("dialog").get_by_role("button", name="Cancel", exact=True).click()
    await eventually(lambda: tasks.is_detail(ids["waiting"], "cancelled"))
    refused = tab.get_by_role("button", name="Cancel", exact=True)
    await expect(refused).to_have_attribute("aria-disabled", "true")
    await expect(refused).to_have_accessible_description("It has ended.")
    await tab.get_by_role("button", name="Pause the queue default").click()
    await tab.get_by_role("dialog").get_by_role("button", name="Pause the queue default").click()
    paused = tab.get_by_role("button", name="Pause the queue default")
    await expect(paused).to_have_accessible_description("It is paused.")
    assert (await tasks.get("/queue/controls"))["controls"][0]["paused"]


async def test_a_dead_letter_is_replayed_with_another_payload(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    ids = await _work(tasks)
    await viewer.open("/queue?view=dead")
    await tab.get_by_role("button", name="Count them").click()
    await expect(tab.get_by_role("button", name="Replay 1 task")).to_be_visible()
    await viewer.check("dead-letter")
    await tab.get_by_role("link", name=ids["dead"]).click()
    # What an agent answered is text, and never markup.
    await expect(tab.get_by_text(f"no such branch {MARKUP}").first).to_be_visible()
    await tab.get_by_text("Replay with another payload").click()
    await tab.get_by_label("Payload (JSON)").fill('{"text": ')
    await expect(tab.get_by_text("The payload is not JSON.")).to_be_visible()
    await tab.get_by_label("Payload (JSON)").fill('{"text": "mended"}')
    await tab.get_by_role("button", name="Replay with this payload").click()
    await expect(tab.get_by_text("Replayed as", exact=True)).to_be_visible()
    new = (await tasks.get(f"/dead-letter/{ids['dead']}"))["replayed_as"]
    assert (await tasks.get(f"/tasks/{new}"))["payload"] == {"text": "mended"}
    await viewer.check("task-dead")


async def test_a_task_is_submitted_and_its_result_shown_as_it_comes(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await tasks.agent("builder-1", capabilities=["build"])
    await viewer.open("/submit")
    await tab.get_by_label("Type").fill("build")
    await tab.get_by_label("Capabilities").fill("build, ")
    await tab.get_by_label("Payload").fill('{"pr": 17}')
    await tab.get_by_label("Retries").fill("5")
    await viewer.check("submit")
    await tab.get_by_role("button", name="Submit").click()
    await tab.wait_for_url("**/tasks/task_*")
    lease = await tasks.claim_one("builder-1")
    assert (lease["payload"], lease["max_retries"], lease["required_capabilities"]) == ({"pr": 17}, 5, ["build"])
    await expect(tab.locator(".card .badge").first).to_have_text("running")
    body = {"lease_token": lease["lease_token"], "result": {"verdict": "merged"}}
    await tasks.post(f"/tasks/{lease['id']}/complete", body)
    await expect(tab.get_by_text("merged").first).to_be_visible()
    await expect(tab.locator(".timeline")).to_contain_text("completed")
    moment = tab.locator(".timeline time").first
    assert str(await moment.get_attribute("title")).endswith(" UTC")
    await viewer.check("task-done")


async def test_a_fleet_of_thousands_is_scrolled_and_an_agent_drained(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    for first in (0, 1_000):
        agents = [{"agent_id": f"agent-{n:05}", "capabilities": ["build"]} for n in range(first, first + 1_000)]
        await tasks.post("/agents/batch", {"agents": agents})
    await viewer.open("/fleet")
    await expect(tab.get_by_text("2,000 agents")).to_be_visible()
    assert await tab.get_by_role("row").count() < 100
    await viewer.check("fleet")
    await tab.locator(".fleet").evaluate("frame => frame.scrollTo(0, frame.scrollHeight)")
    await expect(tab.get_by_role("row").last).to_have_attribute("aria-rowindex", "2001")
    await tab.get_by_label("Find").fill("agent-01234")
    await expect(tab.get_by_text("1 of 2,000 agents")).to_be_visible()
    await tab.get_by_role("link", name="agent-01234").click()
    await tab.get_by_role("button", name="Drain").click()
    await expect(tab.get_by_role("button", name="Drain")).to_have_accessible_description("It drains.")
    assert (await tasks.get("/agents/agent-01234"))["intent"] == "draining"
    await tab.get_by_role("button", name="Resume").click()
    await expect(tab.get_by_role("button", name="Resume")).to_have_accessible_description("It takes work.")
    await viewer.check("agent")


async def test_a_deliberation_is_asked_and_its_votes_are_shown(viewer: Viewer) -> None:
    tab = viewer.tab
    async with models(lambda model, _: vote("ship" if model != "c" else "wait", f"{model} thinks so")) as endpoint:
        await register(viewer.api, endpoint, "a", "b", "c")
        await viewer.open("/ask")
        await tab.get_by_role("textbox", name="Question").fill("Shall we ship today?")
        await tab.get_by_role("textbox", name="Options").fill("ship\nwait")
        await viewer.check("ask")
        await tab.get_by_role("button", name="Ask", exact=True).click()
        await expect(tab.locator(".answer")).to_have_text("ship")
    await expect(tab.locator(".votes tbody tr").first).to_contain_text("ship")
    await viewer.check("deliberation")
    await tab.get_by_role("link", name="Deliberations").click()
    await expect(tab.get_by_role("link", name="Shall we ship today?")).to_be_visible()
    await viewer.check("deliberations")


async def test_pages_fit_narrow_and_wide_windows_in_dark(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    ids = await _work(tasks)
    await tab.emulate_media(color_scheme="dark")
    for width in (360, 2_560):
        await tab.set_viewport_size({"width": width, "height": 900})
        for name, path in {
            "overview": "/",
            "queue": "/queue",
            "task": f"/tasks/{ids['done']}",
            "fleet": "/fleet",
            "submit": "/submit",
        }.items():
            await viewer.open(path)
            await expect(tab.locator("#main h2, #main table, #main [role=table]").first).to_be_visible()
            await expect(tab.get_by_text("Loading…")).to_have_count(0)
            # Colours are the same at each width, and axe takes longer than all else here.
            await (viewer.check if width == 360 else viewer.check_fits)(f"{name}-dark-{width}")


async def test_what_happens_while_the_stream_is_down_is_shown_after(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    async with FaultProxy(urlsplit(viewer.api.url).port or 0).running() as network:
        viewer.url = f"http://127.0.0.1:{network.port}"
        await viewer.open("/queue")
        await expect(tab.get_by_text("Live", exact=True)).to_be_visible()
        first = await tasks.submit("first")
        await expect(tab.get_by_role("link", name=first)).to_be_visible()
        network.begin("reset")
        missed = await tasks.submit("missed")
        await expect(tab.get_by_text("Connection lost, trying again")).to_be_visible()
        network.heal()
        await expect(tab.get_by_text("Live", exact=True)).to_be_visible()
        await expect(tab.get_by_role("link", name=missed)).to_be_visible()
        asked = [url for url in viewer.asked if "/stream?after=" in url]
        (row,) = [row for row in await viewer.api.rows(first) if row.kind == "task.submitted"]
        assert asked[-1].endswith(f"after={row.seq}")


async def test_a_part_that_is_away_is_named_with_what_it_says(viewer: Viewer) -> None:
    tasks, tab = TaskApi(viewer.api), viewer.tab
    await tasks.submit("build")
    await viewer.api.kill(SCHEDULER)
    await viewer.open("/")
    await expect(tab.get_by_role("link", name="does not answer").first).to_be_visible()
    assert viewer.said == []
    await viewer.api.start_scheduler()
