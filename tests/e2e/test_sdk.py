"""The released client, unmodified, sync and async, against a whole system."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from aragora_sdk import AragoraAsyncClient, AragoraClient, NotFoundError

from tests.support.system import RunningSystem


def test_tasks_and_agents_with_the_synchronous_client(system: RunningSystem) -> None:
    with contextlib.closing(AragoraClient(base_url=system.api_url)) as client:
        _go_through(client.control_plane)


def _go_through(plane: Any) -> None:
    agent = plane.register_agent(agent_id="sync-1", capabilities=["sync-review"], model="m", provider="p")
    assert (agent["agent_id"], agent["status"]) == ("sync-1", "ready")
    assert plane.heartbeat("sync-1")["acknowledged"] is True
    assert "sync-1" in [row["agent_id"] for row in plane.list_agents()["agents"]]

    task_id = _create(plane, "sync-review")
    claimed = plane.claim_task(agent_id="sync-1", capabilities=["sync-review"], block_ms=5000)["task"]
    assert (claimed["id"], claimed["payload"], claimed["status"]) == (task_id, {"pr": 17}, "running")
    assert plane.get_agent("sync-1")["status"] == "busy"
    assert plane.complete_task(task_id) == {"completed": True}
    assert plane.get_task(task_id)["status"] == "completed"

    failing = _create(plane, "sync-review")
    assert plane.claim_task(agent_id="sync-1", capabilities=["sync-review"])["task"]["id"] == failing
    assert plane.fail_task(failing, error="no", agent_id="sync-1", requeue=False) == {"failed": True}
    ended = plane.get_task(failing)
    assert (ended["status"], ended["error"]) == ("failed", "no")

    waiting = _create(plane, "nobody-can")
    assert plane.cancel_task(waiting) == {"cancelled": True}
    assert plane.get_task(waiting)["status"] == "cancelled"
    assert plane.claim_task(agent_id="sync-1", capabilities=["sync-review"], block_ms=50) == {"task": None}
    assert {task_id, failing, waiting} <= {entry["id"] for entry in plane.get_task_history()["history"]}
    assert plane.deregister_agent("sync-1") == {"unregistered": True}
    with pytest.raises(NotFoundError):
        plane.get_agent("sync-1")


async def test_tasks_and_agents_with_the_asynchronous_client(system: RunningSystem) -> None:
    async with AragoraAsyncClient(base_url=system.api_url) as client:
        plane = client.control_plane
        names = [f"async-{index}" for index in range(5)]
        for name in names:
            await plane.register_agent(agent_id=name, capabilities=["async-review"])
        waiting = [asyncio.create_task(_claim(plane, name)) for name in names]
        ids = {
            (await plane.create_task(task_type="t", payload={}, required_capabilities=["async-review"]))["task_id"]
            for _ in names
        }
        claimed = await asyncio.gather(*waiting)
        assert {task["id"] for task in claimed} == ids
        for task in claimed:
            await plane.complete_task(task["id"])
        for task_id in ids:
            assert (await plane.get_task(task_id))["status"] == "completed"


def _create(plane: Any, capability: str) -> str:
    answer = plane.create_task(task_type="review", payload={"pr": 17}, required_capabilities=[capability])
    return str(answer["task_id"])


async def _claim(plane: Any, agent_id: str) -> dict[str, Any]:
    for _ in range(3):
        task = (await plane.claim_task(agent_id=agent_id, capabilities=["async-review"], block_ms=20_000))["task"]
        if task is not None:
            return dict(task)
    raise AssertionError(f"{agent_id} got nothing")
