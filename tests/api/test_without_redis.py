"""Redis is a doorbell: with nobody behind it, calls take longer and none fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from tests.support.api import Api, api_settings
from tests.support.stores import StoreUrls

NOBODY_LISTENS = SecretStr("redis://127.0.0.1:1/0")


@pytest.fixture
async def without_redis(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    async with Api(api_settings(store_urls, schema, redis_url=NOBODY_LISTENS)).running() as running:
        yield running


async def test_a_task_runs_to_its_end_without_redis(without_redis: Api) -> None:
    api = without_redis
    await api.post("/agents", {"agent_id": "a1"})
    created = await api.post("/tasks", {"task_type": "echo"})
    task = (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 20_000}))["task"]
    assert task["id"] == created["task_id"]
    assert (await api.post("/agents/a1/heartbeat"))["acknowledged"] is True
    batch = await api.post("/agents/heartbeats", {"heartbeats": [{"agent_id": "a1"}]})
    assert (batch["acknowledged"], batch["unknown"]) == (1, [])
    await api.post(f"/tasks/{task['id']}/complete", {"lease_token": task["lease_token"]})
    assert (await api.get(f"/tasks/{task['id']}"))["status"] == "completed"


async def test_agents_are_read_and_changed_without_redis(without_redis: Api) -> None:
    api = without_redis
    await api.post("/agents", {"agent_id": "a1"})
    assert [agent["agent_id"] for agent in (await api.get("/agents"))["agents"]] == ["a1"]
    assert (await api.get("/agents/a1"))["last_heartbeat"] is not None
    assert (await api.post("/agents/a1/pause"))["status"] == "paused"
    assert "a1" in (await api.get("/health"))["agents"]
    answer = await api.call("DELETE", "/agents/a1")
    assert answer.json() == {"unregistered": True}


async def test_readiness_names_what_is_missing(without_redis: Api) -> None:
    report = await without_redis.get("/health/detailed")
    states = {component["name"]: component["status"] for component in report["components"]}
    assert states["Redis"] != "healthy"
    assert states["Database"] == "healthy"
