"""A commit that the store refuses because of one report's data: everybody else's reports count, and it is refused once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cluster.domain.base.errors import ActorUnavailable, InvalidRequest
from cluster.domain.scheduling.answers import Done, Recorded
from cluster.domain.scheduling.requests import ReportRequest
from cluster.domain.tasks.task import LeaseToken, TaskStatus
from tests.actors.test_shard_odd_reports import _generation, _together
from tests.support.requests import a_report
from tests.support.shards import Cluster

#: `checked` says that our own code wrote it, so no gate before the store looks into it.
POISON = '{"x": NaN}'


async def _held(cluster: Cluster, count: int) -> list[LeaseToken]:
    """Tokens of so many new tasks, each held by an agent. A shard whose commit was too slow pauses, so time goes on."""
    for _ in range(count):
        await cluster.submit(max_retries=3)
    held = [await cluster.driven(cluster.claim_one(f"a{number}")) for number in range(count)]
    return [LeaseToken.decode(lease.token) for lease in held]


def _report(token: LeaseToken, result_json: str) -> ReportRequest:
    return a_report(
        token.task_id, attempt=token.attempt, agent_id=token.agent_id, result_json=result_json, checked=True
    )


async def _answered(cluster: Cluster, requests: list[ReportRequest]) -> list[Any]:
    """The final answer to each: who is told to ask again repeats, as a client does."""
    answers = await _together(cluster, requests)
    while again := [index for index, answer in enumerate(answers) if isinstance(answer, ActorUnavailable)]:
        for index, answer in zip(again, await _together(cluster, [requests[index] for index in again]), strict=True):
            answers[index] = answer
        await cluster.move_on(0.1)
    return answers


async def _tried(cluster: Cluster, count: int, poisoned: set[int]) -> None:
    tokens = await _held(cluster, count)
    requests = [_report(token, POISON if index in poisoned else "1") for index, token in enumerate(tokens)]
    before = await _generation(cluster)
    answers = await _answered(cluster, requests)
    assert await _generation(cluster) <= before + len(poisoned), "at most one state was dropped for each"
    for index, (token, answer) in enumerate(zip(tokens, answers, strict=True)):
        kinds = await cluster.kinds(token.task_id)
        if index in poisoned:
            assert isinstance(answer, InvalidRequest)
            assert answer.code == "malformed"
            assert kinds[:3] == ["submitted", "claimed", "retried"]
            assert await cluster.status(token.task_id) is not TaskStatus.COMPLETED
        else:
            assert isinstance(answer, Done | Recorded)
            assert kinds == ["submitted", "claimed", "completed"]
    repeated = await _answered(cluster, requests)
    assert [type(answer) for answer in repeated] == [type(answer) for answer in answers]
    for index in poisoned:
        await cluster.cancel(tokens[index].task_id)


@pytest.mark.parametrize("position", range(6))
async def test_one_refused_report_in_any_position_fails_alone(cluster: Cluster, position: int) -> None:
    await _tried(cluster, 6, {position})


@pytest.mark.parametrize("seed", range(3))
async def test_several_refused_reports_of_one_commit_fail_alone(cluster: Cluster, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(3):
        count = draw.randint(1, 12)
        await _tried(cluster, count, set(draw.sample(range(count), min(count, draw.randint(1, 3)))))


async def test_other_data_under_the_same_lease_is_still_taken(cluster: Cluster) -> None:
    """The refusal is of the data. An agent that was told to ask again, and sends other data, is not refused for it."""
    (token,) = await _held(cluster, 1)
    (first,) = await _together(cluster, [_report(token, POISON)])
    assert isinstance(first, ActorUnavailable)
    (answer,) = await _answered(cluster, [_report(token, "2")])
    assert isinstance(answer, Done | Recorded)
    assert await cluster.status(token.task_id) is TaskStatus.COMPLETED
