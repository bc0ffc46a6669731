"""Tasks on Postgres: what each write promises, and what each read shows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.domain.base.errors import Conflict, Fenced
from cluster.domain.tasks.events import Claim, Complete, Reporter
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import IdempotencyKey, TaskHead, TaskStatus
from cluster.ports.tasks import HeldLease, ShardFence, SubmitItem, TaskQuery
from cluster.ports.totals import Total
from cluster.postgres.stores import Stores
from tests.support.samples import ASKER, NOW, new_task, registration

POLICY = RetryPolicy()


def _key(key: str, body: bytes = b"body", route: str = "tasks") -> IdempotencyKey:
    return IdempotencyKey(route=route, key=key, body_digest=body)


async def _open(stores: Stores) -> list[TaskHead]:
    _, batches = await stores.tasks.open_tasks("s")
    return [task async for batch in batches for task in batch]


async def _claimed(stores: Stores, fence: ShardFence, head: TaskHead) -> TaskHead:
    claim = Claim(agent_id="a1", claim_id="c1", principal=ASKER.principal)
    transition = step(head, claim, NOW + 1, POLICY)
    assert transition.decision is not None
    (decided,) = await stores.tasks.decide(fence, [transition.decision])
    assert decided.applied
    return transition.head


async def test_a_submitted_task_is_there_with_everything_it_was_given(stores: Stores) -> None:
    task = new_task(
        payload={"deep": [1, {"ä": None}]},
        metadata={"name": "n"},
        required_capabilities=("b", "a"),
        target_agent="a1",
        max_retries=1,
        timeout_s=12.5,
        run_at=NOW + 60,
    )
    (submitted,) = await stores.tasks.submit([SubmitItem(task=task)])
    assert (submitted.task_id, submitted.seq, submitted.replayed) == (task.id, 1, False)
    stored = await stores.tasks.get("w", task.id)
    assert stored is not None
    assert stored.head() == task.head()
    assert (stored.payload, stored.metadata, stored.principal) == (task.payload, task.metadata, "user:tester")
    assert await stores.tasks.get("another-workspace", task.id) is None
    (row,) = await stores.log.read(0, 10)
    assert (row.kind, row.entity, row.workspace) == ("task.submitted", task.id, "w")
    assert TaskHead.from_log(row.entity, row.workspace, row.at, row.data) == task.head()
    assert row.verifies()


async def test_one_idempotency_key_is_one_task_within_and_across_batches(stores: Stores) -> None:
    def item() -> SubmitItem:
        return SubmitItem(task=new_task(), idempotency=_key("k"))

    batches = await asyncio.gather(*(stores.tasks.submit([item(), item()]) for _ in range(4)))
    outcomes = [outcome for batch in batches for outcome in batch]
    assert len({outcome.task_id for outcome in outcomes}) == 1
    assert [outcome.replayed for outcome in outcomes].count(False) == 1
    assert (await stores.tasks.list(TaskQuery(workspace="w")))[1] == Total(1)
    assert await stores.log.head() == 1


async def test_another_body_under_a_key_changes_nothing(stores: Stores) -> None:
    first = new_task()
    await stores.tasks.submit([SubmitItem(task=first, idempotency=_key("k"))])
    other = SubmitItem(task=new_task(), idempotency=_key("k", b"other"))
    (refused, fine) = await stores.tasks.submit([other, SubmitItem(task=new_task())])
    assert refused.conflict
    assert not fine.conflict
    with pytest.raises(Conflict):
        await stores.tasks.submit([other, SubmitItem(task=new_task())], all_or_none=True)
    assert (await stores.tasks.list(TaskQuery(workspace="w")))[1] == Total(2)


async def test_a_key_belongs_to_its_workspace_and_route_and_is_forgotten(stores: Stores) -> None:
    await stores.tasks.submit([SubmitItem(task=new_task(), idempotency=_key("k"))])
    elsewhere = new_task(origin=replace(ASKER, workspace="x"))
    for item in (
        SubmitItem(task=elsewhere, idempotency=_key("k")),
        SubmitItem(task=new_task(), idempotency=_key("k", route="tasks/batch")),
    ):
        assert not (await stores.tasks.submit([item]))[0].replayed
    await stores.tasks.forget_keys(NOW + 1)
    assert not (await stores.tasks.submit([SubmitItem(task=new_task(), idempotency=_key("k", b"new"))]))[0].conflict


async def test_a_decision_applies_once_and_only_to_what_it_expected(stores: Stores) -> None:
    fence = await stores.tasks.take_generation("s", "test")
    task = new_task(payload={"p": 1})
    await stores.tasks.submit([SubmitItem(task=task)])
    claim = step(task.head(), Claim(agent_id="a1", claim_id="c", principal="p"), NOW + 1, POLICY)
    assert claim.decision is not None
    first, again = await stores.tasks.decide(fence, [claim.decision, claim.decision])
    assert first.applied
    assert not again.applied
    report = Reporter(principal="p", agent_id="a1", attempt=1)
    done = step(claim.head, Complete(by=report, result_json='{"r": 2}'), NOW + 3, POLICY)
    assert done.decision is not None
    assert (await stores.tasks.decide(fence, [done.decision]))[0].applied
    assert not (await stores.tasks.decide(fence, [done.decision]))[0].applied
    stored = await stores.tasks.get("w", task.id)
    assert stored is not None
    assert (stored.status, stored.result, stored.completed_at) == (TaskStatus.COMPLETED, {"r": 2}, NOW + 3)
    assert [row.kind for row in await stores.log.read(0, 10)] == ["task.submitted", "task.claimed", "task.completed"]


async def test_an_older_generation_writes_nothing(stores: Stores) -> None:
    old = await stores.tasks.take_generation("s", "old")
    task = new_task()
    await stores.tasks.submit([SubmitItem(task=task)])
    new = await stores.tasks.take_generation("s", "new")
    assert new.generation > old.generation
    with pytest.raises(Fenced):
        await _claimed(stores, old, task.head())
    assert (await stores.tasks.get("w", task.id)).status is TaskStatus.PENDING  # type: ignore[union-attr]
    assert await stores.log.head() == 1
    await _claimed(stores, new, task.head())


async def test_a_shard_reads_open_tasks_and_the_cursor_of_one_moment(stores: Stores) -> None:
    fence = await stores.tasks.take_generation("s", "test")
    tasks = [new_task(created_at=NOW + index) for index in range(3)]
    await stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    running = await _claimed(stores, fence, tasks[0].head())
    cursor, _ = await stores.tasks.open_tasks("s")
    assert cursor == 4
    assert await _open(stores) == [running, tasks[1].head(), tasks[2].head()]


async def test_lists_count_truly_and_page_by_keyset(stores: Stores) -> None:
    tasks = [new_task(created_at=NOW + index, task_type="ab"[index % 2]) for index in range(5)]
    await stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    page, total = await stores.tasks.list(TaskQuery(workspace="w", task_type="a", limit=2))
    assert ([task.id for task in page], total) == ([tasks[4].id, tasks[2].id], Total(3))
    rest, _ = await stores.tasks.list(
        TaskQuery(workspace="w", task_type="a", limit=2, before=(page[-1].created_at, page[-1].id))
    )
    assert [task.id for task in rest] == [tasks[0].id]


async def test_leases_are_found_by_claimant_and_open_tasks_by_named_agent(stores: Stores) -> None:
    await stores.agents.register([registration("a1"), registration("a2")])
    fence = await stores.tasks.take_generation("s", "test")
    held, *waiting = [new_task(target_agent=name) for name in ("a1", "a1", "a2", "a1", None)]
    await stores.tasks.submit([SubmitItem(task=task) for task in (held, *waiting)])
    await _claimed(stores, fence, held.head())
    lease = HeldLease(workspace="w", agent_id="a1", task_id=held.id, claim_id="c1")
    assert await stores.tasks.held_by(ASKER.principal) == [lease]
    assert await stores.tasks.held_by("somebody-else") == []
    named = await stores.tasks.named([("w", "a1"), ("w", "a3")])
    assert sorted(named) == sorted((("w", "a1"), task.id) for task in (held, waiting[0], waiting[2]))
    assert await stores.tasks.named([("elsewhere", "a1")]) == []
