"""Real kills under load, short: the long run with every fault is ``make chaos``. One system for the module."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from aragora_sdk import AragoraAsyncClient

from tests.chaos.checker import check
from tests.chaos.history import FAILED, Answer, History
from tests.chaos.nemesis import Nemesis, Planned
from tests.chaos.target import Target, running_target
from tests.chaos.workload import Load, Workload
from tests.support.probes import eventually
from tests.support.system import RunningSystem


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with running_target() as running:
        yield running


def _at_once(name: str) -> Planned:
    return Planned(name=name, wait_s=0.0, hold_s=1.0)


async def _under_load(target: Target, seed: int, *names: str) -> History:
    """A history in which each fault struck while acknowledged writes were going on."""
    load = Load(seed=seed, duration_s=8.0, run=f"{seed}-", workers=4, ordered=30, shared=0)
    async with Workload.open(target.target, load) as workload:
        nemesis, history = Nemesis(target), workload.history

        async def faults() -> None:
            for name in names:
                await _more(lambda: len(history.reports), 20)
                history.faults.append(await nemesis.strike(_at_once(name)))
            await _more(lambda: len(history.reports), 20)

        await workload.run(faults)
        return history


async def _more(count: Callable[[], int], by: int) -> None:
    start = count()
    await eventually(lambda: count() >= start + by)


async def test_postgres_restarts_under_load(target: Target) -> None:
    history = await _under_load(target, 1, "postgres-kill")
    assert check(history) == []
    failed = [call for call in history.calls if call.answer in FAILED]
    assert {call.answer for call in failed} == {Answer.TRY_LATER}
    assert "submit" in {call.name for call in failed}


async def test_redis_is_flushed_and_restarted_under_load(target: Target) -> None:
    history = await _under_load(target, 2, "redis-flush", "redis-kill")
    assert check(history) == []
    assert [call for call in history.calls if call.answer in FAILED] == []


async def test_no_call_of_the_released_client_fails_when_the_shard_is_killed(target: Target) -> None:
    """Four workers and two submitters, as a user writes them: without a retry of their own."""
    done: list[str] = []
    submitted: list[str] = []
    over = asyncio.Event()
    async with AragoraAsyncClient(base_url=target.target.api_url, max_retries=1) as client:
        plane = client.control_plane

        async def submit() -> None:
            while not over.is_set():
                answer = await plane.create_task(task_type="t", payload={}, required_capabilities=["sdk"])
                submitted.append(answer["task_id"])

        async def work(agent: str) -> None:
            await plane.register_agent(agent_id=agent, capabilities=["sdk"])
            while not over.is_set() or len(done) < len(submitted):
                task = (await plane.claim_task(agent_id=agent, capabilities=["sdk"], block_ms=1000))["task"]
                await plane.heartbeat(agent)
                if task is not None:
                    await plane.complete_task(task["id"])
                    done.append(task["id"])

        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(submit())
            for number in range(4):
                group.create_task(work(f"sdk-{number}"))
            await _more(lambda: len(done), 20)
            await Nemesis(target).strike(_at_once("kill-scheduler"))
            await _more(lambda: len(done), 20)
            over.set()
        ended = [await plane.get_task(task_id) for task_id in submitted]
    assert sorted(done) == sorted(submitted)
    assert {task["status"] for task in ended} == {"completed"}


def test_two_systems_run_side_by_side(target: Target, system: RunningSystem) -> None:
    other = target.system
    for running in (system, other):
        created = running.call("POST", "/api/control-plane/tasks", {"task_type": "t", "required_capabilities": ["two"]})
        assert created.status_code == 201
    task_id = created.json()["task_id"]
    assert system.call("GET", f"/api/control-plane/tasks/{task_id}").status_code == 404
    shared = {(c.ip, c.port) for c in _listeners(system)} & {(c.ip, c.port) for c in _listeners(other)}
    assert shared == set()


def _listeners(system: RunningSystem) -> list[Any]:
    found = []
    for member in system.members():
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(member.pid).net_connections("inet")
            found += [connection.laddr for connection in connections if connection.status == psutil.CONN_LISTEN]
    assert found
    return found


def test_frozen_parts_do_not_stop_a_clean_end(target: Target, system: RunningSystem) -> None:
    """Ctrl-C ends everything also when a worker of Ray is stopped by a signal, and nothing of another system. Last of
    this file: it ends the file's own system."""
    ending = target.system
    pid = next(pid for name, pid in ending.actors().items() if "-telemetry-" in name)
    member = next(process for process in ending.members() if process.pid == pid)
    member.signal(signal.SIGSTOP)
    everybody = ending.members()
    assert ending.stop() == 0
    assert [process for process in everybody if process.alive()] == []
    system.wait_healthy(10)
