"""Schedules over the API: their definitions, what is refused with what advice, and the runs that the clock starts."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.roles import SEALER
from cluster.cli.main import app
from tests.support.api import Api, in_thread
from tests.support.probes import eventually
from tests.support.schedules import AheadClock

TASK = {"task_type": "report", "payload": {"of": "yesterday"}, "required_capabilities": ["r"], "priority": "high"}
ROOT = Path(__file__).parents[2]
HOURLY = {"cron": "@hourly", "task": TASK}


async def later(api: Api, seconds: float) -> None:
    """Starts what fires schedules, at a later time."""
    await api.start(SEALER, clock=AheadClock(seconds))


async def _run(api: Api, *words: str) -> str:
    """A command in this process: another one would take a second to start."""
    environment = {"ARAGORA_API_URL": api.url, "COLUMNS": "200"}
    result = await in_thread(CliRunner().invoke, app, list(words), env=environment)
    assert result.exit_code == 0, result.output
    return str(result.output)


async def test_a_run_starts_by_the_clock_with_what_it_was_given(api: Api) -> None:
    schedule = await api.post("/schedules", HOURLY | {"name": "hours"})
    await later(api, 3600)

    async def ran() -> bool:
        return bool((await api.get(f"/schedules/{schedule['schedule_id']}"))["runs_started"])

    await eventually(ran)
    now = await api.get(f"/schedules/{schedule['schedule_id']}")
    task = await api.get(f"/tasks/{now['last_run_id']}")
    assert (task["task_type"], task["payload"], task["priority"]) == ("report", {"of": "yesterday"}, 75)
    assert now["open_run_ids"] == [task["id"]]
    story = await api.get(f"/story/{task['id']}")
    assert {"schedule.created", "task.submitted"} <= {event["type"] for event in story["events"]}


async def test_a_deliberation_starts_by_the_clock(api: Api) -> None:
    question = {"content": "Tea or coffee?", "config": {"min_agents": 2}}
    schedule = await api.post("/schedules", {"every_seconds": 600, "deliberation": question})
    assert (schedule["task"], schedule["deliberation"]) == (None, question)
    await later(api, 600)

    async def ran() -> bool:
        run = (await api.get(f"/schedules/{schedule['schedule_id']}"))["last_run_id"]
        return run is not None and (await api.get(f"/deliberations/{run}"))["question"] == "Tea or coffee?"

    await eventually(ran)


FLOW = {
    "name": "flow",
    "steps": [{"id": "a", "task": {"task_type": "square", "input": {"from": "input", "path": "/n"}}}],
}


async def test_a_run_of_a_workflow_starts_by_the_clock(api: Api) -> None:
    started = {"name": "flow", "input": {"n": 3}}
    missing = await api.call("POST", "/schedules", {"every_seconds": 600, "workflow": started})
    assert (missing.status_code, missing.json()["code"]) == (404, "workflow_not_found")
    await api.post("/workflows", FLOW)
    schedule = await api.post("/schedules", {"every_seconds": 600, "workflow": started})
    assert (schedule["task"], schedule["workflow_name"], schedule["workflow"]["input"]) == (None, "flow", {"n": 3})
    path = f"/schedules/{schedule['schedule_id']}"
    asked = await api.post(f"{path}/run")
    assert (await api.get(f"/workflow-runs/{asked['run_id']}"))["workflow"] == "flow"
    assert (await api.get(path))["open_run_ids"] == [asked["run_id"]]
    await api.call("PUT", path, {"overlap": "allow"})
    await later(api, 600)

    async def ran() -> bool:
        runs = (await api.get("/workflow-runs"))["runs"]
        return len(runs) == 2 and all(run["steps"] for run in runs)

    await eventually(ran)
    assert [task["payload"] for task in (await api.get("/tasks"))["tasks"]] == [3, 3]
    story = await api.get(f"/story/{(await api.get(path))['last_run_id']}")
    assert "workflow.run_started" in {event["type"] for event in story["events"]}


async def test_a_workflow_that_deliberates_asks_for_the_permission(api: Api) -> None:
    await api.post("/workflows", {"name": "asks", "steps": [{"id": "a", "deliberation": {"content": "Tea?"}}]})
    made = await api.post("/schedules", {"cron": "@daily", "workflow": {"name": "asks"}})
    assert made["workflow"] == {"name": "asks", "version": None, "input": None, "metadata": {}}


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "0 0 31 2 *"}, "invalid_schedule", "no date has"),
    ({"cron": "* * * * * *"}, "invalid_schedule", "five fields"),
    ({"cron": "0 0 1 * MON"}, "invalid_schedule", "MON#1"),
    ({"cron": "@reboot"}, "invalid_schedule", "@daily"),
    ({"cron": "@daily", "timezone": "Mars/Base"}, "invalid_timezone", "Europe/Berlin"),
    ({"cron": "@daily", "timezone": "../../etc/passwd"}, "invalid_timezone", "IANA"),
    ({"cron": "@daily", "every_seconds": 60}, "invalid_schedule", "not both"),
    ({}, "invalid_schedule", "cron or every_seconds"),
    ({"every_seconds": 1}, "invalid_schedule", "between 10 and"),
    ({"every_seconds": 10**30}, "invalid_schedule", "between 10 and"),
    ({"cron": "@daily", "ends_at": 5}, "invalid_schedule", "ends_at"),
    ({"cron": "@daily", "starts_at": 253402300799}, "invalid_request", "starts_at"),
    ({"cron": "@daily", "catchup": "all"}, "unknown_field", "catch_up"),
    ({"cron": "@daily", "overlap": "maybe"}, "invalid_request", "overlap"),
    ({"cron": "@daily", "task": TASK | {"run_at": 5}}, "invalid_template", "run_at"),
    ({"cron": "@daily", "task": TASK | {"payload": "x" * 300_000}}, "template_too_large", "262,144"),
    ({"cron": "@daily", "task": None}, "invalid_template", "what each run is"),
    ({"cron": "@daily", "deliberation": {"content": "?"}}, "invalid_template", "not both"),
    ({"cron": "@daily", "task": None, "workflow": {"name": "no name"}}, "invalid_id", "name"),
    (
        {"cron": "@daily", "overlap": "queue", "task": None, "deliberation": {"content": "?"}},
        "invalid_schedule",
        "queue",
    ),
]


async def test_what_cannot_be_is_refused_with_advice(api: Api) -> None:
    for body, code, says in REFUSED:
        refused = await api.call("POST", "/schedules", {"task": TASK} | body)
        assert refused.status_code == 400, (body, refused.text)
        assert refused.json()["code"] == code, body
        assert says in refused.json()["error"], body
    assert (await api.get("/schedules"))["total"] == 0


async def test_the_preview_keeps_the_time_on_the_wall(api: Api) -> None:
    made = await api.post("/schedules", {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "task": TASK})
    preview = await api.get(f"/schedules/{made['schedule_id']}/preview?count=100")
    walls = [run["due"] for run in preview["runs"]]
    assert len(walls) == 100
    assert all(wall[11:19] in ("02:30:00", "03:00:00") for wall in walls)
    assert [run["starts_at"] for run in preview["runs"]] == [run["due_at"] for run in preview["runs"]]


async def test_a_change_keeps_what_it_leaves_out(api: Api) -> None:
    made = await api.post("/schedules", HOURLY | {"jitter_seconds": 30, "overlap": "queue", "ends_at": 4e9})
    path = f"/schedules/{made['schedule_id']}"
    changed = (await api.call("PUT", path, {"timezone": "Asia/Kathmandu", "ends_at": None})).json()
    moving = ("timezone", "ends_at", "changed_at", "next_run_at")
    assert {name: value for name, value in changed.items() if name not in moving} == {
        name: value for name, value in made.items() if name not in moving
    }
    assert (changed["timezone"], changed["ends_at"]) == ("Asia/Kathmandu", None)


async def test_pause_and_resume_can_be_repeated(api: Api) -> None:
    made = await api.post("/schedules", {"cron": "@yearly", "task": TASK})  # no due time passes meanwhile
    path = f"/schedules/{made['schedule_id']}"
    paused = await api.post(f"{path}/pause")
    assert (paused["state"], paused["next_run_at"]) == ("paused", None)
    assert await api.post(f"{path}/pause") == paused
    resumed = await api.post(f"{path}/resume")
    assert (resumed["state"], resumed["next_run_at"]) == ("active", made["next_run_at"])
    kinds = [row.kind for row in await api.rows(made["schedule_id"])]
    assert kinds == ["schedule.created", "schedule.paused", "schedule.resumed"]


async def test_one_key_is_one_schedule_and_one_run(api: Api) -> None:
    headers = {"Idempotency-Key": "once"}
    made = await api.post("/schedules", HOURLY, headers=headers)
    assert await api.post("/schedules", HOURLY, headers=headers) == made
    other = await api.call("POST", "/schedules", HOURLY | {"name": "other"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    path = f"/schedules/{made['schedule_id']}/run"
    run = await api.post(path, headers=headers)
    assert await api.post(path, headers=headers) == run
    assert (await api.post(path))["run_id"] != run["run_id"]
    assert (await api.get("/tasks"))["total"] == 2


async def test_a_workspace_has_a_bound_of_schedules(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.postgres.schedules.MOST_SCHEDULES", 2)
    for _ in range(2):
        await api.post("/schedules", HOURLY)
    refused = await api.call("POST", "/schedules", HOURLY)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_schedules")


async def test_erasing_a_subject_takes_the_schedules_with_its_words(api: Api) -> None:
    of_ann = HOURLY | {"task": TASK | {"metadata": {"subject": "ann"}}}
    of_bob = HOURLY | {"task": TASK | {"metadata": {"subject": "bob"}}}
    question = {"content": "Who is Ann?", "context": {"subject": "ann"}}
    await api.post("/workflows", FLOW)
    run = {"name": "flow", "metadata": {"subject": "ann"}}
    for body in (of_ann, of_bob, {"cron": "@daily", "deliberation": question}, {"cron": "@daily", "workflow": run}):
        await api.post("/schedules", body)
    erased = await api.post("/erasures", {"subject": "ann"})
    assert erased["erased"]["schedules"] == 3
    left = (await api.get("/schedules"))["schedules"]
    assert [schedule["task"]["metadata"] for schedule in left] == [{"subject": "bob"}]


async def test_the_examples_of_the_page_run(api: Api) -> None:
    page = (ROOT / "docs" / "schedules.md").read_text()
    bodies = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", page, re.DOTALL)]
    (command, of_workflow) = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    await api.post("/workflows", FLOW)
    for body in bodies:
        await api.post("/schedules", body)
    shown = await _run(api, *shlex.split(command)[1:])
    assert (await api.get(f"/schedules/{shown.strip()}"))["timezone"] == "Europe/Berlin"
    shown = await _run(api, *shlex.split(of_workflow)[1:])
    assert (await api.get(f"/schedules/{shown.strip()}"))["workflow"]["input"] == {"n": 3}
    assert len(bodies) == 4


async def test_the_commands_of_schedules(api: Api) -> None:
    made = json.loads(
        await _run(api, "schedules", "create", "--every", "60", "--task", json.dumps(TASK), "--name", "polls", "--json")
    )["schedule_id"]
    assert "polls" in await _run(api, "schedules", "list")
    changed = json.loads(await _run(api, "schedules", "update", made, "--cron", "@daily", "--ends-at", "2090-01-01"))
    assert (changed["cron"], changed["ends_at"]) == ("0 0 * * *", 3786912000.0)
    assert "Paused" in await _run(api, "schedules", "pause", made)
    assert "Resumed" in await _run(api, "schedules", "resume", made)
    assert "T00:00:00+00:00" in await _run(api, "schedules", "preview", made, "--count", "2")
    run = (await _run(api, "schedules", "run", made)).strip()
    assert json.loads(await _run(api, "schedules", "show", made))["last_run_id"] == run
    assert "Deleted" in await _run(api, "schedules", "delete", made)
    assert (await api.get("/schedules"))["total"] == 0
