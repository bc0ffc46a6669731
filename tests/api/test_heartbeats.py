"""Heartbeats over HTTP and WebSocket, and what their absence leads to."""

from __future__ import annotations

import json
from typing import Any

import websockets

from cluster.ports.presence import HeartbeatRecord
from tests.support.api import CP, Api
from tests.support.probes import eventually


async def test_many_heartbeats_in_one_call_renew_leases_and_name_the_unknown(api: Api) -> None:
    await api.post("/agents/batch", {"agents": [{"agent_id": f"a{i}"} for i in range(3)]})
    task = await _claimed(api, "a0")
    await api.post(f"/tasks/{task}/cancel")
    heartbeats = [{"agent_id": name} for name in ("a0", "a1", "stranger")]
    answer = await api.post("/agents/heartbeats", {"heartbeats": heartbeats})
    assert answer == {
        "acknowledged": 2,
        "unknown": ["stranger"],
        "cancelling": [{"agent_id": "a0", "task_id": task}],
    }


async def _claimed(api: Api, agent_id: str) -> str:
    await api.post("/tasks", {"task_type": "echo"})
    return str((await api.post("/tasks/claim", {"agent_id": agent_id, "block_ms": 5000}))["task"]["id"])


async def test_heartbeats_over_a_websocket_are_acknowledged(api: Api) -> None:
    await api.post("/agents/batch", {"agents": [{"agent_id": "a0"}, {"agent_id": "a1"}]})
    before = await api.resources.heartbeats.last("default", ["a0", "a1"])
    url = api.url.replace("http", "ws", 1) + CP + "/agents/heartbeats"
    async with websockets.connect(url) as socket:

        async def say(text: str) -> dict[str, Any]:
            await socket.send(text)
            return dict(json.loads(await socket.recv()))

        answer = await say('{"agent_id": "a0"}')
        assert (answer["type"], answer["data"]["acknowledged"]) == ("heartbeat_ack", 1)
        many = {"heartbeats": [{"agent_id": "a0", "status": "draining"}, {"agent_id": "a1"}, {"agent_id": "nobody"}]}
        answer = await say(json.dumps(many))
        assert (answer["data"]["acknowledged"], answer["data"]["unknown"]) == (2, ["nobody"])
        for wrong in ("nonsense", "[]", '{"agent_id": "a/b"}', '{"agent_id": "a0", "status": "happy"}'):
            assert (await say(wrong))["type"] == "error"
        assert (await say('{"agent_id": "a1"}'))["type"] == "heartbeat_ack"
    after = await api.resources.heartbeats.last("default", ["a0", "a1"])
    assert all(after[name] > before[name] for name in ("a0", "a1"))
    assert (await api.get("/agents/a0"))["status"] == "draining"


async def test_the_work_channel_is_told_apart_from_heartbeats(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    assert await api.resources.heartbeats.last_activity("default", ["a1"]) == {}
    await api.post("/tasks/claim", {"agent_id": "a1", "block_ms": 0})

    async def last_activity() -> Any:
        return await api.resources.heartbeats.last_activity("default", ["a1"])

    assert "a1" in await eventually(last_activity)


async def test_a_silent_agent_goes_offline_loses_its_task_once_and_revives(api: Api) -> None:
    await api.post("/agents/batch", {"agents": [{"agent_id": "silent"}, {"agent_id": "other"}]})
    task = await _claimed(api, "silent")
    monitor = await api.start_health_monitor()
    timeout_s = api.settings.heartbeat_timeout
    now = api.gateway.clock.now()
    monitor._watch = type(monitor._watch)(since=now - 10 * timeout_s, store=await api.resources.heartbeats.life())
    await _heard_last(api, "silent", now - timeout_s - 1)
    await monitor.sweep_once()
    agent = await api.get("/agents/silent")
    assert (agent["status"], agent["liveness"]) == ("offline", "offline")
    assert (await api.get("/health/silent"))["error"] == "it sends no heartbeats"
    assert (await api.get("/stats"))["health"]["status"] == "healthy"  # of the living
    taken = (await api.post("/tasks/claim", {"agent_id": "other", "block_ms": 20_000}))["task"]
    assert taken["id"] == task
    requeued = [row for row in await api.rows(task) if row.kind == "task.requeued"]
    assert len(requeued) == 1

    await api.post("/agents/silent/heartbeat")

    async def revived() -> bool:  # the monitor's copy follows the log
        await monitor.sweep_once()
        return bool((await api.get("/agents/silent"))["status"] == "ready")

    await eventually(revived)


async def _heard_last(api: Api, agent_id: str, at: float) -> None:
    """As if it had not spoken since."""
    await api.resources.heartbeats.forget([("default", agent_id)])
    await api.resources.heartbeats.record_activity([HeartbeatRecord(workspace="default", agent_id=agent_id, at=at)])
    await api.stores.pool.execute(
        "update agents set registered_at = $1, last_seen_at = $1 where agent_id = $2", at - 1000, agent_id
    )
    agent = await api.stores.agents.get("default", agent_id)
    assert agent is not None
    monitor = api.actor("health-monitor")
    monitor._directory.note(agent)


async def test_a_loss_of_redis_declares_nobody_dead(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    monitor = await api.start_health_monitor()
    await monitor.sweep_once()
    await _heard_last(api, "a1", api.gateway.clock.now() - 10_000)
    await api.resources.redis.flushall()
    await monitor.sweep_once()
    assert (await api.get("/agents/a1"))["status"] == "ready"


async def test_heartbeats_are_written_behind(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    monitor = await api.start_health_monitor()
    await monitor.sweep_once()
    stored = await api.stores.agents.get("default", "a1")
    assert stored is not None
    assert stored.last_seen_at == (await api.resources.heartbeats.last("default", ["a1"]))["a1"]
    await api.resources.redis.flushall()
    assert (await api.get("/agents/a1"))["last_heartbeat"] == stored.last_seen_at
