"""Deliberations that ask a person, on real stores and a real shard: kills at every commit, cancellations, deleted workspaces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import actors.deliberation.worker as workers
from actors.deliberation import people
from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.base.errors import Conflict, StoreUnavailable
from cluster.domain.base.log import record_for
from cluster.domain.deliberation.person import PRINCIPAL, question_task_id
from cluster.domain.deliberation.stored import Deliberation, JournalAppend
from cluster.domain.scheduling.requests import AnswerRequest
from cluster.domain.tasks.events import Answered
from cluster.domain.tasks.questions import Answer, Verdict
from cluster.domain.tasks.task import PERSON_TYPE, Task, TaskDetail, TaskStatus
from cluster.ports.tasks import TaskQuery
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.stores import Stores
from tests.support.access import a_workspace
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.shards import Cluster
from tests.support.workers import Workshop, saying

SPLIT = {"options": ["A", "B"], "agents": ["a", "b"], "consensus": "majority", "rounds": 0, "ask_person": {}}
SAYS_B = Answer(verdict=Verdict.ANSWERED, principal="user:ann", value_json='"B"')


@pytest.fixture
async def shop(cluster: Cluster) -> Workshop:
    made = Workshop(cluster.stores, cluster.bell)
    made.shard = cluster.client.request
    await made.register(a=saying("A"), b=saying("B"))
    return made


async def _question(shop: Workshop, request_id: str) -> Task | None:
    return await shop.stores.tasks.get(ASKER.workspace, question_task_id(request_id))


async def _asked(shop: Workshop, request_id: str) -> Task:
    found: Task = await eventually(lambda: _question(shop, request_id), what=f"the question of {request_id}")
    return found


async def _waits(shop: Workshop, request_id: str) -> Task:
    """When the worker has let the deliberation go, and waits for the answer."""
    task = await _asked(shop, request_id)
    assert task.status_detail is TaskDetail.INPUT_REQUIRED
    return task


async def _answer(cluster: Cluster, request_id: str, answer: Answer = SAYS_B) -> None:
    request = AnswerRequest(
        workspace="w", task_id=question_task_id(request_id), event=Answered(attempt=0, answer=answer)
    )
    await cluster.driven(cluster.client.request(request))


async def _kinds(shop: Workshop, request_id: str) -> list[str]:
    return [event.kind for event in await shop.stores.deliberations.journal(ASKER.workspace, request_id)]


async def _questions(stores: Stores) -> list[Task]:
    tasks, _ = await stores.tasks.list(TaskQuery(workspace=ASKER.workspace, task_type=PERSON_TYPE))
    return tasks


class Dying:
    """The store of a worker that is killed around its n-th append: if ``after``, the write is there, and the worker learns
    nothing of it."""

    def __init__(self, stores: Stores, appends: int, *, after: bool = True) -> None:
        self._store = stores.deliberations
        self._left = appends
        self._after = after
        self.died = asyncio.Event()
        self.buried = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, items: Sequence[JournalAppend]) -> list[bool]:
        self._left -= 1
        done = await self._store.append(items) if self._left > 0 or (self._left == 0 and self._after) else []
        if self._left <= 0:
            self.died.set()
            await self.buried.wait()
            raise StoreUnavailable("The worker is dead.")
        return done


async def test_a_worker_killed_at_any_commit_asks_once_and_loses_no_answer(shop: Workshop, cluster: Cluster) -> None:
    for kills in range(40):
        request_id = f"killed-{kills}"
        store = Dying(shop.stores, 1 + kills // 2, after=kills % 2 == 1)
        first = shop.worker(store)
        await first.start()
        await shop.admit(shop.admission(request_id, **SPLIT))
        died = asyncio.ensure_future(store.died.wait())
        asked = asyncio.ensure_future(_asked(shop, request_id))
        await asyncio.wait({died, asked}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            await _answer(cluster, request_id)
            ended = asyncio.ensure_future(shop.ended(request_id))
            await asyncio.wait({died, ended}, return_when=asyncio.FIRST_COMPLETED)
        was_killed = store.died.is_set()
        await first.stop()
        store.buried.set()
        died.cancel()
        if was_killed:
            second = shop.worker()
            await second.start()
            if not asked.done():
                await asked
                await _answer(cluster, request_id)
            deliberation = await shop.ended(request_id)
            await second.stop()
        else:
            deliberation = await ended
        _is_whole(deliberation, await _kinds(shop, request_id))
        assert len(await _questions(shop.stores)) == kills + 1
        if not was_killed:
            assert kills >= 8
            return
    pytest.fail("it was never left alone")


def _is_whole(deliberation: Deliberation, kinds: list[str]) -> None:
    assert deliberation.result is not None
    assert (deliberation.terminal, deliberation.result["answer"]) == ("DECIDED", "B")
    person = deliberation.result["person"]
    assert (person["verdict"], person["answered_by"]) == ("answered", "user:ann")
    for kind in ("person_asked", "person_answered", "ended"):
        assert kinds.count(kind) == 1, kind


async def test_an_answer_while_no_worker_runs_is_found(shop: Workshop, cluster: Cluster) -> None:
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1", **SPLIT))
    await _waits(shop, "d1")
    await worker.stop()
    await _answer(cluster, "d1")
    worker = shop.worker()
    await worker.start()
    _is_whole(await shop.ended("d1"), await _kinds(shop, "d1"))
    await worker.stop()


async def test_an_answer_is_found_though_no_doorbell_rings(
    shop: Workshop, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "LOOK_S", 0.05)
    monkeypatch.setattr("actors.scheduler.commits._HEARD_OF", {})
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1", **SPLIT))
    await _waits(shop, "d1")
    await _answer(cluster, "d1")
    _is_whole(await shop.ended("d1"), await _kinds(shop, "d1"))
    await worker.stop()


@pytest.mark.parametrize("killed", ["not", "before the end", "after the end"])
async def test_a_cancellation_takes_the_question_back(shop: Workshop, cluster: Cluster, killed: str) -> None:
    first = shop.worker()
    await first.start()
    await shop.admit(shop.admission("d1", **SPLIT))
    await _waits(shop, "d1")
    await first.stop()
    store = Dying(shop.stores, 1, after=killed == "after the end") if killed != "not" else None
    worker = shop.worker(store)
    await worker.start()
    await _cancel(shop, "d1")
    if store is not None:
        await asyncio.wait_for(store.died.wait(), 20)
        assert (await _waits_no_more(shop)).status is TaskStatus.CANCELLED
        await worker.stop()
        store.buried.set()
        worker = shop.worker()
        await worker.start()
    ended = await shop.ended("d1")
    await worker.stop()
    assert ended.terminal == "CANCELLED"
    task = await _waits_no_more(shop)
    assert task.status is TaskStatus.CANCELLED
    assert task.metadata == {"deliberation_id": "d1"}
    with pytest.raises(Conflict):
        await _answer(cluster, "d1")


async def _cancel(shop: Workshop, request_id: str) -> None:
    record = record_for(ASKER, shop.clock.now(), "deliberation.cancel_requested", request_id)
    assert await shop.stores.deliberations.cancel(ASKER.workspace, request_id, record)
    await shop.bell.notify(WakeTopic.DELIBERATIONS)


async def _waits_no_more(shop: Workshop) -> Task:
    task = await _question(shop, "d1")
    assert task is not None
    return task


async def test_a_question_that_is_cancelled_leaves_the_outcome_of_the_agents(shop: Workshop, cluster: Cluster) -> None:
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1", **SPLIT))
    task = await _waits(shop, "d1")
    await cluster.driven(cluster.cancel(task.id))
    ended = await shop.ended("d1")
    await worker.stop()
    assert ended.terminal == "NO_CONSENSUS"
    assert ended.result is not None
    assert ended.result["person"]["ended_as"] == "cancelled"


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_deleted_workspace_waits_for_no_person(shop: Workshop, restarts: bool) -> None:
    await shop.stores.access.create_workspace(ASKER, a_workspace(ASKER.workspace))
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1", **SPLIT))
    await _waits(shop, "d1")
    if restarts:
        await worker.stop()
    await shop.stores.access.put_workspace(ASKER, a_workspace(ASKER.workspace, state=WorkspaceState.DELETED))
    await shop.bell.notify(*WakeTopic)
    if restarts:
        worker = shop.worker()
        await worker.start()
    ended = await shop.ended("d1")
    await worker.stop()
    assert ended.terminal == "CANCELLED"
    assert (await _waits_no_more(shop)).status is TaskStatus.CANCELLED


async def test_deliberations_that_wait_for_people_leave_room(
    shop: Workshop, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "AT_ONCE", 1)
    worker = shop.worker()
    await worker.start()
    await shop.admit(shop.admission("d1", **SPLIT), shop.admission("d2", **SPLIT))
    tasks = [await _waits(shop, "d1"), await _waits(shop, "d2")]
    assert {task.question.asked_by for task in tasks if task.question is not None} == {PRINCIPAL}
    for request_id in ("d2", "d1"):
        await _answer(cluster, request_id)
        _is_whole(await shop.ended(request_id), await _kinds(shop, request_id))
    await worker.stop()
