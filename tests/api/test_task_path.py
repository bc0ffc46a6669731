"""A task from registration to completion, as the released client goes, also if the scheduler is killed in between."""

from __future__ import annotations

import asyncio

from tests.support.api import Api, in_thread


async def test_the_released_client_takes_a_task_from_submit_to_completion(api: Api) -> None:
    sdk = api.sdk().control_plane
    registered = await in_thread(sdk.register_agent, agent_id="a1", capabilities=["x"])
    assert (registered["agent_id"], registered["status"]) == ("a1", "ready")
    assert (await in_thread(sdk.heartbeat, "a1"))["acknowledged"] is True
    created = await in_thread(sdk.create_task, task_type="echo", payload={"n": 1}, required_capabilities=["x"])
    claimed = (await in_thread(sdk.claim_task, agent_id="a1", block_ms=5000))["task"]
    assert (claimed["id"], claimed["payload"], claimed["status"]) == (created["task_id"], {"n": 1}, "running")
    assert await in_thread(sdk.complete_task, created["task_id"]) == {"completed": True}
    assert (await in_thread(sdk.get_task, created["task_id"]))["status"] == "completed"


async def test_a_claim_that_waits_outlives_the_scheduler(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    waiting = asyncio.create_task(api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 20_000}))
    await api.kill_scheduler()
    created = await api.post("/tasks", {"task_type": "echo"})
    await api.start_scheduler()
    assert (await waiting)["task"]["id"] == created["task_id"]
    await api.post(f"/tasks/{created['task_id']}/complete", {"agent_id": "a1"})
    kinds = [row.kind for row in await api.rows(created["task_id"])]
    assert kinds == ["task.submitted", "task.claimed", "task.completed"]


async def test_a_batch_waits_in_the_order_given(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1", "max_concurrency": 100})
    submitted = (await api.post("/tasks/batch", {"tasks": [{"task_type": "echo"}] * 40}))["task_ids"]
    claimed = await api.post("/tasks/claim", {"agent_id": "a1", "max_tasks": 40, "block_ms": 5000})
    assert [task["id"] for task in claimed["tasks"]] == submitted
    logged = [row.entity for row in await api.rows() if row.kind == "task.submitted"]
    assert logged == submitted
