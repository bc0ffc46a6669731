"""The released client, synchronous and asynchronous, against every route that it knows and that exists here."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aragora_sdk.exceptions import AragoraError, AuthenticationError, NotFoundError, ValidationError
from aragora_sdk.namespaces.control_plane import AsyncControlPlaneAPI, ControlPlaneAPI

from actors.roles import SEALER
from cluster.process.clock import SystemClock
from scripts.docs.api_page import _routes
from scripts.docs.released_client import methods, without_route
from tests.actors.test_sealer import seal_all
from tests.support.api import CP, Api, api_settings, in_thread
from tests.support.bearer_tables import own_token
from tests.support.changes import CHANGES
from tests.support.listening import listening, port_of
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls
from tests.support.tokens import SECRET

ADMIN = "ann@example.com"

AGENT = {
    "agent_id", "capabilities", "status", "model", "provider", "metadata", "registered_at", "last_heartbeat",
    "current_task_id", "tasks_completed", "tasks_failed", "avg_latency_ms", "tags", "region_id", "available_regions",
    "region_latency_ms", "last_heartbeat_by_region",
}  # fmt: skip
TASK = {
    "id", "task_type", "payload", "required_capabilities", "status", "priority", "created_at", "assigned_at",
    "started_at", "completed_at", "assigned_agent", "timeout_seconds", "max_retries", "retries", "result", "error",
    "metadata", "target_region", "fallback_regions", "assigned_region", "region_routing_mode", "origin_region",
}  # fmt: skip
JOB = {
    "id", "type", "name", "status", "progress", "started_at", "created_at", "document_count", "agents_assigned",
    "priority",
}  # fmt: skip
HISTORY = {
    "id", "type", "status", "priority", "assigned_agent", "result", "error", "retries", "duration_ms", "created_at",
    "started_at", "completed_at", "metadata",
}  # fmt: skip
QUEUE_METRICS = {
    "pending", "running", "completed_today", "failed_today", "avg_wait_time_ms", "avg_execution_time_ms",
    "throughput_per_minute",
}  # fmt: skip
METRICS = {
    "active_jobs", "queued_jobs", "completed_jobs", "agents_available", "agents_busy", "total_agents",
    "documents_processed_today", "audits_completed_today", "tokens_used_today",
}  # fmt: skip
AGENT_METRICS = {
    "agent_id", "tasks_completed", "findings_generated", "average_response_time_ms", "error_rate", "last_active",
    "uptime_seconds",
}  # fmt: skip
VIOLATION = {
    "id", "policy_id", "policy_name", "violation_type", "description", "task_id", "task_type", "agent_id", "region",
    "workspace_id", "enforcement_level", "timestamp", "status", "resolved_at", "resolved_by", "resolution_notes", "metadata",
}  # fmt: skip
HEALTH_CHECK = {"agent_id", "status", "latency_ms", "timestamp", "error", "metadata"}
RESULT = {
    "request_id", "status", "decision_type", "answer", "confidence", "consensus_reached", "reasoning", "evidence_used",
    "duration_seconds", "error",
}  # fmt: skip


class Caller:
    """Calls methods of either client by name, and remembers which."""

    def __init__(self, replicas: Sequence[Api], kind: str, token: str | None) -> None:
        makers = [api.sdk if kind == "sync" else api.async_sdk for api in replicas]
        clients = [make(max_retries=1, api_key=token) for make in makers]
        #: Each call goes to the next replica.
        self._turns = itertools.cycle(client.control_plane for client in clients)
        self.called: set[str] = set()

    async def __call__(self, name: str, /, *args: Any, **options: Any) -> Any:
        self.called.add(name)
        method = getattr(next(self._turns), name)
        if inspect.iscoroutinefunction(method):
            return await method(*args, **options)
        return await in_thread(method, *args, **options)


@pytest.fixture
async def guarded(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    """With authentication: calls of the test itself, too, have the administrator's token."""
    changes = {"auth_enabled": True, "admin_users": (ADMIN,), "jwt_secret": SECRET.decode()}
    async with Api(api_settings(store_urls, schema, **changes)).running() as api:
        api.client.headers.update(bearer(own_token(SystemClock(), ADMIN)))
        yield api


