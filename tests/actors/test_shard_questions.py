"""Questions to people on a real store: what an answer, or the end of its time, makes of a task, over crashes of the shard."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.errors import Conflict
from cluster.domain.scheduling.answers import Lease
from cluster.domain.scheduling.requests import AnswerRequest, AskRequest
from cluster.domain.tasks.events import Answered, Asked, Reporter
from cluster.domain.tasks.progress import Progress
from cluster.domain.tasks.questions import Answer, Question, Verdict
from cluster.domain.tasks.rules import TaskRules
from cluster.domain.tasks.task import LeaseToken, Task, TaskDetail, TaskStatus
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.shards import Cluster

YES = Answer(verdict=Verdict.APPROVED, principal="user:ann", value_json="true")


def _question(**fields: Any) -> Question:
    return Question(text="Which one?", time_limit_s=60.0, **fields)


async def _task(cluster: Cluster, task_id: str) -> Task:
    task = await cluster.stores.tasks.get("w", task_id)
    assert task is not None
    return task


async def _asked(cluster: Cluster, lease: Lease, question: Question, **fields: Any) -> None:
    token = LeaseToken.decode(lease.token)
    await cluster.client.request(
        AskRequest(
            workspace="w",
            task_id=token.task_id,
            event=Asked(by=Reporter.of(ASKER.principal, token), question=question),
            **fields,
        )
    )


async def _answered(cluster: Cluster, task_id: str, attempt: int, answer: Answer = YES) -> None:
    await cluster.client.request(
        AnswerRequest(workspace="w", task_id=task_id, event=Answered(attempt=attempt, answer=answer))
    )


async def _is(cluster: Cluster, task_id: str, detail: TaskDetail) -> bool:
    return (await _task(cluster, task_id)).status_detail is detail


@pytest.mark.parametrize("default_json", ['{"x": 1}', None], ids=["default", "none"])
@pytest.mark.parametrize("by_holder", [False, True], ids=["submit", "holder"])
async def test_the_time_for_an_answer_goes_on_over_a_crash(
    cluster: Cluster, by_holder: bool, default_json: str | None
) -> None:
    question = _question(default_json=default_json)
    task_id = await cluster.submit(question=None if by_holder else question)
    if by_holder:
        await _asked(cluster, await cluster.claim_one(), question)
    await cluster.crash()
    await cluster.start()
    assert (await _task(cluster, task_id)).status_detail is TaskDetail.INPUT_REQUIRED
    await cluster.clock.advance(59.0)
    assert (await _task(cluster, task_id)).status_detail is TaskDetail.INPUT_REQUIRED
    await cluster.clock.advance(1.5)
    ends = TaskDetail.FAILED if default_json is None else TaskDetail.QUEUED if by_holder else TaskDetail.COMPLETED
    await eventually(lambda: _is(cluster, task_id, ends))
    task = await _task(cluster, task_id)
    assert task.question is not None
    if default_json is None:
        assert (task.error, task.question.verdict) == ("Nobody answered its question within 60 s.", None)
    else:
        assert (task.question.verdict, task.question.answer) == (Verdict.DEFAULT, {"x": 1})
        assert task.result == (None if by_holder else {"x": 1})
        assert task.question.answered_by == "system"


async def test_neither_run_time_nor_retries_are_spent_while_people_think(cluster: Cluster) -> None:
    task_id = await cluster.submit(timeout_s=10.0, max_retries=0)
    await _asked(
        cluster, await cluster.claim_one(), Question(text="?"), progress=Progress(checkpoint_json='{"page": 2}')
    )
    task = await _task(cluster, task_id)
    assert task.progress is not None
    assert task.progress.checkpoint == {"page": 2}, "durable when the holder is answered"
    await cluster.clock.advance(1_000.0)
    await _answered(cluster, task_id, 1)
    lease = await cluster.claim_one("a2")
    assert (lease.head.attempt, lease.head.retries) == (2, 0)
    assert await cluster.kinds(task_id) == ["submitted", "claimed", "asked", "answered", "claimed"]


async def test_the_total_time_goes_on_and_a_cancellation_ends_the_wait(cluster: Cluster) -> None:
    late = await cluster.submit(question=Question(text="?"), rules=TaskRules(total_timeout_s=50.0))
    cancelled = await cluster.submit(question=_question())
    await cluster.cancel(cancelled)
    assert await cluster.status(cancelled) is TaskStatus.CANCELLED
    await cluster.clock.advance(51.0)
    await eventually(lambda: _is(cluster, late, TaskDetail.TIMEOUT))
    for task_id in (late, cancelled):
        with pytest.raises(Conflict) as refused:
            await _answered(cluster, task_id, 0)
        assert refused.value.code == "no_open_question"


async def test_a_late_answer_is_not_that_to_the_next_question(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    for attempt in (1, 2):
        await _asked(cluster, await cluster.claim_one(), _question())
        if attempt == 1:
            await _answered(cluster, task_id, 1)
    with pytest.raises(Conflict) as refused:
        await _answered(cluster, task_id, 1)
    assert refused.value.code == "no_open_question"
    await _answered(cluster, task_id, 2, Answer(verdict=Verdict.REJECTED, principal="user:bob", reason="no"))
    task = await _task(cluster, task_id)
    assert task.question is not None
    assert (task.question.attempt, task.question.verdict, task.question.reason) == (2, Verdict.REJECTED, "no")
    assert (await cluster.claim_one()).head.attempt == 3


async def test_whoever_holds_no_lease_cannot_ask(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    lease = await cluster.claim_one()
    await cluster.report(lease, released=True)
    again = await cluster.claim_one()
    with pytest.raises(Conflict) as refused:
        await _asked(cluster, lease, _question())
    assert refused.value.code == "lease_lost"
    await cluster.report(again, result_json="1")
    with pytest.raises(Conflict):
        await _asked(cluster, again, _question())
    assert (await _task(cluster, task_id)).question is None
