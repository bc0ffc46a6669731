"""Quotas on what is stored, in Postgres: tasks that wait and agents, counted by commits at the same moment."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict
from cluster.domain.quotas.quotas import OverQuota, QuotaKind, Quotas
from cluster.domain.tasks.events import CancelRequested, Claim
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import IdempotencyKey, NewTask, Submitted
from cluster.ports.tasks import ShardFence, SubmitItem
from cluster.postgres.stores import Stores
from tests.support.policies import a_violation
from tests.support.samples import ASKER, NOW, new_task, registration

OTHER = replace(ASKER, workspace="other")


async def _set(stores: Stores, workspace: str = "w", **limits: int | None) -> Quotas:
    fields = {QuotaKind(name): value for name, value in limits.items()}
    after = (await stores.quotas.get(workspace)).changed(fields, ASKER.principal, NOW)
    await stores.quotas.put(after, after.record(ASKER))
    return after


def _item(key: str | None = None, body: bytes = b"body", **changes: Any) -> SubmitItem:
    idem = None if key is None else IdempotencyKey(route="tasks", key=key, body_digest=body)
    return SubmitItem(task=new_task(**changes), idempotency=idem, within_quotas=True)


async def _waiting(stores: Stores, workspace: str = "w") -> int:
    return (await stores.quotas.used(workspace, 1000))[QuotaKind.QUEUED_TASKS]


async def _one(stores: Stores, item: SubmitItem) -> Submitted:
    (outcome,) = await stores.tasks.submit([item])
    return outcome


async def _end(stores: Stores, fence: ShardFence, task: NewTask) -> None:
    transition = step(task.head(), CancelRequested(principal="p"), NOW, RetryPolicy())
    assert transition.decision is not None
    (decided,) = await stores.tasks.decide(fence, [transition.decision])
    assert decided.applied


async def test_what_does_not_fit_is_not_stored_and_its_key_stays_free(stores: Stores) -> None:
    await _set(stores, queued_tasks=2)
    fence = await stores.tasks.take_generation("scheduler-0", "one")
    first = _item("k1")
    free = SubmitItem(task=new_task(origin=OTHER))
    outcomes = await stores.tasks.submit([first, free, _item("k2"), _item("k3"), _item("k3"), _item("k1")])
    over = OverQuota(QuotaKind.QUEUED_TASKS, 2, 0)
    assert [outcome.over for outcome in outcomes] == [None, None, None, over, over, None]
    assert outcomes[5].replayed
    assert outcomes[5].task_id == first.task.id
    assert await _waiting(stores) == 2
    assert await _waiting(stores, "other") == 1
    rows = [row.entity for row in await stores.log.read(0, 1000) if row.kind == "task.submitted"]
    assert sorted(rows) == sorted(outcome.task_id for outcome in outcomes[:3])
    assert (await _one(stores, _item("k3"))).over == OverQuota(QuotaKind.QUEUED_TASKS, 2, 2)
    repeat, conflict = await _one(stores, _item("k1")), await _one(stores, _item("k1", b"another"))
    assert (repeat.replayed, conflict.conflict) == (True, True)
    await _end(stores, fence, first.task)
    late = await _one(stores, _item("k3"))
    assert (late.over, late.replayed) == (None, False)
    assert await _waiting(stores) == 2


async def test_a_batch_is_stored_whole_or_not_at_all(stores: Stores) -> None:
    await _set(stores, queued_tasks=3)
    assert (await stores.tasks.submit([_item(f"a#{n}") for n in range(2)], all_or_none=True))[1].over is None
    outcomes = await stores.tasks.submit([_item(f"b#{n}") for n in range(2)], all_or_none=True)
    assert {outcome.over for outcome in outcomes} == {OverQuota(QuotaKind.QUEUED_TASKS, 3, 2)}
    assert await _waiting(stores) == 2
    again = await stores.tasks.submit([_item(f"a#{n}") for n in range(2)], all_or_none=True)
    assert [outcome.replayed for outcome in again] == [True, True]
    with pytest.raises(Conflict):
        await stores.tasks.submit([_item(f"a#{n}", b"other") for n in range(2)], all_or_none=True)


async def test_violations_are_recorded_with_their_task_only(stores: Stores) -> None:
    await _set(stores, queued_tasks=1)
    for n, is_stored in enumerate((True, False)):
        violation = a_violation(id=f"violation_{n}")
        item = replace(_item(), violations=[violation])
        (outcome,) = await stores.tasks.submit([item], all_or_none=True)
        assert (outcome.over is None) == is_stored
        rows = await stores.pool.rows("select id from policy_violations where id = $1", violation.id)
        assert bool(rows) == is_stored


@pytest.mark.parametrize("seed", range(3))
async def test_submits_at_once_are_never_more_than_fit(stores: Stores, seed: int) -> None:
    """A dumb model: whoever is refused was refused while as many waited as may, and nothing else is kept out."""
    chance = random.Random(seed)
    limit = chance.randint(1, 30)
    await _set(stores, queued_tasks=limit)
    keys = [f"key-{chance.randrange(40)}" for _ in range(60)]

    async def submit(some: list[str]) -> list[tuple[str, Submitted]]:
        return list(zip(some, await stores.tasks.submit([_item(key) for key in some]), strict=True))

    groups = []
    while keys:
        size = chance.randint(1, 6)
        groups.append(keys[:size])
        keys = keys[size:]
    answers = [each for group in await asyncio.gather(*map(submit, groups)) for each in group]
    stored = {outcome.task_id for _, outcome in answers if outcome.over is None}
    assert await _waiting(stores) == len(stored) <= limit
    by_key: dict[str, set[str]] = {}
    for key, outcome in answers:
        if outcome.over is None:
            by_key.setdefault(key, set()).add(outcome.task_id)
    assert all(len(ids) == 1 for ids in by_key.values()), "repeats are one task"
    if any(outcome.over is not None for _, outcome in answers):
        assert len(stored) == limit, "nobody is refused while there is room"


async def test_without_a_quota_nothing_is_refused(stores: Stores) -> None:
    assert (await _one(stores, _item())).over is None
    await _set(stores, queued_tasks=1)
    assert (await _one(stores, _item())).over is not None
    await _set(stores, queued_tasks=None, agents=5)
    assert (await _one(stores, _item())).over is None


async def test_tasks_that_run_do_not_count_as_waiting(stores: Stores) -> None:
    await _set(stores, queued_tasks=1)
    fence = await stores.tasks.take_generation("scheduler-0", "one")
    item = _item()
    await _one(stores, item)
    claim = Claim(agent_id="a1", claim_id="c1", principal="p")
    decision = step(item.task.head(), claim, NOW, RetryPolicy()).decision
    assert decision is not None
    await stores.tasks.decide(fence, [decision])
    assert (await _one(stores, _item())).over is None
    assert await stores.quotas.used("w", 9) == {
        QuotaKind.AGENTS: 0,
        QuotaKind.QUEUED_TASKS: 1,
        QuotaKind.RUNNING_TASKS: 1,
    }


async def test_agents_register_up_to_the_quota_at_once(stores: Stores) -> None:
    await _set(stores, agents=3)
    register = stores.agents.register_within_quotas
    found = await asyncio.gather(*(register([registration(f"a{n}")]) for n in range(8)))
    refused = [each for each in found if isinstance(each, OverQuota)]
    assert refused == [OverQuota(QuotaKind.AGENTS, 3, 3)] * 5
    (known,) = next(each for each in found if not isinstance(each, OverQuota))
    assert known.agent is not None
    again = await register([registration(known.agent.agent_id, model="m2")])
    assert isinstance(again, list)
    assert not again[0].created
    assert isinstance(await register([registration("b1", origin=OTHER)]), list)


async def test_a_batch_of_agents_is_registered_whole_or_not_at_all(stores: Stores) -> None:
    await _set(stores, agents=2)
    register = stores.agents.register_within_quotas
    assert await register([registration(f"a{n}") for n in range(3)]) == OverQuota(QuotaKind.AGENTS, 2, 0)
    assert (await stores.quotas.used("w", 9))[QuotaKind.AGENTS] == 0
    key = IdempotencyKey(route="agents", key="k", body_digest=b"d")
    both = [replace(registration("a1"), idempotency=key), registration("a2")]
    assert isinstance(await register(both), list)
    assert isinstance(await register(both), list), "a repeat"


async def test_of_two_changes_at_once_one_is_refused(stores: Stores) -> None:
    for _ in range(2):
        before = await stores.quotas.get("w")
        changes = [before.changed({QuotaKind.AGENTS: n}, "p", NOW) for n in (1, 2)]
        puts = (stores.quotas.put(after, after.record(ASKER)) for after in changes)
        found = await asyncio.gather(*puts, return_exceptions=True)
        (conflict,) = [each for each in found if each is not None]
        assert isinstance(conflict, Conflict)
        assert (await stores.quotas.get("w")).version == before.version + 1
