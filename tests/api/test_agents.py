"""The registry over HTTP: what the released client and operators do with agents."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from aragora_sdk import NotFoundError

from actors.endpoint_probes import PROBE_STEPS
from actors.roles import HEALTH_MONITOR
from cluster.process.clock import ManualClock
from cluster.process.group_commit import GroupCommit
from tests.stores.test_agents import UnregisteredAtOnce
from tests.support.api import Api, in_thread
from tests.support.endpoints import serving
from tests.support.probes import eventually


async def test_the_released_client_can_call_every_agent_method(api: Api) -> None:
    sdk = api.sdk().control_plane
    await in_thread(sdk.register_agent, agent_id="a1", capabilities=["x"], model="m", provider="p", metadata={"k": 1})
    listed = await in_thread(sdk.list_agents)
    assert ([row["agent_id"] for row in listed["agents"]], listed["total"]) == (["a1"], 1)
    agent = await in_thread(sdk.get_agent, "a1")
    assert (agent["model"], agent["provider"], agent["metadata"]) == ("m", "p", {"k": 1})
    assert (await in_thread(sdk.pause_agent, "a1"))["status"] == "paused"
    assert (await in_thread(sdk.pause_agent, "a1"))["status"] == "paused"
    assert (await in_thread(sdk.resume_agent, "a1"))["status"] == "ready"
    assert (await in_thread(sdk.heartbeat, "a1"))["acknowledged"] is True
    metrics = await in_thread(sdk.get_agent_metrics, "a1")
    assert metrics == await in_thread(sdk.get_agent_metrics_by_id, "a1") | {
        name: metrics[name] for name in ("uptime_seconds", "last_active")
    }
    health = await in_thread(sdk.get_agent_health, "a1")
    assert (health["agent_id"], health["status"], health["error"]) == ("a1", "healthy", None)
    assert (await in_thread(sdk.get_health))["status"] == "healthy"
    assert await in_thread(sdk.get_breakers) == {"breakers": []}
    assert await in_thread(sdk.deregister_agent, "a1") == {"unregistered": True}
    for method in (sdk.get_agent, sdk.deregister_agent, sdk.pause_agent, sdk.heartbeat, sdk.get_agent_metrics):
        with pytest.raises(NotFoundError):
            await in_thread(method, "a1")
    assert (await in_thread(sdk.get_health))["status"] == "unknown"


async def test_registering_again_replaces_the_description_and_keeps_counters_and_intent(api: Api) -> None:
    first = await api.post("/agents", {"agent_id": "a1", "capabilities": ["x"], "model": "old", "max_concurrency": 2})
    await api.post("/tasks", {"task_type": "echo"})
    task = (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 5000}))["task"]
    findings = {"result": {"findings": ["one", "two"]}, "agent_id": "a1"}
    await api.post(f"/tasks/{task['id']}/complete", findings)

    async def counted() -> bool:
        return (await api.get("/agents/a1"))["tasks_completed"] == 1

    await eventually(counted)
    await api.post("/agents/a1/pause")
    again = await api.post("/agents", {"agent_id": "a1", "capabilities": ["y"], "model": "new"})
    assert (again["capabilities"], again["model"], again["status"]) == (["y"], "new", "paused")
    assert again["registered_at"] == first["registered_at"]
    metrics = await api.get("/metrics/agents/a1")
    assert (metrics["tasks_completed"], metrics["error_rate"], metrics["findings_generated"]) == (1, 0.0, 2)


async def test_an_agent_that_is_unregistered_as_it_registers_is_a_conflict(api: Api) -> None:
    api.gateway.registrations = GroupCommit(UnregisteredAtOnce(api.stores.pool, api.stores.epoch).register)
    refused = await api.call("POST", "/agents", {"agent_id": "a1"})
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_unregistered")
    assert (await api.get("/agents"))["total"] == 0


async def test_price_owner_and_limits_come_back_and_are_checked(api: Api) -> None:
    body = {
        "agent_id": "a1",
        "price": {"input_per_mtok": 1.5, "output_per_mtok": 6, "currency": "EUR"},
        "owner": "team-1",
        "rate": {"per_minute": 60, "burst": 5},
        "options": {"stream": True},
    }
    agent = await api.post("/agents", body)
    assert {name: agent[name] for name in body} == body
    stored = await api.stores.agents.get("default", "a1")
    assert stored is not None
    assert stored.options.owner == "team-1"
    for wrong in (
        {"price": {"input_per_mtok": -1, "output_per_mtok": 0}},
        {"rate": {"per_minute": 0}},
        {"transport": "http"},
        {"endpoint": "file:///etc/passwd"},
        {"import_path": "os:system"},
        {"import_path": "os.system"},
        {"options": {"price": {"output_per_mtok": "3"}}},
        {"options": {"rate": {"per_minute": 60, "burst": "5"}}},
        {"options": {"stream": "yes"}},
    ):
        response = await api.call("POST", "/agents", {"agent_id": "a2", **wrong})
        assert response.status_code == 400, response.text
        assert isinstance(response.json()["error"], str)


async def test_a_list_is_filtered_counted_and_paged(api: Api) -> None:
    agents = [
        {"agent_id": f"a{i}", "capabilities": ["x" if i % 2 else "y"], "provider": f"p{i % 3}", "tags": [f"t{i}"]}
        for i in range(6)
    ]
    await api.post("/agents/batch", {"agents": agents})
    await api.post("/agents/a1/pause")

    async def ids(query: str) -> list[str]:
        return [agent["agent_id"] for agent in (await api.get(f"/agents?{query}"))["agents"]]

    assert await ids("capability=x") == ["a3", "a5"]
    assert await ids("capability=x&available=false") == ["a1", "a3", "a5"]
    assert await ids("available=false&status=paused") == ["a1"]
    assert await ids("capability=y&provider=p1") == ["a4"]
    assert await ids("tag=t2") == ["a2"]
    page = await api.get("/agents?available=false&limit=2&offset=3")
    assert ([agent["agent_id"] for agent in page["agents"]], page["total"]) == (["a3", "a4"], 6)


async def test_a_paused_agent_gets_no_work_whatever_its_heartbeats_say(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    await api.post("/agents/a1/pause")
    await api.post("/tasks", {"task_type": "echo"})
    await api.post("/agents/a1/heartbeat", {"status": "ready"})
    assert (await api.get("/agents/a1"))["status"] == "paused"
    assert (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 0}))["task"] is None
    await api.post("/agents/a1/resume")
    assert (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 5000}))["task"] is not None


async def test_a_drained_agent_returns_by_resume_or_if_self_drained_by_registration(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1", "max_concurrency": 2})
    await api.post("/tasks", {"task_type": "echo"})
    task = (await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 5000}))["task"]
    drained = await api.post("/agents/a1/drain")
    assert (drained["status"], drained["drained"], drained["running_tasks"]) == ("draining", False, 1)
    await api.post(f"/tasks/{task['id']}/complete", {"agent_id": "a1"})
    assert (await api.post("/agents/a1/drain"))["drained"] is True
    assert (await api.post("/agents/a1/resume"))["status"] == "ready"

    await api.post("/agents/a1/heartbeat", {"status": "draining"})
    assert (await api.get("/agents/a1"))["status"] == "draining"
    assert (await api.post("/agents", {"agent_id": "a1"}))["status"] == "ready"


async def test_repeating_an_intent_writes_nothing(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    for verb in ("pause", "pause", "resume", "resume", "drain", "drain"):
        await api.post(f"/agents/a1/{verb}")
    intents = [row.data["intent"] for row in await api.rows("a1") if row.kind == "agent.status_changed"]
    assert intents == ["paused", "active", "draining"]


async def test_leases_of_an_agent_that_leaves_go_back_at_once(api: Api) -> None:
    await api.post("/agents/batch", {"agents": [{"agent_id": "a1"}, {"agent_id": "a2"}]})
    created = await api.post("/tasks", {"task_type": "echo"})
    await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 5000})
    assert (await api.call("DELETE", "/agents/a1")).json() == {"unregistered": True}
    taken = (await api.post("/tasks/claim", {"agent_id": "a2", "block_ms": 20_000}))["task"]
    assert (taken["id"], taken["attempt"]) == (created["task_id"], 2)


async def _claimed(api: Api, agent_id: str) -> str:
    await api.post("/tasks", {"task_type": "echo"})
    return str((await api.post("/tasks/claim", {"agent_id": agent_id, "block_ms": 5000}))["task"]["id"])


async def test_an_endpoint_is_probed_when_it_registers_and_its_breaker_is_listed(api: Api) -> None:
    await api.start_health_monitor()
    async with _endpoint(200) as good, _endpoint(500) as bad:
        await api.post("/agents", {"agent_id": "good", "endpoint": good})
        await api.post("/agents", {"agent_id": "bad", "endpoint": bad})

        async def health(agent_id: str) -> Any:
            found = await api.get(f"/health/{agent_id}")
            return found if found["status"] != "unknown" else None

        found = await eventually(lambda: health("good"))
        assert (found["status"], found["error"]) == ("healthy", None)
        assert found["latency_ms"] > 0
        found = await eventually(lambda: health("bad"))
        assert found["status"] == "degraded"
        assert "500" in found["error"]
        monitor = api.actor("health-monitor")
        for _ in range(3 * PROBE_STEPS):  # its own loop may be in the middle of one of them
            await monitor.probes.probe_some()
        assert (await api.get("/agents/bad"))["status"] == "failed"
        assert (await api.get("/agents/good"))["status"] == "ready"
        assert (await api.get("/health"))["status"] == "unhealthy"
        await api.kill("health-monitor")
        await api.start_health_monitor()
        history = api.actor("health-monitor").probes.history["default", "bad"]
        assert history.failures >= 3, "the monitor probes by itself too, and goes on counting"


def _endpoint(status: int) -> Any:
    return serving(lambda request: httpx.Response(status, json={}))


async def test_a_thousand_agents_register_in_one_call(api: Api) -> None:
    agents = [{"agent_id": f"a{i}", "capabilities": ["x"]} for i in range(1000)]
    answer = await api.post("/agents/batch", {"agents": agents})
    assert answer["total"] == 1000
    too_many = await api.call("POST", "/agents/batch", {"agents": [*agents, {"agent_id": "b"}]})
    assert too_many.status_code == 400
    both = await asyncio.gather(api.get("/agents?capability=x"), api.get("/agents?capability=y"))
    assert [page["total"] for page in both] == [1000, 0]


async def test_every_endpoint_is_probed_once_in_an_interval(api: Api) -> None:
    probed: Counter[str] = Counter()

    def endpoint(request: Any) -> httpx.Response:
        probed[request.url.path] += 1
        return httpx.Response(200, json={})

    async with serving(endpoint) as url:
        agents = [{"agent_id": f"a{i}", "endpoint": f"{url}/{i}"} for i in range(40)]
        await api.post("/agents/batch", {"agents": agents})
        clock = ManualClock(time.time())
        monitor = await api.start(HEALTH_MONITOR, clock=clock)  # its own loop stands still after one step
        await eventually(lambda: len(probed) == 40)
        await eventually(lambda: len(monitor.probes.history) == 40)
        before = probed.copy()
        most = 0
        for _ in range(PROBE_STEPS):
            seen = probed.total()
            await monitor.probes.probe_some()
            most = max(most, probed.total() - seen)
        assert set((probed - before).values()) == {1}
        assert (probed - before).total() == 40
        assert most < 20, "they are spread"
