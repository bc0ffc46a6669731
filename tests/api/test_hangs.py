"""Stores that hang: stopped processes accept connections and answer nothing, as a network does that swallows packets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from actors.roles import TELEMETRY, desired_roles
from cluster.domain.agents.breaker import BreakerState
from cluster.domain.metric_families import METRICS_COMPLETE, STORE_READABLE
from cluster.embedded.processes import ProcessId
from cluster.postgres.migrate import migrate
from tests.support.api import CP, Api, api_settings
from tests.support.hanging import HEALTH_S, REFUSED_S, stopped
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name, own_stores

READS = [
    "/tasks",
    "/tasks/TASK",
    "/tasks/TASK/explain",
    "/agents",
    "/agents/a1",
    "/deliberations",
    "/queue",
    "/queue/metrics",
    "/stats",
    "/metrics",
    "/dead-letter",
    "/health",
    "/health/a1",
]
WRITES: list[tuple[str, Any]] = [
    ("/tasks", {"task_type": "t"}),
    ("/tasks", {"task_type": "keyed"}),
    ("/agents", {"agent_id": "a2"}),
    ("/agents/a1/pause", {}),
    ("/tasks/claim", {"agent_id": "a1", "block_ms": 0}),
    ("/tasks/TASK/cancel", {}),
    ("/deliberations", {"content": "q?", "agents": ["a1"]}),
]


@pytest.fixture
async def whole() -> AsyncIterator[tuple[Api, ProcessId, ProcessId]]:
    """A whole control plane with stores of its own, and their processes."""
    with own_stores() as (postgres, redis):
        schema = fresh_name()
        await migrate(postgres.url, schema)
        settings = api_settings(StoreUrls(postgres.url, redis.url), schema)
        assert postgres.process is not None
        assert redis.process is not None
        async with Api(settings).running(()) as api:
            for role in desired_roles(settings):
                await api.start_role(role)
            yield api, postgres.process, redis.process


async def _refusal(api: Api, method: str, path: str, body: Any = None) -> str | None:
    """What is wrong with the refusal of a call, or None."""
    try:
        answer = await api.client.request(method, CP + path, json=body, timeout=REFUSED_S)
    except httpx.TimeoutException:
        return f"{method} {path}: no answer within {REFUSED_S:g} s"
    if answer.status_code == 503 and "retry-after" in answer.headers:
        return None
    return f"{method} {path}: {answer.status_code} {answer.text[:200]}"


async def _metrics(api: Api) -> dict[str, float]:
    """The gauges of an answer to a scrape that say how far it can be trusted, and the tasks that it counts."""
    answer = await api.client.get("/metrics", timeout=REFUSED_S)
    assert answer.status_code == 200, answer.text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name in (STORE_READABLE, METRICS_COMPLETE, "aragora_cp_tasks_submitted_total")
    }


async def test_a_scrape_is_answered_while_the_database_hangs(whole: tuple[Api, ProcessId, ProcessId]) -> None:
    api, postgres, _ = whole
    await api.post("/tasks", {"task_type": "t"})
    known = {METRICS_COMPLETE: 1, "aragora_cp_tasks_submitted_total": 1}
    assert await _metrics(api) == {STORE_READABLE: 1, **known}
    with stopped(postgres):
        for _ in range(3):
            assert await _metrics(api) == {STORE_READABLE: 0, **known}
        await api.kill(TELEMETRY)
        assert await _metrics(api) == {STORE_READABLE: 0, METRICS_COMPLETE: 0}
    await api.start(TELEMETRY)

    async def whole_again() -> bool:
        return await _metrics(api) == {STORE_READABLE: 1, **known}

    await eventually(whole_again)


async def _health(api: Api) -> dict[str, Any]:
    answer = await api.client.get("/health", timeout=HEALTH_S)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def _is_ok(api: Api) -> bool:
    with contextlib.suppress(httpx.TimeoutException):
        return (await _health(api)) == {"status": "ok", "degraded": []}
    return False


async def test_calls_are_refused_in_time_while_the_database_hangs(whole: tuple[Api, ProcessId, ProcessId]) -> None:
    api, postgres, _ = whole
    await api.post("/agents", {"agent_id": "a1"})
    task_id = (await api.post("/tasks", {"task_type": "first"}))["task_id"]
    await eventually(lambda: _is_ok(api))
    with stopped(postgres):
        calls = [("GET", path, None) for path in READS] + [("POST", *write) for write in WRITES]
        calls = [(method, path.replace("TASK", task_id), body) for method, path, body in calls]
        health, *wrong = await asyncio.gather(_health(api), *(_refusal(api, *call) for call in calls))
        assert health["status"] == "degraded"
        assert "Database" in health["degraded"]
        assert [problem for problem in wrong if problem] == []
        assert api.gateway.database().state_at(api.gateway.clock.now()) is not BreakerState.CLOSED
        for _ in range(3):
            assert "Database" in (await _health(api))["degraded"]
        assert await _refusal(api, "POST", "/tasks", {"task_type": "t"}) is None

    await eventually(lambda: _is_ok(api))
    # A refused change may have been made: its outcome was unknown.
    await api.post("/tasks", {"task_type": "after"})
    await api.post("/agents/a1/resume")
    claimed = await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 20_000})
    assert claimed["task"] is not None
    done = await api.call(
        "POST", f"/tasks/{claimed['task']['id']}/complete", {"lease_token": claimed["task"]["lease_token"]}
    )
    assert done.is_success, done.text


async def _heartbeats(api: Api, count: int) -> None:
    for _ in range(count):
        await api.post("/agents/a1/heartbeat", timeout=REFUSED_S)


async def test_no_call_fails_while_redis_hangs(whole: tuple[Api, ProcessId, ProcessId]) -> None:
    api, _, redis = whole
    await eventually(lambda: _is_ok(api))
    with stopped(redis):
        assert "Redis" in (await _health(api))["degraded"]
        await api.post("/agents", {"agent_id": "a1"}, timeout=REFUSED_S)
        # Many, one after the other on each connection: they wait for those before them.
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(_heartbeats(api, 3))
        created = await api.post("/tasks", {"task_type": "t"}, timeout=REFUSED_S)
        claimed = await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 20_000})
        assert claimed["task"]["id"] == created["task_id"]
        assert [agent["agent_id"] for agent in (await api.get("/agents", timeout=REFUSED_S))["agents"]] == ["a1"]
    await eventually(lambda: _is_ok(api))
