"""Tasks over HTTP: what is accepted, what is answered, and what a user can learn about a task."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.probes import eventually
from tests.support.task_api import TaskApi


async def test_the_error_class_of_a_report_decides_the_retry(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit(max_retries=1)
    lease = await tasks.claim_one("a1")
    report = {
        "error": "slow down",
        "error_class": "rate_limited",
        "retry_after_seconds": 100,
        "lease_token": lease["lease_token"],
    }
    await tasks.post(f"/tasks/{task_id}/fail", report)
    task = await tasks.get(f"/tasks/{task_id}")
    assert (task["status_detail"], task["retries"]) == ("retrying", 1)
    event = (await tasks.get(f"/tasks/{task_id}/events"))["events"][-1]
    assert (event["type"], event["data"]["error_class"]) == ("retried", "rate_limited")
    assert event["data"]["delay_seconds"] == 100
    explained = await tasks.get(f"/tasks/{task_id}/explain")
    assert explained["reasons"][0]["code"] == "retrying"
    assert explained["reasons"][0]["at"] == task["run_at"]


async def test_a_failure_that_is_not_retryable_ends_the_task_at_once(tasks: TaskApi) -> None:
    await tasks.agent("a1", max_concurrency=3)
    ids = [await tasks.submit() for _ in range(3)]
    leases = [await tasks.claim_one("a1") for _ in ids]
    reports = [
        {
            "task_id": leases[0]["id"],
            "lease_token": leases[0]["lease_token"],
            "error": "no",
            "error_class": "not_retryable",
        },
        {"task_id": leases[1]["id"], "lease_token": leases[1]["lease_token"], "result": {"ok": 1}},
        {"task_id": leases[2]["id"], "agent_id": "somebody-else"},
    ]
    answer = await tasks.post("/tasks/fail", {"reports": reports})
    assert [result["ok"] for result in answer["results"]] == [True, True, False]
    assert answer["results"][2]["code"] == "lease_lost"
    details = [(await tasks.get(f"/tasks/{lease['id']}"))["status_detail"] for lease in leases]
    assert details == ["failed", "completed", "running"]


async def test_events_of_a_task_are_numbered_without_gaps_and_read_on(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id, other = await tasks.submit(), await tasks.submit()
    first = await tasks.claim_one("a1")
    await tasks.post(f"/tasks/{first['id']}/complete", {"lease_token": first["lease_token"]})
    await tasks.post(f"/tasks/{other}/cancel")
    page = await tasks.get(f"/tasks/{task_id}/events", limit=2)
    assert ([event["n"] for event in page["events"]], page["total"], page["has_more"]) == ([1, 2], 3, True)
    rest = await tasks.get(f"/tasks/{task_id}/events", after=2)
    assert [(event["n"], event["type"]) for event in rest["events"]] == [(3, "completed")]
    assert not rest["has_more"]
    await tasks.call("GET", "/tasks/unknown/events", expect=404)


async def test_listings_filter_count_truly_and_page_without_skipping_or_repeating(tasks: TaskApi) -> None:
    expected = [await tasks.submit("a", queue="q") for _ in range(5)]
    for _ in range(3):
        await tasks.submit("b")
    seen: list[str] = []
    cursor = None
    while True:
        params = {"task_type": "a", "queue": "q", "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = await tasks.get("/tasks", **params)
        assert page["total"] == 5
        seen += [task["id"] for task in page["tasks"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await tasks.submit("a", queue="q2")
    assert seen == list(reversed(expected))
    history = await tasks.get("/tasks/history", status="cancelled")
    assert (history["total"], history["history"]) == (0, [])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"queue_timeout_seconds": 0}, "invalid_request"),
        ({"total_timeout_seconds": "soon"}, "invalid_request"),
        ({"concurrency_limit": 2}, "invalid_concurrency"),
        ({"concurrency_key": ""}, "invalid_request"),
        ({"sticky_key": ""}, "invalid_request"),
        ({"sticky_key": 7}, "invalid_request"),
        ({"sticky_key": "x" * 257}, "invalid_request"),
        ({"after": ["task_nobody"]}, "unknown_dependency"),
        ({"after": ["t", "t"]}, "invalid_dependency"),
        ({"after": [{"id": "t", "when_failed": "shrug"}]}, "invalid_request"),
        ({"region_routing_mode": "strict"}, "invalid_region"),
        ({"excluded_agents": ["x" * 200]}, "invalid_request"),
        ({"tenant": "a b"}, "invalid_id"),
        ({"task_type": "nul\x00"}, "invalid_json"),
        ({"run_at": 1e30}, "invalid_request"),
        ({"priority": "critical"}, "invalid_priority"),
        ({"payload": {"prompt": "x", "schema": {"enum": 5}}}, "invalid_schema"),
        ({"payload": {"prompt": "x", "schema": {"$ref": "https://example.com/x.json"}}}, "invalid_schema"),
        ({"payload": {"messages": [], "schema": {"properties": {"n": {"type": "intt"}}}}}, "invalid_schema"),
    ],
)
async def test_an_invalid_submit_is_refused_with_one_sentence(
    tasks: TaskApi, fields: dict[str, Any], code: str
) -> None:
    answer = await tasks.call("POST", "/tasks", {"task_type": "x", **fields}, expect=400)
    assert answer["code"] == code
    assert answer["error"].endswith(".")
    assert answer["error"].count("\n") == 0


async def test_a_task_shows_everything_it_was_submitted_with(tasks: TaskApi) -> None:
    first = await tasks.submit()
    asked = {
        "tenant": "acme",
        "queue_timeout_seconds": 5.0,
        "total_timeout_seconds": 50.0,
        "concurrency_key": "db",
        "concurrency_limit": 2,
        "sticky_key": "repository-7",
        "excluded_agents": ["a9"],
        "after": [{"id": first, "when_failed": "run_anyway"}],
    }
    task = await tasks.get(f"/tasks/{await tasks.submit(**asked)}")
    assert {name: task[name] for name in asked} == asked
    assert task["status_detail"] == "blocked"


async def test_a_task_runs_after_another_or_fails_with_it(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    first = await tasks.submit()
    then = await tasks.submit("then", after=[first])
    explained = await tasks.get(f"/tasks/{then}/explain")
    assert explained["reasons"][0]["code"] == "blocked"
    assert first in explained["summary"]
    lease = await tasks.claim_one("a1")
    assert lease["id"] == first
    await tasks.post(f"/tasks/{first}/complete", {"lease_token": lease["lease_token"]})
    assert (await tasks.claim_one("a1"))["id"] == then
    assert await tasks.kinds(then) == ["submitted", "unblocked", "claimed"]
    late = await tasks.submit("late", after=[first])
    await eventually(lambda: tasks.is_detail(late, "queued"))
    doomed = await tasks.submit()
    await tasks.post(f"/tasks/{doomed}/cancel")
    fails = await tasks.submit(after=[doomed])
    follows = await tasks.submit(after=[fails])
    anyway = await tasks.submit(after=[{"id": doomed, "when_failed": "run_anyway"}])
    await eventually(lambda: tasks.is_detail(follows, "failed"))
    assert await tasks.is_detail(fails, "failed")
    await eventually(lambda: tasks.is_detail(anyway, "queued"))


async def test_a_holder_learns_of_a_cancel_by_its_claim_and_acknowledges_it(tasks: TaskApi) -> None:
    await tasks.agent("a1", max_concurrency=2)
    task_id = await tasks.submit()
    lease = await tasks.claim_one("a1")
    waiting = asyncio.create_task(tasks.post("/tasks/claim", {"agent_id": "a1", "block_ms": 20_000, "claim_id": "c2"}))
    await eventually(lambda: tasks.waits(1))
    await tasks.post(f"/tasks/{task_id}/cancel")
    assert await waiting == {"task": None, "cancelling": [task_id]}
    await tasks.post(f"/tasks/{task_id}/stopped", {"lease_token": lease["lease_token"]})
    await tasks.post(f"/tasks/{task_id}/stopped", {"lease_token": lease["lease_token"]})
    assert await tasks.kinds(task_id) == ["submitted", "claimed", "cancel_requested", "cancel_delivered", "cancelled"]
    assert (await tasks.claim("a1")) is None
    await tasks.post(f"/tasks/{task_id}/cancel")


async def test_a_paused_agent_gets_nothing_until_it_is_resumed(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    await tasks.post("/agents/a1/pause")
    task_id = await tasks.submit()
    await eventually(lambda: tasks.open_is(1), what="the shard has read of the pause, which came before the task")
    waiting = asyncio.create_task(tasks.claim("a1", block_ms=20_000))
    await eventually(lambda: tasks.waits(1))
    explained = await tasks.get(f"/tasks/{task_id}/explain")
    assert [reason["code"] for reason in explained["reasons"]] == ["no_agent"]
    await tasks.post("/agents/a1/resume")
    assert await waiting is None
    assert (await tasks.claim_one("a1"))["id"] == task_id


async def test_explain_names_what_is_missing(tasks: TaskApi) -> None:
    task_id = await tasks.submit(required_capabilities=["gpu", "code"])
    explained = await tasks.get(f"/tasks/{task_id}/explain")
    assert [reason["code"] for reason in explained["reasons"]] == ["no_capable_agent"]
    assert "gpu" in explained["summary"]
    await tasks.agent("a1", capabilities=["code"])
    explained = await tasks.get(f"/tasks/{task_id}/explain")
    assert explained["reasons"][0]["unblock"] == "Register an agent with gpu."
    await tasks.agent("a2", capabilities=["code", "gpu"])
    explained = await tasks.get(f"/tasks/{task_id}/explain")
    assert [reason["code"] for reason in explained["reasons"]] == ["waiting_for_turn"]
    assert (explained["position"], explained["able_agents"], explained["fairness_share"]) == (1, ["a2"], 1.0)
    await tasks.claim_one("a2")
    assert (await tasks.get(f"/tasks/{task_id}/explain"))["reasons"][0]["code"] == "running"
    other = await tasks.submit(required_capabilities=["gpu"])
    explained = await tasks.get(f"/tasks/{other}/explain")
    assert [reason["code"] for reason in explained["reasons"]] == ["agents_busy"]
    await tasks.post(f"/tasks/{other}/cancel")
    assert (await tasks.get(f"/tasks/{other}/explain"))["summary"] == "The task has ended: cancelled."
    await tasks.call("GET", "/tasks/task_nobody/explain", expect=404)


@pytest.mark.parametrize("kind", ["queue", "task_type", "tenant"])
async def test_paused_work_waits_and_says_why(tasks: TaskApi, kind: str) -> None:
    await tasks.agent("a1")
    names = {"queue": "q", "task_type": "t", "tenant": "acme"}
    before = await tasks.submit("t", queue="q", tenant="acme")
    await eventually(lambda: tasks.open_is(1))
    body = {"kind": kind, "name": names[kind]}
    assert (await tasks.post("/queue/pause", body))["paused"] is True
    await tasks.post("/queue/pause", body)
    await eventually(lambda: tasks.has_reason(before, "paused"))
    free = await tasks.submit("other")
    assert (await tasks.claim_one("a1"))["id"] == free
    waiting = asyncio.create_task(tasks.claim("a1", block_ms=20_000, claim_id="c"))
    assert not waiting.done()
    await tasks.agent("a2")
    second = asyncio.create_task(tasks.claim("a2", block_ms=20_000))
    await eventually(lambda: tasks.waits(2))
    await tasks.post("/queue/resume", body)
    assert (await second)["id"] == before
    waiting.cancel()
    controls = await tasks.get("/queue/controls")
    assert [(control["kind"], control["name"], control["paused"]) for control in controls["controls"]] == [
        (kind, names[kind], False)
    ]
    rows = await tasks.stores.log.read(0, 100)
    assert [row.kind for row in rows if row.kind.startswith("control.")] == ["control.paused", "control.resumed"]


async def test_settings_that_a_kind_does_not_have_are_refused(tasks: TaskApi) -> None:
    await tasks.call("PUT", "/queue/controls", {"kind": "tenant", "name": "t", "rate_per_second": 1}, expect=400)
    await tasks.call("PUT", "/queue/controls", {"kind": "queue", "name": "q", "weight": 2}, expect=400)
    await tasks.call("PUT", "/queue/controls", {"kind": "queue", "name": "q", "rate_per_second": -1}, expect=400)
    limited = {"kind": "queue", "name": "q", "rate_per_second": 0.001, "burst": 3}
    stored = await tasks.call("PUT", "/queue/controls", limited)
    assert (stored["rate_per_second"], stored["burst"]) == (0.001, 3)
    assert (await tasks.call("PUT", "/queue/controls", {"name": "q", "burst": 2}))["rate_per_second"] == 0.001
    await tasks.agent("a1")
    task_id = await tasks.submit(queue="q")
    await eventually(lambda: tasks.has_reason(task_id, "rate_limited"))
    assert (await tasks.call("PUT", "/queue/controls", {"name": "q", "rate_per_second": None}))[
        "rate_per_second"
    ] is None
    assert (await tasks.claim_one("a1"))["id"] == task_id


async def test_a_report_without_a_token_is_taken_and_marked(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit()
    await tasks.claim_one("a1")
    await tasks.post(f"/tasks/{task_id}/complete")
    event = (await tasks.get(f"/tasks/{task_id}/events"))["events"][-1]
    assert event["data"]["fenced"] is False


async def test_a_claim_whose_client_hangs_up_takes_no_task_with_it(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    hung_up = asyncio.create_task(tasks.claim("a1", block_ms=20_000))
    await eventually(lambda: tasks.waits(1))
    hung_up.cancel()
    await eventually(lambda: tasks.waits(0))
    task_id = await tasks.submit()
    await tasks.agent("a2")
    lease = await tasks.claim_one("a2")
    assert (lease["id"], lease["attempt"]) == (task_id, 1)


async def test_a_lease_is_extended_by_its_token_up_to_the_run_time(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    task_id = await tasks.submit(timeout_seconds=10)
    lease = await tasks.claim_one("a1")
    answer = await tasks.post(f"/tasks/{task_id}/extend", {"lease_token": lease["lease_token"]})
    assert answer["lease_expires_at"] == lease["started_at"] + 10
    await tasks.call("POST", f"/tasks/{task_id}/extend", {"lease_token": "forged"}, expect=400)


async def test_priority_of_a_waiting_task_can_be_changed(tasks: TaskApi) -> None:
    await tasks.agent("a1")
    first, second = await tasks.submit(), await tasks.submit()
    answer = await tasks.post("/queue/prioritize", {"task_id": second, "priority": "urgent"})
    assert answer["task"]["priority"] == 100
    assert (await tasks.claim_one("a1"))["id"] == second
    await tasks.call("POST", "/queue/prioritize", {"task_id": second, "priority": "low"}, expect=409)
    metrics = await tasks.get("/queue/metrics")
    assert (metrics["pending"], metrics["running"]) == (1, 1)
    assert metrics["avg_wait_time_ms"] > 0
    third = await tasks.submit(priority="high")
    view = await tasks.get("/queue")
    assert ([job["id"] for job in view["jobs"]], view["total"]) == ([second, third, first], 3)


async def test_a_waiting_task_keeps_the_position_it_is_moved_to(tasks: TaskApi) -> None:
    await tasks.agent("a1", max_concurrency=9)
    batch = await tasks.post("/tasks/batch", {"tasks": [{"task_type": "echo", "priority": "high"}] * 5})
    ids = batch["task_ids"]
    await eventually(lambda: tasks.open_is(5))
    moved = await tasks.post("/queue/prioritize", {"task_id": ids[4], "position": 2})
    assert (moved["success"], moved["task"]["priority"]) == (True, 75), "what is not named stays as it is"
    await tasks.post("/queue/prioritize", {"task_id": ids[3], "position": 0})
    await tasks.post("/queue/prioritize", {"task_id": ids[0], "position": 100})
    expected = [ids[3], ids[4], ids[1], ids[2], ids[0]]
    assert [job["id"] for job in (await tasks.get("/queue"))["jobs"]] == expected
    assert [(await tasks.get(f"/tasks/{task_id}/explain"))["position"] for task_id in expected] == [1, 2, 3, 4, 5]
    assert await tasks.kinds(ids[4]) == ["submitted", "prioritized"]
    await tasks.api.kill_scheduler()
    await tasks.api.start_scheduler()
    claimed = await tasks.post("/tasks/claim", {"agent_id": "a1", "max_tasks": 5})
    assert [task["id"] for task in claimed["tasks"]] == expected
    await tasks.call("POST", "/queue/prioritize", {"task_id": ids[0], "position": 1}, expect=409)
    await tasks.call("POST", "/queue/prioritize", {"task_id": ids[0], "position": -1}, expect=400)


async def test_a_task_whose_delay_is_over_is_queued_wherever_it_is_shown(tasks: TaskApi) -> None:
    soon, later = await tasks.submit(delay_seconds=0.3), await tasks.submit(delay_seconds=3600)

    async def over() -> bool:
        return bool((await tasks.get(f"/tasks/{soon}"))["status_detail"] == "queued")

    await eventually(over)
    for detail, ids in (("queued", [soon]), ("delayed", [later])):
        found = await tasks.get("/tasks", status_detail=detail)
        assert ([task["id"] for task in found["tasks"]], found["total"]) == (ids, 1)
        assert {task["status_detail"] for task in found["tasks"]} == {detail}
    shown = {job["id"]: job["status_detail"] for job in (await tasks.get("/queue"))["jobs"]}
    assert shown == {soon: "queued", later: "delayed"}


async def test_a_task_says_in_which_region_its_agent_is(tasks: TaskApi) -> None:
    await tasks.agent("a1", region_id="eu-west-1")
    task_id = await tasks.submit()
    assert (await tasks.get(f"/tasks/{task_id}"))["assigned_region"] is None
    lease = await tasks.claim_one("a1")
    assert lease["assigned_region"] == "eu-west-1"
    await tasks.complete(lease)
    (listed,) = (await tasks.get("/tasks"))["tasks"]
    for shown in (listed, await tasks.get(f"/tasks/{task_id}")):
        assert (shown["assigned_region"], shown["region_routing_mode"]) == ("eu-west-1", "any")


async def test_a_task_that_was_answered_as_ended_is_counted_at_once(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    for ended in range(1, 6):
        task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
        await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 20_000})
        await api.post(f"/tasks/{task_id}/complete", {"agent_id": "a1", "result": {}})
        queue, stats = await api.get("/queue/metrics"), await api.get("/stats")
        assert (queue["completed_today"], queue["throughput_per_minute"]) == (ended, ended)
        assert (stats["scheduler"]["by_status"], stats["scheduler"]["total"]) == ({"completed": ended}, ended)