@pytest.fixture
async def replicas(guarded: Api) -> AsyncIterator[list[Api]]:
    """Three, which share their actors and stores."""
    async with Api(guarded.settings).running(()) as second, Api(guarded.settings).running(()) as third:
        second.processes = third.processes = guarded.processes
        yield [guarded, second, third]
        second.processes, third.processes = {}, {}


@pytest.fixture(params=["sync", "async"])
def sdk(replicas: list[Api], request: pytest.FixtureRequest) -> Caller:
    return Caller(replicas, request.param, own_token(SystemClock(), ADMIN))


def _all_methods(namespace: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(namespace, inspect.isfunction) if not name.startswith("_")}


@asynccontextmanager
async def _endpoint(answer: str) -> AsyncIterator[str]:
    """An agent's endpoint of the plain HTTP contract that always gives one answer."""
    body = json.dumps({"answer": answer, "rationale": "because", "confidence": "high"}).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    reply += f"Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0
        )
        await reader.readexactly(length)
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with listening(serve) as server:
        yield f"http://127.0.0.1:{port_of(server)}/"


async def test_every_method_is_true_whichever_replica_answers(guarded: Api, replicas: list[Api], sdk: Caller) -> None:
    await _agents(sdk)
    await _tasks(sdk)
    await _numbers(sdk)
    await _schedules(sdk)
    await _policies(sdk, replicas)
    await _notifications(guarded, sdk)
    async with _endpoint("tea") as url:
        await _deliberates(sdk, url)
    await _audit(guarded, sdk)
    assert await sdk("deregister_agent", "a1") == {"unregistered": True}
    every = _all_methods(ControlPlaneAPI)
    assert sdk.called == every == _all_methods(AsyncControlPlaneAPI)
    assert len(every) == 50


