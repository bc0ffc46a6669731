"""A bug in the scheduler is answered to the request that met it; other requests wait for a moment at most."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from cluster.domain.base.errors import ActorUnavailable, InternalError, NotFound
from cluster.domain.scheduling.answers import Done
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.requests import (
    CancelRequest,
    ClaimRequest,
    ExplainRequest,
    HeartbeatRequest,
    PrioritizeRequest,
    SchedulerRequest,
)
from cluster.domain.tasks.task import TaskStatus
from cluster.ports.tasks import SubmitItem
from cluster.rpc.exchange import ExchangeCall
from tests.support.probes import eventually
from tests.support.requests import a_cancel
from tests.support.samples import ASKER, new_task
from tests.support.shards import Cluster

#: No caller of the API can send it: the routes know the priorities.
UNKNOWN_PRIORITY = 33


def _core(cluster: Cluster) -> SchedulerCore:
    assert cluster.shard is not None
    assert cluster.shard._state is not None
    return cluster.shard._state.core


async def _generation(cluster: Cluster) -> int:
    assert cluster.shard is not None
    return int((await cluster.shard.status())["generation"])


async def _together(cluster: Cluster, *requests: SchedulerRequest) -> list[Any]:
    """Answers to requests that arrive in one batch."""
    assert cluster.shard is not None
    answers: dict[int, Any] = {}
    numbered = tuple(enumerate(requests))
    while len(answers) < len(requests):
        reply = await cluster.shard.exchange(ExchangeCall(caller="replica-2", requests=numbered))
        answers.update(reply.answers)
        numbered = ()
    return [answers[number] for number in range(len(requests))]


def _cancel(task_id: str) -> CancelRequest:
    return a_cancel(task_id)


def _prioritize(task_id: str, priority: int) -> PrioritizeRequest:
    return PrioritizeRequest(workspace="w", principal=ASKER.principal, task_id=task_id, priority=priority)


def _explain(task_id: str) -> ExplainRequest:
    return ExplainRequest(workspace="w", task_id=task_id)


def _claim(agent_id: str) -> ClaimRequest:
    return ClaimRequest(
        workspace="w",
        agent_id=agent_id,
        principal=ASKER.principal,
        capabilities=frozenset(),
        max_concurrency=1,
        max_tasks=None,
        claim_id=f"claim-{agent_id}",
        client_claim_id=False,
        wait=False,
    )


def _planted(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("planted")


async def _open(cluster: Cluster, count: int) -> list[str]:
    ids = [await cluster.submit() for _ in range(count)]
    await eventually(lambda: _core(cluster).open_tasks == count)
    return ids


async def test_a_bug_that_changed_nothing_reaches_its_caller_only(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await _open(cluster, 2)
    generation = await _generation(cluster)
    cancelled, broken, heartbeat, explained = await _together(
        cluster,
        _cancel(first),
        _prioritize(second, UNKNOWN_PRIORITY),
        HeartbeatRequest(agents=(("w", "a1"),)),
        _explain(second),
    )
    assert isinstance(cancelled, Done)
    assert await cluster.status(first) is TaskStatus.CANCELLED
    assert (type(broken), broken.code, broken.status) == (InternalError, "internal_error", 500)
    assert heartbeat.cancelling == ()
    assert explained.head.id == second
    (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "PrioritizeRequest" in logged.getMessage()
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], ValueError)
    assert await _generation(cluster) == generation
    assert (await cluster.claim_one()).head.id == second
    assert cluster.deaths == []


async def test_a_bug_while_state_is_only_read_keeps_the_state(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await _open(cluster, 2)
    generation = await _generation(cluster)
    monkeypatch.setattr(_core(cluster)._dependencies, "waits_for", _planted)
    explained, cancelled = await _together(cluster, _explain(first), _cancel(second))
    assert isinstance(explained, InternalError)
    assert isinstance(cancelled, Done)
    assert await _generation(cluster) == generation
    assert cluster.deaths == []


async def test_a_bug_about_an_ended_task_reaches_its_caller_only(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    ended, unreadable = await _open(cluster, 2)
    for task_id in (ended, unreadable):
        await cluster.cancel(task_id)
    generation = await _generation(cluster)
    await cluster.stores.pool.execute("update tasks set rules = '{\"after\": 5}' where id = $1", unreadable)
    broken, again, unknown = await _together(cluster, _cancel(unreadable), _cancel(ended), _cancel("task_unknown"))
    assert isinstance(broken, InternalError)
    assert isinstance(again, Done)
    assert isinstance(unknown, NotFound)
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]
    assert await _generation(cluster) == generation
    assert cluster.deaths == []


async def test_a_bug_amid_a_change_makes_the_shard_read_its_state_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The task is out of the queue and has no lease: served on, nobody would ever get it."""
    task_id, other = await _open(cluster, 2)
    generation = await _generation(cluster)
    monkeypatch.setattr(_core(cluster)._tasks, "_acquire", _planted)
    before, broken, after = await _together(cluster, _cancel(other), _claim("a1"), _explain(task_id))
    assert isinstance(before, ActorUnavailable), "what was not durable yet is to be asked again"
    assert (type(broken), broken.code) == (InternalError, "internal_error")
    assert isinstance(after, ActorUnavailable)
    assert await cluster.status(other) is TaskStatus.PENDING
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)

    async def serves_again() -> bool:
        await cluster.clock.advance(0.1)
        state = cluster.shard._state if cluster.shard is not None else None
        return state is not None and not state.failed

    await eventually(serves_again)
    assert await _generation(cluster) == generation + 1
    await cluster.cancel(other)
    assert (await cluster.claim_one()).head.id == task_id
    assert await cluster.kinds(task_id) == ["submitted", "claimed"]
    assert await cluster.kinds(other) == ["submitted", "cancelled"]
    assert cluster.deaths == []


