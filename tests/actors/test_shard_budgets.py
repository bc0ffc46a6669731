"""Budgets in a shard on a real store: what claims reserve, what reports settle, and what a killed shard finds again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from cluster.domain.budgets.accounts import Account
from cluster.domain.budgets.budget import CREATED, DELETED, UPDATED, Budget, BudgetScope, Mode, window_of
from cluster.domain.scheduling.explain import TaskView
from cluster.domain.scheduling.requests import ExplainRequest
from cluster.ports.wake_ups import WakeTopic
from tests.support.budgets import a_budget
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.shards import TTL_S, Cluster

pytestmark = pytest.mark.usefixtures("validated")


async def _known(cluster: Cluster) -> None:
    """Returns when the shard has read all rows of now."""
    head = await cluster.stores.log.head()
    await cluster.bell.notify(*WakeTopic)

    async def known() -> bool:
        return cluster.shard is not None and (await cluster.shard.status())["cursor"] >= head

    await eventually(known)


async def _make(cluster: Cluster, **fields: Any) -> Budget:
    now = cluster.clock.now()
    budget = a_budget(created_at=now, changed_at=now, **fields)
    asker = replace(ASKER, workspace=budget.workspace)
    await cluster.stores.budgets.create(budget, budget.record(asker, now, CREATED), None)
    await _known(cluster)
    return budget


async def _change(cluster: Cluster, budget: Budget, **fields: Any) -> Budget:
    now = cluster.clock.now()
    after = budget.changed(fields, ASKER.principal, now)
    await cluster.stores.budgets.change(after, after.record(ASKER, now, UPDATED))
    await _known(cluster)
    return after


def _accounts(cluster: Cluster) -> dict[str, Account]:
    assert cluster.shard is not None
    assert cluster.shard._state is not None
    return {account.budget.id: account for account in cluster.shard._state.core.accounts.accounts(cluster.clock.now())}


async def _stored(cluster: Cluster, budget: Budget) -> tuple[int, int]:
    """(spent, reserved) as the rows have it."""
    sums = await cluster.stores.budgets.sums("w", {budget.id: window_of(budget.period, cluster.clock.now())})
    return sums[budget.id].spent, sums[budget.id].reserved


async def _agree(cluster: Cluster, budget: Budget) -> tuple[int, int]:
    """(spent, reserved) of memory, which are those of the rows."""
    account = _accounts(cluster)[budget.id]
    assert (account.spent, account.reserved) == await _stored(cluster, budget)
    return account.spent, account.reserved


async def _explain(cluster: Cluster, task_id: str) -> TaskView:
    view: TaskView = await cluster.client.request(ExplainRequest(workspace="w", task_id=task_id))
    return view


async def test_a_used_up_budget_starts_nothing_until_an_attempt_costs_less(cluster: Cluster) -> None:
    budget = await _make(cluster, limit_nanos=10, estimate_nanos=4)
    for _ in range(4):
        await cluster.submit()
    first, second = await cluster.claim_one("a1"), await cluster.claim_one("a2")
    assert await _agree(cluster, budget) == (0, 8)
    waiting = asyncio.ensure_future(cluster.claim("a3", wait=True))
    assert await cluster.claim("a4") == ()
    await cluster.report(first, result_json="1", cost_nanos=3)
    assert await _agree(cluster, budget) == (3, 4)
    assert await cluster.claim("a4") == (), "three are spent and four reserved: four more do not fit"
    await cluster.report(second, result_json="1", cost_nanos=2)
    (third,) = await asyncio.wait_for(waiting, 20)
    assert await _agree(cluster, budget) == (5, 4)
    await cluster.report(third, error="It broke.", requeue=False)
    assert await _agree(cluster, budget) == (9, 0), "nobody said what it cost, so what was reserved counts"
    assert await cluster.claim("a4") == ()


async def test_sums_after_a_kill_are_those_of_the_rows(cluster: Cluster) -> None:
    budget = await _make(cluster, limit_nanos=10, estimate_nanos=3)
    for _ in range(5):
        await cluster.submit()
    done, held, _lost = [await cluster.claim_one(agent_id) for agent_id in ("a1", "a2", "a3")]
    await cluster.report(done, result_json="1", cost_nanos=2)
    await cluster.crash()
    assert await _stored(cluster, budget) == (2, 6)
    await cluster.start()
    assert await _agree(cluster, budget) == (2, 6)
    assert await cluster.claim("a4") == (), "a restart gives nothing away"
    await cluster.report(held, result_json="1", cost_nanos=1)
    assert await _agree(cluster, budget) == (3, 3)

    await cluster.clock.advance(TTL_S + 1)
    await eventually(lambda: _is(cluster, budget, (6, 0)))


async def _is(cluster: Cluster, budget: Budget, expected: tuple[int, int]) -> bool:
    return await _stored(cluster, budget) == expected


async def test_an_attempt_that_reached_nobody_has_cost_nothing(cluster: Cluster) -> None:
    budget = await _make(cluster)
    await cluster.submit()
    await cluster.report(await cluster.claim_one(), unsent=True)
    assert await _agree(cluster, budget) == (0, 0)


async def test_budgets_of_an_agent_and_of_a_type_concern_no_others(cluster: Cluster) -> None:
    await cluster.submit(task_type="echo")  # before the budget, so that it moves to a sub-queue of its own
    await _known(cluster)
    of_type = await _make(cluster, scope=BudgetScope.TASK_TYPE, subject="echo", limit_nanos=1)
    of_agent = await _make(cluster, id="budget_2", scope=BudgetScope.AGENT, subject="a2", limit_nanos=1)
    await cluster.submit(task_type="echo")
    for _ in range(3):
        await cluster.submit(task_type="nightly")
    found = [(await cluster.claim_one("a1", max_concurrency=9)).head.task_type for _ in range(2)]
    assert found == ["echo", "nightly"], "one echo is all that its budget has room for"
    assert (await cluster.claim_one("a2", max_concurrency=9)).head.task_type == "nightly"
    assert await cluster.claim("a2", max_concurrency=9) == (), "it has no room left"
    assert (await cluster.claim_one("a1", max_concurrency=9)).head.task_type == "nightly"
    assert await _agree(cluster, of_type) == (0, 1)
    assert await _agree(cluster, of_agent) == (0, 1)


async def test_a_new_day_a_raised_limit_and_a_deletion_start_what_waits(cluster: Cluster) -> None:
    budget = await _make(cluster, limit_nanos=1)
    for _ in range(4):
        await cluster.submit()
    await cluster.report(await cluster.claim_one(), result_json="1")
    for change in ("day", "limit", "deletion"):
        waiting = asyncio.ensure_future(cluster.claim("a1", wait=True))
        assert await cluster.claim("a2") == ()
        if change == "day":
            await cluster.clock.advance(window_of(budget.period, cluster.clock.now()).end - cluster.clock.now())
        elif change == "limit":
            budget = await _change(cluster, budget, limit_nanos=2)
        else:
            await cluster.stores.budgets.remove(budget, budget.record(ASKER, cluster.clock.now(), DELETED))
            await _known(cluster)
        (lease,) = await asyncio.wait_for(waiting, 20)
        await cluster.report(lease, result_json="1", cost_nanos=1)
    assert _accounts(cluster) == {}


async def test_a_soft_budget_counts_and_stops_nothing(cluster: Cluster) -> None:
    budget = await _make(cluster, mode=Mode.SOFT, limit_nanos=1)
    for _ in range(2):
        await cluster.submit()
        await cluster.report(await cluster.claim_one(), result_json="1", cost_nanos=7)
    assert await _agree(cluster, budget) == (14, 0)


async def test_a_throttled_type_comes_after_others_of_its_priority(cluster: Cluster) -> None:
    await _make(
        cluster, scope=BudgetScope.TASK_TYPE, subject="echo", mode=Mode.THROTTLE, limit_nanos=10, estimate_nanos=6
    )
    for task_type in ("echo", "echo", "nightly"):
        await cluster.submit(task_type=task_type)
    await _known(cluster)
    order = []
    for _ in range(3):
        lease = await cluster.claim_one()
        order.append(lease.head.task_type)
        await cluster.report(lease, result_json="1", cost_nanos=4)
    assert order == ["echo", "echo", "nightly"], "four tenths are no level"
    for task_type in ("echo", "nightly"):
        await cluster.submit(task_type=task_type)
    await _known(cluster)
    assert (await cluster.claim_one()).head.task_type == "nightly"


async def test_each_level_has_one_row_also_after_a_restart(cluster: Cluster) -> None:
    budget = await _make(cluster, limit_nanos=10)

    async def rows() -> list[Any]:
        return [row for row in await cluster.stores.log.read(0, 1000) if row.kind == "budget.level_reached"]

    async def spend(nanos: int, level: int) -> None:
        await cluster.submit()
        await cluster.report(await cluster.claim_one(), result_json="1", cost_nanos=nanos)

        async def told() -> bool:
            await cluster.clock.advance(1.0)
            return [row.data["level"] for row in await rows()][-1:] == [level]

        await eventually(told)

    await spend(5, 50)
    await cluster.crash()
    await cluster.start()
    await spend(4, 90)
    found = await rows()
    assert [(row.entity, row.data["level"], row.data["spent_nanos"]) for row in found] == [
        (budget.id, 50, 5),
        (budget.id, 90, 9),
    ]


async def test_entries_name_the_budgets_that_counted_them_when_they_began(cluster: Cluster) -> None:
    old = await _make(cluster)
    await cluster.submit()
    lease = await cluster.claim_one()
    young = await _make(cluster, id="budget_2")
    await cluster.report(lease, result_json="1", cost_nanos=5)
    assert await _agree(cluster, old) == (5, 0)
    assert await _agree(cluster, young) == (0, 0)
    await cluster.crash()
    await cluster.start()
    assert await _agree(cluster, young) == (0, 0)


async def test_a_workspace_without_budgets_has_no_entries(cluster: Cluster) -> None:
    await _make(cluster, workspace="other")
    await cluster.submit()
    lease = await cluster.claim_one()
    await cluster.report(lease, result_json="1", cost_nanos=5)
    assert await cluster.stores.pool.rows("select * from budget_entries") == []


async def test_a_repeated_report_settles_nothing_twice(cluster: Cluster) -> None:
    budget = await _make(cluster)
    await cluster.submit()
    lease = await cluster.claim_one()
    for cost in (2, 3):
        await cluster.report(lease, result_json="1", cost_nanos=cost)
    assert await _agree(cluster, budget) == (2, 0)


async def test_many_claims_at_once_overspend_nothing(cluster: Cluster) -> None:
    budget = await _make(cluster, limit_nanos=10, estimate_nanos=3)
    for _ in range(8):
        await cluster.submit()
    await _known(cluster)
    claims = [cluster.claim(f"a{n}") for n in range(8)]
    leases = [lease for answer in await asyncio.gather(*claims) for lease in answer]
    assert len(leases) == 3
    assert await _agree(cluster, budget) == (0, 9)
