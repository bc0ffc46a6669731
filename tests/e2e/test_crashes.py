"""kill -9 of every part of a whole system, and what must still be true afterwards."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from actors.roles import KINDS
from cluster.embedded.processes import wait_until
from tests.support.agents import answering_agent
from tests.support.probes import eventually
from tests.support.system import RunningSystem, kill

TASKS = "/api/control-plane/tasks"


def _submit(system: RunningSystem, count: int, capability: str) -> list[str]:
    body = {"tasks": [{"task_type": "t", "required_capabilities": [capability]} for _ in range(count)]}
    answer = system.call("POST", f"{TASKS}/batch", body)
    assert answer.status_code == 201, answer.text
    return list(answer.json()["task_ids"])


def _claim(system: RunningSystem, agent: str, count: int) -> list[dict[str, Any]]:
    body = {"agent_id": agent, "max_tasks": count, "claim_id": f"{agent}-{count}", "block_ms": 20_000}
    answer = system.call("POST", f"{TASKS}/claim", body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["tasks"])


def _register(system: RunningSystem, agent: str, capability: str, slots: int = 100) -> None:
    body = {"agent_id": agent, "capabilities": [capability], "max_concurrency": slots}
    assert system.call("POST", "/api/control-plane/agents", body).status_code == 201


@pytest.mark.parametrize("role", KINDS)
def test_an_actor_that_is_killed_comes_back_and_nothing_is_lost(system: RunningSystem, role: str) -> None:
    _register(system, f"holder-{role}", role)
    submitted = _submit(system, 40, role)
    held = _claim(system, f"holder-{role}", 20)
    assert len(held) == 20
    before = _submitted_total(system)
    (name, pid), *others = [(name, pid) for name, pid in system.actors().items() if f"-{role}-" in name]
    assert others == []
    kill(pid)

    # Leases that were held go on; work that waited is still there; both without an error at the caller.
    reports = [{"task_id": task["id"], "lease_token": task["lease_token"], "result": 1} for task in held]
    answer = system.call("POST", f"{TASKS}/complete", {"reports": reports})
    assert [result["ok"] for result in answer.json()["results"]] == [True] * 20, answer.text
    rest = _claim(system, f"holder-{role}", 20 + 1)
    assert {task["id"] for task in (*held, *rest)} == set(submitted)
    assert wait_until(lambda: system.actors().get(name) not in (None, pid), 60), "the actor is back"
    system.wait_healthy()
    assert wait_until(lambda: _submitted_total(system) == before, 30), "counters follow the log exactly"


def _submitted_total(system: RunningSystem) -> float | None:
    response = httpx.get(f"{system.api_url}/metrics", timeout=30)
    if response.status_code != 200:
        return None
    lines = response.text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("aragora_cp_tasks_submitted_total{"))


def test_a_dedicated_agent_survives_the_kill_of_its_actor(system: RunningSystem) -> None:
    with answering_agent({"result": "done"}) as endpoint:
        own = {"dedicated": True, "num_cpus": 0.01, "memory": 1_000_000}
        body = {"agent_id": "own", "capabilities": ["own"], "endpoint": endpoint, **own}
        assert system.call("POST", "/api/control-plane/agents", body).status_code == 201
        greedy = body | {"agent_id": "greedy", "capabilities": ["greedy"], "num_cpus": 10_000}
        assert system.call("POST", "/api/control-plane/agents", greedy).status_code == 201

        def actor() -> tuple[str, int] | None:
            found = [(name, pid) for name, pid in system.actors().items() if "-dedicated-agent-" in name]
            return found[0] if len(found) == 1 else None

        def done() -> bool:
            task = {"task_type": "t", "required_capabilities": ["own"]}
            task_id = system.call("POST", TASKS, task).json()["task_id"]
            return wait_until(lambda: system.call("GET", f"{TASKS}/{task_id}").json()["status"] == "completed", 60)

        assert wait_until(lambda: actor() is not None, 60), system.actors()
        before = actor()
        assert before is not None
        assert done()
        detail = system.call("GET", "/api/control-plane/agents/own").json()["status_detail"]
        assert detail == "Its own actor runs."
        detail = system.call("GET", "/api/control-plane/agents/greedy").json()["status_detail"]
        assert "waits for a node" in detail
        kill(before[1])
        assert done()
        assert wait_until(lambda: actor() not in (None, before), 60), "the same name, another process"
        for agent_id in ("own", "greedy"):
            assert system.call("DELETE", f"/api/control-plane/agents/{agent_id}").status_code == 200
        assert wait_until(lambda: not any("-dedicated-agent-" in name for name in system.actors()), 60)


def test_a_deliberation_survives_the_kill_of_its_worker(system: RunningSystem) -> None:
    with answering_agent({"answer": "a", "rationale": "r", "confidence": "high"}) as endpoint:
        for index in range(3):
            body = {"agent_id": f"kill-voter-{index}", "capabilities": ["kill-debate"], "endpoint": endpoint}
            assert system.call("POST", "/api/control-plane/agents", body).status_code == 201
        config = {"options": ["a", "b"], "agents": [f"kill-voter-{index}" for index in range(3)]}
        asked = {"content": "Which?", "config": config, "async": True}
        ids = []
        for index in range(20):
            answer = system.call("POST", "/api/control-plane/deliberations", asked | {"request_id": f"kill-{index}"})
            assert answer.status_code == 202, answer.text
            ids.append(answer.json()["request_id"])
            if index == 10:
                (pid,) = [pid for name, pid in system.actors().items() if "-deliberation-" in name]
                kill(pid)

        def ended() -> bool:
            records = [
                system.call("GET", f"/api/control-plane/deliberations/{request_id}").json() for request_id in ids
            ]
            return all(record["terminal"] == "DECIDED" for record in records)

        assert wait_until(ended, 60)


@pytest.mark.parametrize("part", ["postgres", "redis"])
def test_an_embedded_store_that_is_killed_is_started_again(system: RunningSystem, part: str) -> None:
    title = {"postgres": "PostgreSQL", "redis": "Valkey"}[part]
    submitted = _submit(system, 30, part)
    said = len(system.output)
    dead = kill(system.processes()[part].pid)
    refused = set()

    def answers_again() -> bool:
        answer = system.call("POST", TASKS, {"task_type": "t", "required_capabilities": [part]})
        if answer.status_code == 201:
            submitted.append(answer.json()["task_id"])
        else:
            refused.add((answer.status_code, "retry-after" in answer.headers))
        return any("answers again" in line for line in system.output[said:]) and answer.status_code == 201

    assert wait_until(answers_again, 60), system.output
    assert refused <= {(503, True)}
    system.wait_healthy()
    lines = system.output[said:]
    assert f"{title} (process {dead.pid}) has died" in lines[0]
    assert f"{title} (process {system.processes()[part].pid}) answers again" in lines[1]
    for task_id in submitted:
        assert system.call("GET", f"{TASKS}/{task_id}").json()["status"] == "pending"


@pytest.mark.parametrize(
    ("parts", "code"), [pytest.param(("ray",), 5, marks=pytest.mark.longer), (("up",), -signal.SIGKILL)]
)
def test_after_a_killed_process_up_ends_and_a_restart_loses_nothing(
    system: RunningSystem, parts: tuple[str, ...], code: int
) -> None:
    """``up`` ends with one sentence when a process has died that it does not start again; the next ``up`` has
    everything, also what a killed ``up`` left running."""
    submitted = _submit(system, 30, parts[0])
    living = system.processes()
    for part in parts:
        living[part].signal(signal.SIGKILL)
    assert system.process is not None
    assert system.process.wait(90) == code, system.output
    system.start()
    for task_id in submitted:
        assert system.call("GET", f"{TASKS}/{task_id}").json()["status"] == "pending"


async def test_everything_is_killed_in_the_middle_of_a_thousand_submits(system: RunningSystem) -> None:
    acknowledged: list[str] = []

    async def submit(client: httpx.AsyncClient) -> None:
        try:
            answer = await client.post(TASKS, json={"task_type": "t", "required_capabilities": ["killed"]})
        except httpx.HTTPError:
            return
        if answer.status_code == 201:
            acknowledged.append(answer.json()["task_id"])

    async with httpx.AsyncClient(base_url=system.api_url, timeout=10) as client, asyncio.TaskGroup() as group:
        gate = asyncio.Semaphore(16)

        async def gated() -> None:
            async with gate:
                await submit(client)

        for _ in range(1000):
            group.create_task(gated())

        async def strike() -> None:
            await eventually(lambda: len(acknowledged) >= 300, what="300 acknowledged submits")
            await asyncio.to_thread(system.kill_everything)

        group.create_task(strike())

    assert 300 <= len(acknowledged) < 1000
    await asyncio.to_thread(system.start)
    async with httpx.AsyncClient(base_url=system.api_url, timeout=30) as client:
        found = [await client.get(f"{TASKS}/{task_id}") for task_id in acknowledged]
    assert [answer.status_code for answer in found] == [200] * len(acknowledged)