@pytest.mark.parametrize("step", ["apply", "tick", "take_output", "ended_before"])
async def test_a_bug_without_a_caller_makes_the_shard_read_its_state_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (delayed,) = [await cluster.submit(run_at=cluster.clock.now() + 60)]
    await eventually(lambda: _core(cluster).open_tasks == 1)
    generation = await _generation(cluster)
    broken = _core(cluster)
    monkeypatch.setattr(broken, step, _planted)
    if step == "ended_before":
        assert cluster.shard is not None
        assert cluster.shard._state is not None
        await cluster.shard._look_up_ends(cluster.shard._state, {"w": ["task_unknown"]})
    task_id = await cluster.submit()

    async def is_replaced() -> bool:
        await cluster.clock.advance(61 if step == "tick" else 0.1)
        assert cluster.shard is not None
        state = cluster.shard._state
        return state is not None and not state.failed and state.core is not broken

    await eventually(is_replaced)
    assert await _generation(cluster) == generation + 1
    await eventually(lambda: _core(cluster).open_tasks == 2)
    await cluster.clock.advance(61)
    leases = [await cluster.claim_one("a1"), await cluster.claim_one("a2")]
    assert {lease.head.id for lease in leases} == {delayed, task_id}
    assert cluster.deaths == []


class SlowReads:
    """A task store whose reads of one task wait for the test."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    async def get(self, workspace: str, task_id: str) -> Any:
        self.asked.set()
        await self.answer.wait()
        return await self._tasks.get(workspace, task_id)


async def test_no_answer_outlives_the_state_that_it_was_decided_in(cluster: Cluster) -> None:
    """A task that the shard has not read of yet is cancelled while another request of the batch takes its time, and the
    shard loses its state meanwhile."""
    shard = cluster.shard
    assert shard is not None
    state = shard._state
    assert state is not None
    reads = shard._ended_tasks._tasks = SlowReads(cluster.stores.tasks)
    task = new_task(created_at=cluster.clock.now())
    await cluster.stores.tasks.submit([SubmitItem(task=task)])  # and no ring
    await cluster.stores.tasks.take_generation("scheduler-0", "another")
    asking = asyncio.create_task(_together(cluster, _cancel(task.id), _cancel("task_unknown")))
    await reads.asked.wait()
    shard._send([])
    await eventually(lambda: state.failed)
    reads.answer.set()
    cancelled, unknown = await asking
    assert isinstance(cancelled, ActorUnavailable)
    assert isinstance(unknown, NotFound)
    assert await cluster.status(task.id) is TaskStatus.PENDING
