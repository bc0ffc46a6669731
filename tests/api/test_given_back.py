"""Attempts that their holders give back unfinished, and claims that name task types."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cluster.domain.tasks.retries import FREE_AT_ONCE
from tests.support.probes import eventually
from tests.support.task_api import TaskApi


async def _give_back(tasks: TaskApi, lease: Any, way: str, **fields: Any) -> Any:
    report = {"lease_token": lease["lease_token"], "released": True} | fields
    if way == "single":
        return await tasks.post(f"/tasks/{lease['id']}/fail", report)
    answer = await tasks.post(f"/tasks/{way}", {"reports": [{"task_id": lease["id"], **report}]})
    assert answer["results"] == [{"task_id": lease["id"], "ok": True}]
    return answer


@pytest.mark.parametrize("way", ["single", "complete", "fail"])
async def test_an_attempt_that_is_given_back_costs_no_retry(tasks: TaskApi, way: str) -> None:
    await tasks.agent("w")
    task_id = await tasks.submit("echo", max_retries=0)
    for _ in range(FREE_AT_ONCE):
        lease = await tasks.claim_one("w")
        answer = await _give_back(tasks, lease, way, error="The worker shuts down.")
        task = await tasks.get(f"/tasks/{task_id}")
        assert (task["status_detail"], task["retries"], task["error"]) == ("queued", 0, None)
        assert await _give_back(tasks, lease, way) == answer, "a repeat is answered alike"
    events = (await tasks.get(f"/tasks/{task_id}/events"))["events"]
    given_back = [event["data"]["reason"] for event in events if event["type"] == "requeued"]
    assert given_back == ["given_back"] * FREE_AT_ONCE
    await tasks.complete(await tasks.claim_one("w"))
    assert await tasks.is_detail(task_id, "completed")


async def test_a_task_that_is_given_back_again_and_again_waits_a_little(tasks: TaskApi) -> None:
    await tasks.agent("w")
    task_id = await tasks.submit("echo", max_retries=0)
    for _ in range(FREE_AT_ONCE + 1):
        await _give_back(tasks, await tasks.claim_one("w"), "single")
    events = (await tasks.get(f"/tasks/{task_id}/events"))["events"]
    assert [event["data"].get("delay_seconds", 0) > 0 for event in events if event["type"] == "requeued"] == [
        *[False] * FREE_AT_ONCE,
        True,
    ]
    await tasks.complete(await tasks.claim_one("w"))
    assert await tasks.is_detail(task_id, "completed")


async def test_only_the_holder_can_give_a_task_back(tasks: TaskApi) -> None:
    await tasks.agent("w")
    await tasks.submit("echo")
    old = await tasks.claim_one("w")
    await _give_back(tasks, old, "single")
    new = await tasks.claim_one("w")
    refused = await tasks.post(
        f"/tasks/{old['id']}/fail", {"lease_token": old["lease_token"], "released": True}, expect=409
    )
    assert refused["code"] == "lease_lost"
    contradiction = {"lease_token": new["lease_token"], "released": True, "requeue": False}
    await tasks.post(f"/tasks/{new['id']}/fail", contradiction, expect=400)
    await tasks.complete(new)


async def test_a_task_that_is_being_cancelled_ends_when_it_is_given_back(tasks: TaskApi) -> None:
    await tasks.agent("w")
    task_id = await tasks.submit("echo")
    lease = await tasks.claim_one("w")
    await tasks.post(f"/tasks/{task_id}/cancel")
    await _give_back(tasks, lease, "single")
    assert await tasks.is_detail(task_id, "cancelled")


async def test_a_claim_with_task_types_gets_these_and_explain_names_the_others(tasks: TaskApi) -> None:
    await tasks.agent("w", max_concurrency=5)
    other = await tasks.submit("other")
    own = await tasks.submit("own")
    lease = await tasks.claim_one("w", task_types=["own", "more"])
    assert lease["id"] == own
    assert await tasks.claim("w", task_types=["own", "more"]) is None
    (reason,) = (await tasks.get(f"/tasks/{other}/explain"))["reasons"]
    assert reason["code"] == "task_type"
    assert "w claims only more, own" in reason["message"]
    assert (await tasks.claim_one("w"))["id"] == other


async def test_a_claim_with_queues_gets_their_tasks_and_explain_names_the_others(tasks: TaskApi) -> None:
    await tasks.agent("w", max_concurrency=5)
    other, own = await tasks.submit(queue="other"), await tasks.submit(queue="own")
    assert (await tasks.claim_one("w", queues=["own", "more"]))["id"] == own
    waiting = asyncio.create_task(tasks.claim_one("w", queues=["more"], task_types=["echo"]))
    await eventually(lambda: tasks.waits(1))
    await tasks.submit(queue="more", task_type="not-echo")
    (reason,) = (await tasks.get(f"/tasks/{other}/explain"))["reasons"]
    assert (reason["code"], "w claims only more" in reason["message"]) == ("queue_not_claimed", True)
    last = await tasks.submit(queue="more")
    assert (await waiting)["id"] == last
    assert (await tasks.claim_one("w"))["id"] == other


@pytest.mark.parametrize("queues", [[], [""], [5], "own", ["x" * 257], ["a b"], ["x"] * 257, {"own": 1}])
async def test_queues_that_could_be_none_are_refused(tasks: TaskApi, queues: Any) -> None:
    await tasks.agent("w")
    refused = await tasks.post("/tasks/claim", {"agent_id": "w", "block_ms": 0, "queues": queues}, expect=400)
    assert "queues" in refused["error"]


@pytest.mark.parametrize("types", [[], [""], [5], "own", ["x" * 257], ["a\x00b"], ["x"] * 257, {"own": 1}])
async def test_task_types_that_could_be_no_types_are_refused(tasks: TaskApi, types: Any) -> None:
    await tasks.agent("w")
    refused = await tasks.post("/tasks/claim", {"agent_id": "w", "block_ms": 0, "task_types": types}, expect=400)
    assert refused["error"].count(".") >= 1


@pytest.mark.parametrize("block_ms", [0, 20_000])
async def test_a_claim_after_submits_gets_all_that_was_acknowledged(tasks: TaskApi, block_ms: int) -> None:
    await tasks.agent("w", max_concurrency=1000)
    for number in range(20):
        ids = [await tasks.submit("echo", payload=number) for _ in range(3)]
        answer = await tasks.post("/tasks/claim", {"agent_id": "w", "max_tasks": 3, "block_ms": block_ms})
        assert [task["id"] for task in answer["tasks"]] == ids


def _of_others(kind: str) -> dict[str, Any]:
    """A task that waits and that the agent "w" does not get, by what keeps it back."""
    return {
        "capability": {"required_capabilities": ["nobody-has-this"]},
        "target": {"target_agent": "somebody-else"},
        "region": {"target_region": "elsewhere", "region_routing_mode": "strict"},
        "excluded": {"excluded_agents": ["w"]},
        "concurrency": {"concurrency_key": "one-at-a-time", "concurrency_limit": 1},
        "paused": {"queue": "paused"},
        "type": {},
    }[kind] | {"max_retries": 0}


@pytest.mark.parametrize("block_ms", [0, 20_000])
@pytest.mark.parametrize("kind", ["capability", "target", "region", "excluded", "concurrency", "paused", "type"])
async def test_a_backlog_of_others_hides_no_acknowledged_submit(tasks: TaskApi, kind: str, block_ms: int) -> None:
    await tasks.agent("w", max_concurrency=1000)
    if kind == "paused":
        await tasks.post("/queue/pause", {"name": "paused"})
    for _ in range(10):
        await tasks.submit("other", **_of_others(kind))
    if kind == "concurrency":
        await tasks.claim_one("w")
    named = {"task_types": ["echo"]} if kind == "type" else {}
    for number in range(10):
        ids = [await tasks.submit("echo", payload=number) for _ in range(3)]
        body = {"agent_id": "w", "max_tasks": 3, "block_ms": block_ms, **named}
        answer = await tasks.post("/tasks/claim", body)
        assert [task["id"] for task in answer["tasks"]] == ids


async def test_a_panel_member_gets_no_task_that_requires_nothing(tasks: TaskApi) -> None:
    await tasks.agent("member", capabilities=["deliberation"])
    await tasks.agent("both", capabilities=["deliberation", "shell"])
    anything = await tasks.submit("shell.run")
    assert await tasks.claim("member", block_ms=300) is None
    named = await tasks.submit("shell.run", target_agent="member")
    assert (await tasks.claim_one("member"))["id"] == named
    able = (await tasks.get(f"/tasks/{anything}/explain"))["able_agents"]
    assert able == ["both"]
    assert (await tasks.claim_one("both"))["id"] == anything
