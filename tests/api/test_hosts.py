"""Agents move between hosts, and what they were working on goes on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from actors.roles import AGENT_HOST
from cluster.process.clock import ManualClock
from tests.support.api import Api, api_settings
from tests.support.called_agents import Endpoint, ended_task
from tests.support.endpoints import serving
from tests.support.probes import eventually


async def test_a_task_of_a_killed_host_is_redelivered_under_the_same_key(api: Api) -> None:
    endpoint = Endpoint({"result": 1})
    endpoint.gate.clear()
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        created = await api.post("/tasks", {"task_type": "t"})
        await eventually(lambda: len(endpoint.asked) == 1)
        await api.kill(AGENT_HOST)
        endpoint.gate.set()
        await api.start(AGENT_HOST)
        task = await ended_task(api, created["task_id"])
        assert (task["status"], task["attempt"]) == ("completed", 1)
        assert len({call["idempotency_key"] for call in endpoint.asked}) == 1


class Adder:
    async def work(self, task: Mapping[str, Any]) -> Any:
        return sum(task["payload"])


async def test_agents_move_to_another_host_when_theirs_is_lost(store_urls: Any, schema: str) -> None:
    settings = api_settings(store_urls, schema, agent_hosts=2, agent_modules=(__name__,))
    async with Api(settings).running() as api:
        await api.start(AGENT_HOST, 1)
        path = f"{__name__}:Adder"
        agents = [{"agent_id": f"a{i}", "import_path": path, "capabilities": [f"c{i}"]} for i in range(20)]
        await api.post("/agents/batch", {"agents": agents})

        async def owned(index: int) -> int:
            return int((await api.actor(AGENT_HOST, index).status())["agents"])

        async def split() -> bool:
            shares = [await owned(0), await owned(1)]
            return sum(shares) == 20 and min(shares) > 0

        await eventually(split)
        await api.kill(AGENT_HOST, 1)

        async def moved() -> bool:
            return await owned(0) == 20

        await eventually(moved)
        tasks = [
            await api.post("/tasks", {"task_type": "add", "payload": [i, 1], "required_capabilities": [f"c{i}"]})
            for i in range(20)
        ]
        results = [(await ended_task(api, task["task_id"]))["result"] for task in tasks]
        assert results == [i + 1 for i in range(20)]


async def _spread_at_work(api: Api, url: str, endpoint: Endpoint, number: int = 12) -> list[str]:
    """Agents that are all at work on a task that names them, on the only host there is."""
    ids = [f"a{i}" for i in range(number)]
    await api.post("/agents/batch", {"agents": [{"agent_id": agent_id, "endpoint": url} for agent_id in ids]})
    tasks = [{"task_type": "t", "target_agent": agent_id} for agent_id in ids]
    created = (await api.post("/tasks/batch", {"tasks": tasks}))["task_ids"]
    await eventually(lambda: len(endpoint.asked) == number)
    return list(created)


async def _shared(api: Api) -> None:
    async def shared() -> bool:
        shares = [int((await api.actor(AGENT_HOST, index).status())["agents"]) for index in (0, 1)]
        return min(shares) > 0 and sum(shares) == 12

    await eventually(shared)


@contextlib.asynccontextmanager
async def _joined_at_work(store_urls: Any, schema: str) -> AsyncIterator[tuple[Api, Endpoint, list[str]]]:
    """A second host has joined while all agents were at work on the first; their endpoint's gate is shut."""
    endpoint = Endpoint({"result": 1})
    endpoint.gate.clear()
    async with Api(api_settings(store_urls, schema, agent_hosts=2)).running() as api, serving(endpoint) as url:
        created = await _spread_at_work(api, url, endpoint)
        await api.start(AGENT_HOST, 1)
        await _shared(api)
        yield api, endpoint, created


async def test_a_host_that_joins_leaves_the_others_what_they_are_working_on(store_urls: Any, schema: str) -> None:
    async with _joined_at_work(store_urls, schema) as (api, endpoint, created):
        more = [{"task_type": "t", "target_agent": f"a{i}"} for i in range(12)]
        created += (await api.post("/tasks/batch", {"tasks": more}))["task_ids"]
        endpoint.gate.set()
        ended = [await ended_task(api, task_id) for task_id in created]
        assert [(task["status"], task["attempt"]) for task in ended] == [("completed", 1)] * 24
        assert sorted(call["idempotency_key"] for call in endpoint.asked) == sorted(
            f"{task_id}:1" for task_id in created
        )


async def test_work_of_a_dead_host_for_moved_agents_is_taken_over(store_urls: Any, schema: str) -> None:
    async with _joined_at_work(store_urls, schema) as (api, endpoint, created):
        await api.kill(AGENT_HOST)
        await eventually(lambda: len(endpoint.asked) == 24, what="all are asked again")
        endpoint.gate.set()
        ended = [await ended_task(api, task_id) for task_id in created]
        assert [(task["status"], task["attempt"]) for task in ended] == [("completed", 1)] * 12
        assert {call["idempotency_key"] for call in endpoint.asked} == {f"{task_id}:1" for task_id in created}


async def test_a_host_finds_and_retries_named_tasks_older_than_itself(
    api: Api,
) -> None:
    await api.kill(AGENT_HOST)
    endpoint = Endpoint({"error": "not yet"}, {"result": 1})
    async with serving(endpoint) as url:
        await api.post("/agents", {"agent_id": "a1", "endpoint": url})
        await api.post("/agents", {"agent_id": "a2", "endpoint": url, "capabilities": ["x"]})
        soon = {"task_type": "t", "target_agent": "a1", "delay_seconds": 0.5}
        created = await api.post("/tasks", soon)
        clock = ManualClock(time.time())  # looking again never comes
        await api.start(AGENT_HOST, clock=clock)
        task = await ended_task(api, created["task_id"])
        assert (task["status"], task["attempt"], task["assigned_agent"]) == ("completed", 2, "a1")
