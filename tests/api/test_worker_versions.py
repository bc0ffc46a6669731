"""Tasks that ask for a version of their worker, and a release of workers that rolls while they wait and run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.probes import eventually
from tests.support.task_api import TaskApi


async def _reason(tasks: TaskApi, task_id: str) -> tuple[str, str]:
    reason = (await tasks.get(f"/tasks/{task_id}/explain"))["reasons"][0]
    return reason["code"], reason["message"]


async def test_a_rolling_release_leaves_each_task_to_workers_that_can_do_it(tasks: TaskApi) -> None:
    """The processes of both versions have one agent id, as in a deployment that replaces them one by one."""
    await tasks.agent("w", max_concurrency=9, version="1.4")
    old = [await tasks.submit(worker_version=">=1,<2") for _ in range(2)]
    new = await tasks.submit(worker_version="~=2.0")
    running = await tasks.claim_one("w")
    assert running["id"] == old[0]
    assert await _reason(tasks, new) == (
        "worker_version",
        "It asks for a worker of version ~=2.0, which w could do but for that.",
    )
    waiting = asyncio.create_task(tasks.claim_one("w", version="2.1"))
    assert (await waiting)["id"] == new
    await tasks.agent("w", max_concurrency=9, version="2.1")
    await tasks.complete(running)
    assert await tasks.claim("w") is None, "by the new registration"
    assert (await _reason(tasks, old[1]))[0] == "worker_version"
    assert (await tasks.claim_one("w", version="1.4"))["id"] == old[1], "an old process goes on"
    assert (await tasks.get("/agents/w"))["version"] == "2.1"


async def test_a_waiting_claim_gets_the_first_task_of_its_version(tasks: TaskApi) -> None:
    await tasks.agent("w")
    waiting = asyncio.create_task(tasks.claim_one("w", version="2.0.0-rc.1"))
    await eventually(lambda: tasks.waits(1))
    await tasks.submit(worker_version=">=2")
    own = await tasks.submit(worker_version="==2.*")
    lease = await waiting
    assert (lease["id"], lease["worker_version"]) == (own, "==2.*")


@pytest.mark.parametrize("versions", ["1.0", "", ">=x", "===1", 5, ">=1," * 50])
async def test_a_range_that_is_none_is_refused_alone_and_in_batches(tasks: TaskApi, versions: Any) -> None:
    task = {"task_type": "echo", "worker_version": versions}
    for path, body in (("/tasks", task), ("/tasks/batch", {"tasks": [task]})):
        refused = await tasks.post(path, body, expect=400)
        assert "worker_version" in refused["error"]


@pytest.mark.parametrize("version", ["x", "", ">=1", 5, "1." * 100])
async def test_a_version_that_is_none_is_refused(tasks: TaskApi, version: Any) -> None:
    for path in ("/agents", "/tasks/claim"):
        refused = await tasks.post(path, {"agent_id": "w", "version": version}, expect=400)
        assert "version" in refused["error"]
