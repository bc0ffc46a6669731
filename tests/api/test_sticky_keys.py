"""Tasks that want the agent that took the last task of their key."""

from __future__ import annotations

import asyncio

import pytest

from cluster.domain.scheduling import sticky_keys
from tests.support.probes import eventually
from tests.support.task_api import TaskApi


async def test_a_task_waits_for_the_agent_of_its_key(tasks: TaskApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sticky_keys, "STICKY_S", 3600.0)  # longer than this machine may stand still
    for agent in ("a1", "a2"):
        await tasks.agent(agent, max_concurrency=2)
    await tasks.submit(sticky_key="repository-7")
    assert (await tasks.claim_one("a1"))["sticky_key"] == "repository-7"
    others = asyncio.create_task(tasks.claim_one("a2"))
    await eventually(lambda: tasks.waits(1))
    then = await tasks.submit(sticky_key="repository-7")
    await eventually(lambda: tasks.has_reason(then, "sticky_key"))
    explained = await tasks.get(f"/tasks/{then}/explain")
    assert explained["able_agents"] == ["a1"]
    assert "a1" in explained["summary"]
    assert (await tasks.claim_one("a1"))["id"] == then
    assert not others.done()
    plain = await tasks.submit()
    assert (await others)["id"] == plain