async def test_no_method_of_the_client_answers_without_its_key(guarded: Api) -> None:
    client = Caller([guarded], "sync", None)
    for method in methods():
        if method.name == "get_health":  # open to probes of load balancers
            continue
        needed = inspect.signature(getattr(ControlPlaneAPI, method.name)).parameters.values()
        args = ["x" for p in [*needed][1:] if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        with pytest.raises(AuthenticationError):
            await client(method.name, *args)


async def _agents(sdk: Caller) -> None:
    agent = await sdk(
        "register_agent", agent_id="a1", capabilities=["x", "y"], model="m", provider="p", metadata={"k": 1}
    )
    assert agent.keys() >= AGENT
    assert {agent["status"], agent["model"], agent["provider"]} == {"ready", "m", "p"}
    assert isinstance(agent["registered_at"], float)
    listed = await sdk("list_agents")
    assert (listed["total"], listed["agents"][0].keys() >= AGENT) == (1, True)
    assert (await sdk("get_agent", "a1"))["capabilities"] == ["x", "y"]
    assert (await sdk("heartbeat", "a1"))["acknowledged"] is True
    paused = await sdk("pause_agent", "a1")
    assert paused["agent_id"] == "a1"
    assert "paused_at" in paused
    resumed = await sdk("resume_agent", "a1")
    assert "resumed_at" in resumed
    for name in ("get_agent_metrics", "get_agent_metrics_by_id"):
        metrics = await sdk(name, "a1")
        assert (metrics.keys() >= AGENT_METRICS, metrics["agent_id"], metrics["tasks_completed"]) == (True, "a1", 0)
    assert (await sdk("get_agent_health", "a1")).keys() >= HEALTH_CHECK
    with pytest.raises(NotFoundError, match="no agent nobody"):
        await sdk("heartbeat", "nobody")


async def _tasks(sdk: Caller) -> None:
    ids = [
        (await sdk("create_task", task_type="echo", payload={"n": n}, priority="high", timeout_seconds=60))["task_id"]
        for n in range(3)
    ]
    claimed = (await sdk("claim_task", agent_id="a1", capabilities=["x"], block_ms=5000))["task"]
    assert claimed.keys() >= TASK
    assert (claimed["id"], claimed["status"], claimed["priority"], claimed["payload"]) == (
        ids[0],
        "running",
        75,
        {"n": 0},
    )
    assert await sdk("complete_task", ids[0]) == {"completed": True}
    done = await sdk("get_task", ids[0])
    assert (done["status"], done["assigned_agent"]) == ("completed", "a1")
    claimed = (await sdk("claim_task", agent_id="a1"))["task"]
    assert await sdk("fail_task", claimed["id"], error="broken", requeue=False) == {"failed": True}
    failed = await sdk("get_task", claimed["id"])
    assert (failed["status"], failed["error"]) == ("failed", "broken")
    moved = await sdk("prioritize_queue", task_id=ids[2], priority="low")
    assert (moved["success"], moved["task"]["priority"]) == (True, 0)
    moved = await sdk("prioritize_queue", task_id=ids[2], position=1)
    assert (moved["success"], moved["task"]["priority"]) == (True, 0)
    queue = await sdk("get_queue")
    assert (queue["total"], queue["jobs"][0].keys() >= JOB, queue["jobs"][0]["priority"]) == (1, True, "low")
    assert await sdk("cancel_task", ids[2]) == {"cancelled": True}
    assert (await sdk("claim_task", agent_id="a1", block_ms=0))["task"] is None
    history = await sdk("get_task_history")
    assert (history["total"], history["has_more"]) == (3, False)
    assert all(entry.keys() >= HISTORY for entry in history["history"])
    with pytest.raises(ValidationError, match="task_type is required") as refused:
        await sdk("create_task")
    assert refused.value.response_body["errors"] == [{"field": "task_type", "message": "task_type is required."}]
    with pytest.raises(AragoraError, match="already") as refused:
        await sdk("cancel_task", ids[0])
    assert refused.value.status_code == 409


async def _schedules(sdk: Caller) -> None:
    made = await sdk(
        "create_schedule", name="nightly", cron="30 2 * * *", timezone="Europe/Berlin", task={"task_type": "x"}
    )
    assert (made["state"], made["cron"], made["task"]["task_type"]) == ("active", "30 2 * * *", "x")
    schedule_id = made["schedule_id"]
    assert (await sdk("list_schedules"))["schedules"] == [made]
    assert await sdk("get_schedule", schedule_id) == made
    changed = await sdk("update_schedule", schedule_id, every_seconds=60, paused=True)
    assert (changed["every_seconds"], changed["cron"], changed["state"]) == (60, None, "paused")
    with pytest.raises(ValidationError, match="five fields"):
        await sdk("update_schedule", schedule_id, cron="* * * * * *")
    assert await sdk("delete_schedule", schedule_id) == {"deleted": True}
    with pytest.raises(NotFoundError, match="no schedule"):
        await sdk("get_schedule", schedule_id)


async def _policies(sdk: Caller, replicas: Sequence[Api]) -> None:
    policy = await sdk("create_policy", name="Short tasks", task_types=["quick"], sla={"max_execution_seconds": 60})
    listed = await sdk("list_policies")
    assert (listed["total"], listed["policies"][0]["id"]) == (1, policy["id"])
    await eventually(lambda: all(replica.gateway.policy_view.of("default") for replica in replicas))
    with pytest.raises(AragoraError, match=policy["id"]) as refused:
        await sdk("create_task", task_type="quick", timeout_seconds=61)
    assert (refused.value.status_code, refused.value.response_body["policy_id"]) == (403, policy["id"])
    page = await sdk("list_violations")
    (violation,) = page["violations"]
    assert (page["total"], violation.keys() >= VIOLATION, violation["policy_id"]) == (1, True, policy["id"])
    assert (await sdk("get_violation", violation["id"]))["violation"] == violation
    assert (await sdk("update_violation", violation["id"], status="investigating"))["updated"] is True
    stats = await sdk("get_violations_stats")
    assert (stats["total"], stats["open"], stats["investigating"], stats["resolved"]) == (1, 0, 1, 0)
    with pytest.raises(ValidationError, match="status"):
        await sdk("update_violation", violation["id"], status="acknowledged")


async def _notifications(api: Api, sdk: Caller) -> None:
    replay, _ = await CHANGES["POST", "/notifications/{notification_id}/replay"](api)
    listed = await sdk("list_notifications")
    assert (listed["total"], [found["status"] for found in listed["notifications"]]) == (1, ["dead"])
    assert replay == f"/notifications/{listed['notifications'][0]['notification_id']}/replay"
    stats = await sdk("get_notification_stats")
    assert (stats["total_sent"], stats["successful"], stats["failed"], stats["success_rate"]) == (1, 0, 1, 0.0)
    assert (stats["channels_configured"], [*stats["by_channel"]]) == (1, [listed["notifications"][0]["channel"]])


async def _numbers(sdk: Caller) -> None:
    queue = await sdk("get_queue_metrics")
    assert queue.keys() >= QUEUE_METRICS
    assert (queue["pending"], queue["completed_today"]) == (0, 1)
    tasks = await sdk("get_task_metrics")
    ended = {status: count for status, count in tasks["by_status"].items() if count}
    assert (ended, tasks["total"]) == ({"completed": 1, "failed": 1, "cancelled": 1}, 3)
    assert (tasks["completion_rate"], tasks["by_type"]) == (0.5, {"echo": 3})
    system = await sdk("get_system_metrics")
    assert (system["pending"], system["running"]) == (0, 0)
    assert system["cpu"]["cores"] > 0
    assert 0 < system["memory"]["replica_bytes"] < system["memory"]["total_bytes"]
    metrics = await sdk("get_metrics")
    assert metrics.keys() >= METRICS
    assert (metrics["total_agents"], metrics["completed_jobs"]) == (1, 1)
    stats = await sdk("get_stats")
    assert stats.keys() >= {"registry", "health", "scheduler", "config"}
    assert stats["scheduler"]["by_status"] == {"completed": 1, "failed": 1, "cancelled": 1}
    assert "redis" not in json.dumps(stats)
    health = await sdk("get_health")
    assert (health["status"], health["agents"]["a1"].keys() >= HEALTH_CHECK) == ("healthy", True)
    detailed = await sdk("get_health_detailed")
    names = {component["name"] for component in detailed["components"]}
    assert {"Database", "Redis", "Scheduler", "Coordinator"} <= names
    breakers = await sdk("get_breakers")
    assert {breaker["state"] for breaker in breakers["breakers"]} <= {"closed"}
    info = await sdk("get_stream_info")
    assert info["last_event_id"] > 0


async def _audit(api: Api, sdk: Caller) -> None:
    keeper = await api.start(SEALER)
    await keeper.stop()
    await seal_all(keeper.first)
    submitted = {row.seq: row for row in await api.rows() if row.kind == "task.submitted"}
    page = await sdk("get_audit")
    assert page["total"] > len(submitted) == 3
    logs = await sdk("get_audit_logs", limit=200)
    assert logs["total"] >= page["total"]
    shown = {int(entry["entry_id"]): entry for entry in logs["entries"]}
    seq, row = next((seq, row) for seq, row in submitted.items() if seq in shown)
    entry = await sdk("get_audit_log", str(seq))
    assert entry == shown[seq]
    assert (entry["action"], entry["actor"]["id"]) == (row.kind, row.principal) == ("task.submitted", f"user:{ADMIN}")
    assert (await sdk("get_audit_stats"))["last_hash"] is not None
    assert (await sdk("verify_audit"))["valid"] is True


async def _deliberates(sdk: Caller, url: str) -> None:
    for n in range(3):
        await sdk("register_agent", agent_id=f"d{n}", capabilities=["debate"], endpoint=url)
    config = {"options": ["tea", "coffee"], "min_agents": 3}
    asked = {"content": "Tea or coffee?", "config": config, "timeout_seconds": 20}
    result = await sdk("create_deliberation", request_id="sync-1", **asked)
    assert result.keys() >= RESULT
    assert (result["answer"], result["consensus_reached"], result["status"]) == ("tea", True, "completed")
    queued = await sdk("create_deliberation", **{**asked, "request_id": "async-1", "async": True})
    assert queued == {"task_id": "async-1", "request_id": "async-1", "status": "queued"}

    async def decided() -> bool:
        return bool((await sdk("get_deliberation_status", "async-1"))["status"] == "consensus_reached")

    await eventually(decided)
    record = await sdk("get_deliberation", "async-1")
    assert (record["status"], record["result"]["answer"]) == ("completed", "tea")
    transcript = await sdk("get_deliberation_transcript", "async-1")
    assert transcript["total"] == len(transcript["events"]) > 3
    for n in range(3):
        await sdk("deregister_agent", f"d{n}")


async def test_an_empty_body_with_a_json_content_type_is_an_empty_object(api: Api) -> None:
    """As the released client sends it, on a connection where nothing more follows."""
    await api.post("/agents", {"agent_id": "a1"})
    task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda path=path: api.post(path, headers={"Content-Type": "application/json"})  # type: ignore[misc]
        for path in ("/agents/a1/heartbeat", "/agents/a1/pause", "/agents/a1/resume", f"/tasks/{task_id}/cancel")
    ]
    for call in calls:
        assert await call()
    other = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
    assert (await api.post("/tasks/claim", {"agent_id": "a1"}))["task"]["id"] == other
    assert await api.post(f"/tasks/{other}/fail", headers={"Content-Type": "application/json"}) == {"failed": True}


