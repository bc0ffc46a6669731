"""The shard refuses what cannot be stored before it changes its state, and other requests go on: real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bench.parts.task_worker import ClusterWorker, Work
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import MAX_BYTES, check_text, write_json
from cluster.domain.scheduling.requests import HeartbeatRequest, ReportRequest
from cluster.domain.tasks.retries import ErrorClass
from cluster.domain.tasks.task import LeaseToken, Task, TaskStatus
from cluster.rpc.exchange import ExchangeCall
from tests.bench.test_task_client import Inside, inside
from tests.support.odd import no_json, odd_json, odd_texts, odd_values, samples
from tests.support.probes import eventually
from tests.support.requests import a_report
from tests.support.samples import ASKER
from tests.support.shards import Cluster

__all__ = ["inside"]


def _odd_reports() -> list[dict[str, Any]]:
    """What a report could carry that no store takes, or no reader reads back."""
    raw = samples(odd_texts, 10)
    return [
        *({"result_json": text} for text in samples(odd_json, 60)),
        *({"result_json": body.decode("latin-1")} for body in samples(no_json, 15)),
        *({"result_json": json.dumps(text, ensure_ascii=False)} for text in raw),
        *({"result_json": f'"{text}"', "checked": True} for text in raw),
        *({"error": text} for text in raw),
        *({"error": "fine", "retry_after_s": seconds} for seconds in (math.nan, math.inf, -math.inf)),
        {"result_json": "1", "principal": "user:\ud800"},
    ]


async def _generation(cluster: Cluster) -> int:
    assert cluster.shard is not None
    return int((await cluster.shard.status())["generation"])


async def _together(cluster: Cluster, requests: list[Any]) -> list[Any]:
    """Answers to requests that arrive in one batch, so that their decisions share a commit."""
    assert cluster.shard is not None
    answers: dict[int, Any] = {}
    numbered = tuple(enumerate(requests))
    while len(answers) < len(requests):
        reply = await cluster.shard.exchange(ExchangeCall(caller="replica-2", requests=numbered))
        answers.update(reply.answers)
        numbered = ()
    return [answers[number] for number in range(len(requests))]


def _report(lease: Any, **changes: Any) -> ReportRequest:
    token = LeaseToken.decode(lease.token)
    return a_report(token.task_id, **({"attempt": token.attempt, "agent_id": token.agent_id, "brief": True} | changes))


async def _task(cluster: Cluster, task_id: str) -> Task:
    task = await cluster.stores.tasks.get("w", task_id)
    assert task is not None
    return task


async def test_a_report_that_cannot_be_stored_is_refused_alone(cluster: Cluster) -> None:
    odd = _odd_reports()
    rng = random.Random(13)
    good = len(odd) // 2
    leases = []
    for number in range(len(odd) + good):
        await cluster.submit(max_retries=0)
        leases.append(await cluster.claim_one(f"a{number}"))
    generation = await _generation(cluster)
    requests = [_report(lease, **changes) for lease, changes in zip(leases, odd, strict=False)]
    requests += [_report(lease, result_json='"good"') for lease in leases[len(odd) :]]
    order = list(range(len(requests)))
    rng.shuffle(order)
    answers = dict(zip(order, await _together(cluster, [requests[index] for index in order]), strict=True))

    for index, lease in enumerate(leases):
        task = await _task(cluster, lease.head.id)
        if index >= len(odd):
            assert (task.status, task.result) == (TaskStatus.COMPLETED, "good")
            continue
        assert isinstance(answers[index], InvalidRequest), odd[index]
        assert answers[index].code == "invalid_json"
        assert task.status is TaskStatus.RUNNING, "nothing has changed"
    # Whoever was refused says so, and that is the end of this attempt and of no other.
    sentence = "Agent a0: The answer cannot be kept."
    again = [_report(held, error=sentence, error_class=ErrorClass.MALFORMED) for held in leases[: len(odd)]]
    await _together(cluster, again)
    assert await _generation(cluster) == generation, "its state was never read again"
    assert cluster.deaths == []
    first = await _task(cluster, leases[0].head.id)
    assert (first.status, first.error) == (TaskStatus.FAILED, sentence)
    rows = [row for row in await cluster.stores.log.read(0, 10_000) if row.entity == first.id]
    assert rows[-1].data["error_class"] == "malformed"


async def test_a_malformed_attempt_is_tried_again_like_any_other(cluster: Cluster) -> None:
    task_id = await cluster.submit(max_retries=1)
    await cluster.report(await cluster.claim_one(), error="odd", error_class=ErrorClass.MALFORMED)
    assert await cluster.kinds(task_id) == ["submitted", "claimed", "retried"]
    await cluster.clock.advance(2.0)
    await cluster.report(await cluster.claim_one(), error="odd", error_class=ErrorClass.MALFORMED)
    assert (await cluster.kinds(task_id))[-1] == "dead_lettered"


async def test_a_claim_with_an_unstorable_name_is_refused_before_its_grant(cluster: Cluster) -> None:
    await cluster.submit()
    generation = await _generation(cluster)
    for text in samples(odd_texts, 10):
        for changes in ({"agent_id": text}, {"claim_id": text}, {"principal": text}):
            with pytest.raises(InvalidRequest):
                await cluster.claim(**changes)
    await _together(cluster, [HeartbeatRequest(agents=(("w", "a\ud800"),))])
    assert (await cluster.claim_one()).head.attempt == 1
    assert await _generation(cluster) == generation


# --- in-cluster clients and agents ------------------------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@contextlib.asynccontextmanager
async def _working(inside: Inside, handle: Any) -> AsyncIterator[Any]:
    worker = ClusterWorker(inside.client(), handle, agent_id="w1", slots=8)
    running = asyncio.create_task(worker.run())
    try:
        yield inside.client()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _ended(inside: Inside, ids: list[str]) -> list[Task]:
    async def ended() -> Any:
        tasks = await inside.stores.tasks.get_many(ASKER.workspace, ids)
        return all(task.status.terminal for task in tasks.values()) and tasks

    tasks = await eventually(ended)
    return [tasks[task_id] for task_id in ids]


async def _status(inside: Inside) -> dict[str, Any]:
    assert inside.shard is not None
    return await inside.shard.status()


async def test_a_result_that_cannot_be_stored_fails_its_attempt_alone(inside: Inside) -> None:
    returned = [*samples(odd_values, 30), {1, 2}, object(), b"bytes", "x" * (MAX_BYTES + 1), [[]] * 3]

    async def handle(work: Work) -> Any:
        return returned[work.payload] if work.payload < len(returned) else {"fine": work.payload}

    generation = (await _status(inside))["generation"]
    async with _working(inside, handle) as client:
        count = len(returned) + 20
        ids = await client.submit_many([client.task("t", number, max_retries=0) for number in range(count)])
        tasks = await _ended(inside, ids)
    assert [task.status for task in tasks[len(returned) - 1 :]] == [TaskStatus.COMPLETED] * 21
    for task in tasks[: len(returned) - 1]:
        assert task.status is TaskStatus.FAILED
        assert task.error is not None
        assert task.error.startswith("Agent w1: The result ")
        assert len(task.error) < 200
    rows = [row for row in await inside.stores.log.read(0, 10_000) if row.kind == "task.dead_lettered"]
    assert {row.data["error_class"] for row in rows} == {"malformed"}
    assert (await _status(inside))["generation"] == generation


async def test_an_error_of_a_handler_is_stored_as_far_as_possible(inside: Inside) -> None:
    raised = [*map(ValueError, samples(odd_texts, 20)), Mute(), RecursionError("x" * 100_000)]

    async def handle(work: Work) -> Any:
        raise raised[work.payload]

    generation = (await _status(inside))["generation"]
    async with _working(inside, handle) as client:
        ids = await client.submit_many([client.task("t", number, max_retries=0) for number in range(len(raised))])
        for task, error in zip(await _ended(inside, ids), raised, strict=True):
            assert task.error is not None
            assert task.error.startswith(f"{type(error).__name__}: ")
            check_text(task.error, "error")
    assert (await _status(inside))["generation"] == generation


async def test_a_client_refuses_unstorable_reports_and_tasks_at_once(inside: Inside) -> None:
    client = inside.client()
    generation = (await _status(inside))["generation"]
    task_id = await client.submit(client.task("t", max_retries=0))
    (lease,) = await client.claim("a1", frozenset(), max_tasks=1, max_concurrency=1)
    for text in [*samples(odd_json, 20), "{", "x" * (MAX_BYTES + 1)]:
        with pytest.raises(InvalidRequest):
            await client.report(lease, result_json=text)
    for text in samples(odd_texts, 5):
        with pytest.raises(InvalidRequest):
            await client.report(lease, error=text)
    wrong = [client.task("t", value) for value in samples(odd_values, 20)]
    wrong += [client.task("t", {1, 2}), client.task("t\ud800"), client.task("t", metadata={"a": math.nan})]
    fine = [client.task("t", number) for number in range(len(wrong))]
    pairs = [report for pair in zip(wrong, fine, strict=True) for report in pair]
    outcomes = await asyncio.gather(*(client.submit(task) for task in pairs), return_exceptions=True)
    assert all(isinstance(outcome, InvalidRequest) for outcome in outcomes[::2])
    assert outcomes[1::2] == [task.id for task in fine], "those that were submitted together with them are there"
    with pytest.raises(InvalidRequest):
        await client.submit_many([client.task("t"), wrong[0]])
    await client.report(lease, result_json=write_json({"fine": True}, "result"))
    assert await inside.status(task_id) is TaskStatus.COMPLETED
    assert (await _status(inside))["generation"] == generation
