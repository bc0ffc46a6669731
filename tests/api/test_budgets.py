"""Budgets over HTTP: made, changed, spent, refused, explained and shown; the page's examples and the commands."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from typing import Any

from typer.testing import CliRunner

from actors.roles import SCHEDULER
from cluster.cli.main import app as cli
from tests.support.api import CP, Api, in_thread
from tests.support.docs import ROOT
from tests.support.probes import eventually
from tests.support.system import clean_environment
from tests.support.task_api import TaskApi

BUDGET = {"name": "All", "limit_usd": "1.00", "estimate_usd": "0.40"}


async def _agent(api: Api) -> TaskApi:
    tasks = TaskApi(api)
    await tasks.agent("a1", max_concurrency=9)
    return tasks


async def _spend(tasks: TaskApi, cost: str | None, task_type: str = "echo") -> None:
    await tasks.submit(task_type)
    lease = await tasks.claim_one("a1", task_types=[task_type])
    fields = {} if cost is None else {"cost_usd": cost}
    await tasks.post(f"/tasks/{lease['id']}/complete", {"lease_token": lease["lease_token"], **fields})


async def _usage(api: Api, budget_id: str) -> dict[str, Any]:
    usage: dict[str, Any] = (await api.get(f"/budgets/{budget_id}"))["usage"]
    return usage


async def _refused(api: Api, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The refusal of a submit. A replica knows what is spent as of a second ago, and takes what is submitted until then."""
    found: dict[str, Any] = {}

    async def refused() -> bool:
        answer = await api.call("POST", path, body)
        found.update(answer.json())
        return answer.status_code == 403

    await eventually(refused)
    return found


async def _counted(api: Api) -> None:
    """Returns when the shard has read what budgets there are."""
    head = (await api.rows())[-1].seq

    async def known() -> bool:
        return int((await api.actor(SCHEDULER).status())["cursor"]) >= head

    await eventually(known)


async def test_what_is_spent_is_shown_and_stops_what_does_not_fit(api: Api) -> None:
    tasks = await _agent(api)
    budget = await api.post("/budgets", BUDGET)
    await _counted(api)
    await _spend(tasks, "0.123456789")
    await tasks.submit()
    held = await tasks.claim_one("a1")
    usage = await _usage(api, budget["id"])
    assert (usage["spent_usd"], usage["reserved_usd"], usage["available_usd"]) == ("0.123456789", "0.40", "0.476543211")
    assert (usage["attempts"], usage["unknown_costs"], usage["level"]) == (2, 0, 50)
    await tasks.fail(held, cost_usd="0.80", requeue=False)
    waiting = await tasks.submit(run_at=(await tasks.get(f"/tasks/{held['id']}"))["created_at"] + 366 * 86_400)
    assert waiting, "it may start in the next period"
    refused = await _refused(api, "/tasks", {"task_type": "echo"})
    assert (refused["code"], refused["budget_id"]) == ("budget_exhausted", budget["id"])
    assert refused["resets_at"] > 0
    of_batch = await _refused(api, "/tasks/batch", {"tasks": [{"task_type": "echo"}] * 2})
    assert (of_batch["index"], of_batch["error"].startswith("tasks.0: ")) == (0, True)
    changed = (await api.call("PUT", f"/budgets/{budget['id']}", {"limit_usd": "9"})).json()
    assert (changed["limit_usd"], changed["version"]) == ("9.00", 2)
    assert await tasks.submit()


async def test_an_attempt_that_waits_for_children_settles_its_cost(api: Api) -> None:
    tasks = await _agent(api)
    budget = await api.post("/budgets", BUDGET)
    await _counted(api)
    parent = await tasks.submit()
    held = await tasks.claim_one("a1")
    child = await tasks.submit(parent_task_id=parent, required_capabilities=["nobody"])
    parking = {"lease_token": held["lease_token"], "children": [child], "cost_usd": "0.25"}
    await tasks.post(f"/tasks/{parent}/park", parking)
    usage = await _usage(api, budget["id"])
    assert (usage["spent_usd"], usage["reserved_usd"], usage["unknown_costs"]) == ("0.25", "0.00", 0)
    await tasks.post(f"/tasks/{parent}/park", parking | {"cost_usd": "many"}, expect=400)