async def test_both_prefixes_are_one_api(api: Api) -> None:
    other = CP.replace("/api/", "/api/v1/")
    response = await api.client.post(f"{other}/agents", json={"agent_id": "a1"})
    assert response.status_code == 201
    for path in ("/agents/a1", "/agents", "/queue", "/stats", "/tasks/history"):
        preferred, alternative = await api.client.get(CP + path), await api.client.get(other + path)
        assert (preferred.status_code, preferred.json()) == (alternative.status_code, alternative.json())
    created = await api.client.post(f"{other}/deliberations", json={"content": "q", "async": True})
    assert (created.status_code, created.headers["location"].startswith(f"{other}/deliberations/")) == (202, True)


async def test_a_submit_repeated_by_the_released_client_is_one_task(api: Api) -> None:
    """It repeats a slow POST by itself and has no key of its own; the body's field is where a caller can give one."""
    plane = api.async_sdk().control_plane
    first, again = [await plane.create_task(task_type="bill", payload={}, idempotency_key="invoice-117") for _ in "12"]
    assert first == again


async def test_the_methods_that_are_listed_as_missing_are_those_that_meet_nothing(api: Api) -> None:
    listed = {
        method.name
        for method in without_route((verb, path) for path, route in _routes() for verb in route.methods or ())
    }
    for method in methods():
        path = method.path.replace("{", "").replace("}", "")
        if method.verb == "GET" and path.endswith("/stream"):
            continue  # it exists, and does not end
        response = await api.client.request(method.verb, path, json={})
        meets_nothing = response.status_code in (404, 405) and response.json()["code"] in (
            "not_found",
            "method_not_allowed",
        )
        assert meets_nothing == (method.name in listed), (method, response.text)