async def test_an_attempt_that_asks_people_settles_its_cost(api: Api) -> None:
    tasks = await _agent(api)
    budget = await api.post("/budgets", BUDGET)
    await _counted(api)
    await tasks.submit()
    held = await tasks.claim_one("a1")
    asking = {"lease_token": held["lease_token"], "question": "Go on?", "cost_usd": "0.25"}
    await tasks.post(f"/tasks/{held['id']}/ask", asking | {"cost_usd": "many"}, expect=400)
    await tasks.post(f"/tasks/{held['id']}/ask", asking)
    await tasks.post(f"/tasks/{held['id']}/ask", asking)
    usage = await _usage(api, budget["id"])
    assert (usage["spent_usd"], usage["reserved_usd"], usage["unknown_costs"]) == ("0.25", "0.00", 0)


async def test_reports_that_end_no_task_settle_their_costs(api: Api) -> None:
    """A question, a wait for children, a task that is given back, a failed attempt: one batch as the worker kit sends it."""
    tasks = await _agent(api)
    budget = await api.post("/budgets", BUDGET | {"limit_usd": "100.00"})
    await _counted(api)
    held = []
    for _ in range(4):
        await tasks.submit()
        held.append(await tasks.claim_one("a1"))
    child = await tasks.submit(parent_task_id=held[1]["id"], required_capabilities=["nobody"])
    ends: list[dict[str, Any]] = [
        {"ask": {"question": "Go on?"}, "released": True},
        {"park": {"children": [child]}, "released": True},
        {"error": "it drains", "released": True},
        {"error": "not now"},
    ]
    reports = [
        {"task_id": lease["id"], "lease_token": lease["lease_token"], "cost_usd": f"0.{number}", **end}
        for number, (lease, end) in enumerate(zip(held, ends, strict=True), 1)
    ]
    results = (await tasks.post("/tasks/complete", {"reports": reports}))["results"]
    assert [result["ok"] for result in results] == [True] * 4, results
    usage = await _usage(api, budget["id"])
    assert (usage["spent_usd"], usage["reserved_usd"], usage["unknown_costs"]) == ("1.00", "0.00", 0)


async def test_a_task_that_waits_for_a_budget_says_so(api: Api) -> None:
    tasks = await _agent(api)
    about = {"scope": "task_type", "subject": "costly"}
    budget = await api.post("/budgets", {**BUDGET, **about})
    await api.post("/budgets", {**BUDGET, "scope": "agent", "subject": "a1", "limit_usd": "0.40"})
    await _counted(api)
    for _ in range(3):
        await tasks.submit("costly")
    leases = [await tasks.claim_one("a1")]
    waiting = await tasks.submit("other")
    assert await tasks.claim("a1") is None, "the agent's own budget has no room"
    reasons = (await tasks.get(f"/tasks/{waiting}/explain"))["reasons"]
    assert ("budget", True) in [(reason["code"], "agent a1" in reason["message"]) for reason in reasons]
    await tasks.agent("a2", max_concurrency=9)
    leases.append(await tasks.claim_one("a2", task_types=["costly"]))
    assert await tasks.claim("a2", task_types=["costly"]) is None
    last = await tasks.submit("costly")
    found = await tasks.get(f"/tasks/{last}/explain")
    reason = next(reason for reason in found["reasons"] if reason["code"] == "budget")
    assert budget["id"] in reason["message"]
    assert "$0.80 are reserved" in reason["message"]
    assert budget["id"] in reason["unblock"]
    reasons = (await tasks.get(f"/tasks/{waiting}/explain"))["reasons"]
    assert "budget" not in [reason["code"] for reason in reasons], "a2 has none of its own"


async def test_a_repeat_of_a_submit_has_its_first_answer(api: Api) -> None:
    tasks = await _agent(api)
    await api.post("/budgets", {**BUDGET, "limit_usd": "0.40"})
    await _counted(api)
    headers = {"Idempotency-Key": "one"}
    first = await api.call("POST", "/tasks", {"task_type": "echo"}, headers=headers)
    lease = await tasks.claim_one("a1")
    await tasks.complete(lease)
    await _refused(api, "/tasks", {"task_type": "echo"})
    again = await api.call("POST", "/tasks", {"task_type": "echo"}, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())


async def test_spending_is_shown_by_day_agent_and_type_and_as_csv(api: Api) -> None:
    tasks = await _agent(api)
    await api.post("/budgets", {**BUDGET, "limit_usd": "100", "mode": "soft"})
    await _counted(api)
    await _spend(tasks, "0.10")
    await _spend(tasks, "0.20")
    await _spend(tasks, None, "=cmd")
    found = await api.get("/spending")
    assert [
        (row["task_type"], row["attempts"], row["spent_usd"], row["unknown_costs"]) for row in found["spending"]
    ] == [
        ("=cmd", 1, "0.40", 1),
        ("echo", 2, "0.30", 0),
    ]
    assert (found["total_spent_usd"], found["total_reserved_usd"], found["truncated"]) == ("0.70", "0.00", False)
    day = found["spending"][0]["day"]
    assert found["start"] <= day < found["end"]
    assert (await api.get("/spending?start=2020-01-01&end=2020-02-01"))["spending"] == []
    text = (await api.call("GET", "/spending/export")).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["day"], row["task_type"], row["spent_usd"]) for row in rows] == [
        (day, "'=cmd", "0.40"),  # nothing that a spreadsheet computes
        (day, "echo", "0.30"),
    ]


async def test_odd_budgets_are_refused_by_a_sentence(api: Api) -> None:
    for body, says in (
        ({"name": None}, "name is required"),
        ({"limit_usd": None}, "limit_usd is required"),
        ({"limit_usd": 5}, "limit_usd"),
        ({"limit_usd": "-5"}, "limit_usd"),
        ({"limit_usd": "1e3"}, "limit_usd"),
        ({"limit_usd": "9000000.000000001"}, "limit_usd"),
        ({"estimate_usd": "0"}, "estimate_usd"),
        ({"estimate_usd": "1.01"}, "estimate_usd"),
        ({"scope": "agent"}, "subject"),
        ({"subject": "a1"}, "subject"),
        ({"scope": "agent", "subject": "a1", "mode": "throttle"}, "throttle"),
        ({"period": "week"}, "period"),
        ({"limit": "5"}, "limit_usd"),
    ):
        answer = await api.call("POST", "/budgets", {**BUDGET, **body})
        assert (answer.status_code, says in answer.json()["error"]) == (400, True), f"{body} {answer.text}"
    tasks = await _agent(api)
    await tasks.submit()
    lease = await tasks.claim_one("a1")
    report = {"lease_token": lease["lease_token"], "cost_usd": "much"}
    refused = await tasks.call("POST", f"/tasks/{lease['id']}/complete", report, expect=400)
    assert "cost_usd" in refused["error"]
    reports = {"reports": [{"task_id": lease["id"], **report}]}
    (result,) = (await tasks.post("/tasks/complete", reports))["results"]
    assert (result["ok"], "cost_usd" in result["error"]) == (False, True)
    await tasks.complete(lease)


async def _run(api: Api, *words: str) -> str:
    environment = {**clean_environment(), "ARAGORA_API_URL": api.url, "COLUMNS": "250"}
    result = await in_thread(CliRunner().invoke, cli, list(words), env=environment)
    assert result.exit_code == 0, result.output
    return str(result.output)


async def test_the_page_and_the_commands_of_budgets(api: Api) -> None:
    page = (ROOT / "docs" / "budgets.md").read_text()
    (body,) = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", page, re.DOTALL)]
    posted = await api.post("/budgets", body)
    (create,) = re.findall(r"```sh run\n(.*?)```", page, re.DOTALL)
    made = (await _run(api, *shlex.split(create)[1:])).strip()
    shown = json.loads(await _run(api, "budgets", "show", made))
    same = ("name", "scope", "subject", "period", "mode", "limit_usd", "estimate_usd")
    assert {name: shown[name] for name in same} == {name: posted[name] for name in same} == body
    tasks = await _agent(api)
    await _counted(api)
    await _spend(tasks, "1.5", "report")
    assert "report" in await _run(api, "budgets", "list")
    assert json.loads(await _run(api, "budgets", "list", "--json"))["budgets"][0]["usage"]["spent_usd"] == "1.50"
    assert "In all $1.50" in await _run(api, "budgets", "spending")
    assert "a1,report,1,1.50,0.00,0" in await _run(api, "budgets", "spending", "--csv")
    assert json.loads(await _run(api, "budgets", "update", made, "--mode", "soft"))["mode"] == "soft"
    assert "deleted" in await _run(api, "budgets", "delete", made)
    assert (await api.call("GET", f"/budgets/{made}")).status_code == 404
    answer = await api.client.get(f"{CP}/spending", params={"start": "2026-02-30"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_start")
