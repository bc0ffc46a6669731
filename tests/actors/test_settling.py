"""Entries of budgets on a real store: what is added to days changes no sum, and old days and violations go."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from actors.settling import FOLD_AFTER_S, SettlingKeeper
from cluster.domain.audit.retention import DAY_S, RULE_SET
from cluster.domain.base.log import record_for
from cluster.domain.budgets.accounts import Account, Accounts, BudgetSums
from cluster.domain.budgets.budget import CREATED, Budget, BudgetScope, Period, Window, window_of
from cluster.domain.budgets.entries import Reservation
from cluster.domain.budgets.levels import LevelReached
from cluster.domain.policies.policy import CREATED as POLICY_CREATED
from cluster.domain.policies.policy import DELETED, UPDATED, VERSIONS_REMOVED, Policy
from cluster.domain.policies.violations import RECORDED, removing
from cluster.domain.scheduling.spending import with_entry
from cluster.domain.tasks.events import Claim, Complete, LeaseExpired, Reporter
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import TaskHead
from cluster.ports.budgets import Spending
from cluster.ports.tasks import ShardFence, SubmitItem
from cluster.postgres.stores import Stores
from tests.support.budgets import a_budget
from tests.support.policies import a_policy, a_violation
from tests.support.retention import Hurried, settling_keeper
from tests.support.samples import ASKER, NOW, new_task

pytestmark = pytest.mark.usefixtures("validated")

POLICY = RetryPolicy()


class Attempts:
    """Attempts with entries, as a shard commits them."""

    def __init__(self, stores: Stores, fence: ShardFence, budgets: list[Budget]) -> None:
        self.stores = stores
        self.fence = fence
        self.accounts = Accounts()
        for budget in budgets:
            self.accounts.put(budget, NOW)

    async def step(
        self, head: TaskHead, event: Claim | Complete | LeaseExpired, at: float, cost: int | None
    ) -> TaskHead:
        transition = step(head, event, at, POLICY)
        decision = with_entry(self.accounts, head, transition, cost)
        assert decision is not None
        (decided,) = await self.stores.tasks.decide(self.fence, [decision])
        assert decided.applied
        return transition.head

    async def begin(self, at: float, workspace: str = "w", agent_id: str = "a1") -> TaskHead:
        task = new_task(created_at=at, origin=replace(ASKER, workspace=workspace))
        await self.stores.tasks.submit([SubmitItem(task=task)])
        return await self.step(task.head(), Claim(agent_id=agent_id, claim_id="c", principal="p"), at, None)

    async def end(self, head: TaskHead, at: float, cost: int | None) -> None:
        by = Reporter(principal="p", agent_id=head.assigned_agent, attempt=head.attempt)
        await self.step(head, Complete(by=by, result_json="1"), at, cost)


async def _made(stores: Stores) -> list[Budget]:
    budgets = [
        a_budget(id="budget_1", period=Period.DAY, limit_nanos=10**9),
        a_budget(id="budget_2", period=Period.MONTH, limit_nanos=10**9, estimate_nanos=7),
        a_budget(id="budget_3", period=Period.MONTH, limit_nanos=10**9, scope=BudgetScope.AGENT, subject="a2"),
        a_budget(id="budget_4", workspace="x", limit_nanos=10**9),
    ]
    for budget in budgets:
        origin = replace(ASKER, workspace=budget.workspace)
        await stores.budgets.create(budget, budget.record(origin, NOW, CREATED), None)
    return budgets


def _keeper(stores: Stores, now: float, batch: int = 3) -> SettlingKeeper:
    return settling_keeper(stores, Hurried(now), batch)


async def _seen(stores: Stores, budgets: list[Budget], now: float) -> tuple[object, ...]:
    """All that is shown or counted of what attempts have cost."""
    month = window_of(Period.MONTH, now)
    spending: list[list[Spending]] = []
    for workspace in ("w", "x"):
        spending.append(
            list(await stores.budgets.spending(workspace, Window(month.start - 90 * DAY_S, month.end), 1000))
        )
    sums = [await stores.budgets.all_sums(budgets, at) for at in (now, now - DAY_S, now - 30 * DAY_S)]
    reservations = sorted(await stores.budgets.open_reservations(), key=lambda each: each.task_id)
    return spending, sums, reservations


async def _rows(stores: Stores, table: str) -> int:
    return int(await stores.pool.value(f"select count(*) from {table}"))


@pytest.mark.parametrize("seed", range(3))
async def test_adding_entries_to_their_days_changes_no_sum(stores: Stores, seed: int) -> None:
    chance = random.Random(seed)
    budgets = await _made(stores)
    attempts = Attempts(stores, await stores.tasks.take_generation("main", "test"), budgets)
    running, now = [], NOW - 35 * DAY_S
    for _ in range(30):
        now += chance.random() * 2 * DAY_S
        head = await attempts.begin(now, chance.choice(["w", "w", "x"]), chance.choice(["a1", "a2"]))
        if chance.random() < 0.8:
            await attempts.end(head, now + chance.random() * 100, chance.choice([None, 0, 5, 100]))
        else:
            running.append(head)
        if chance.random() < 0.2:
            before = await _seen(stores, budgets, now)
            await _keeper(stores, now + 9 * DAY_S, batch=chance.randint(1, 4))._fold()
            assert await _seen(stores, budgets, now) == before
            assert await _rows(stores, "budget_entries") == len(running)
    for head in running:
        await attempts.end(head, now + 1, 3)
    before = await _seen(stores, budgets, now)
    await asyncio.gather(*(_keeper(stores, now + DAY_S).look() for _ in range(2)))
    assert await _seen(stores, budgets, now) == before
    assert await _rows(stores, "budget_entries") == 0


async def test_what_has_just_ended_or_runs_stays_an_entry(stores: Stores) -> None:
    budgets = await _made(stores)
    attempts = Attempts(stores, await stores.tasks.take_generation("main", "test"), budgets)
    await attempts.begin(NOW)
    await attempts.end(await attempts.begin(NOW), NOW, 5)
    await _keeper(stores, NOW + FOLD_AFTER_S - 1).look()
    assert (await _rows(stores, "budget_entries"), await _rows(stores, "budget_days")) == (2, 0)
    await _keeper(stores, NOW + FOLD_AFTER_S + 1).look()
    assert (await _rows(stores, "budget_entries"), await _rows(stores, "budget_days")) == (1, 1)
    (reservation,) = await stores.budgets.open_reservations()
    assert isinstance(reservation, Reservation)
    sums = await stores.budgets.sums("w", {"budget_1": window_of(Period.DAY, NOW)})
    assert sums["budget_1"] == BudgetSums(spent=5, reserved=reservation.nanos, attempts=2)


async def test_old_days_and_violations_go_and_younger_ones_stay(stores: Stores) -> None:
    budgets = await _made(stores)
    attempts = Attempts(stores, await stores.tasks.take_generation("main", "test"), budgets)
    for days in (60, 50, 30, 1):
        at = NOW - days * DAY_S
        await attempts.end(await attempts.begin(at), at, 5)
        violation = a_violation(id=f"violation_{days}", at=at)
        await stores.policies.record([violation], [violation.record(ASKER, RECORDED, at)])
    asker = replace(ASKER, workspace="x")
    rule = {"violation_days": 0}
    await stores.retention.set_rule("x", rule, record_for(asker, NOW, RULE_SET, "x", rule))
    other = a_violation(id="violation_x", workspace="x", at=NOW - 90 * DAY_S)
    await stores.policies.record([other], [other.record(asker, RECORDED, other.at)])
    await _keeper(stores, NOW, batch=1).look()
    found = await stores.budgets.spending("w", Window(NOW - 99 * DAY_S, NOW + DAY_S), 10)
    assert len(found) == 2
    left = await stores.pool.rows("select id from policy_violations order by id")
    assert [row["id"] for row in left] == ["violation_1", "violation_x"]
    rows = [
        row
        for row in await stores.log.read(0, 1000)
        if row.kind in ("budget.days_removed", "policy.violations_removed")
    ]
    assert sum(len(row.data.get("days", ())) for row in rows) == 2
    assert sorted(each for row in rows for each in row.data.get("violation_ids", ())) == [
        "violation_30",
        "violation_50",
        "violation_60",
    ]


async def test_levels_of_old_periods_go_and_those_of_the_present_stay(stores: Stores) -> None:
    budget, other = a_budget(id="budget_1", limit_nanos=10), a_budget(id="budget_x", workspace="x", limit_nanos=10)
    for each in (budget, other):
        await stores.budgets.create(each, each.record(replace(ASKER, workspace=each.workspace), NOW, CREATED), None)
    rule = {"spending_days": 0}
    await stores.retention.set_rule("x", rule, record_for(replace(ASKER, workspace="x"), NOW, RULE_SET, "x", rule))
    for days in (60, 1):
        at = NOW - days * DAY_S
        for each in (budget, other):
            account = Account.new(each, at)
            account.spent = 8
            await stores.budgets.tell([LevelReached.of(account, at)])
    await _keeper(stores, NOW, batch=1).look()
    left = await stores.pool.rows("select budget_id, at from budget_levels order by budget_id, at")
    assert [(row["budget_id"], row["at"]) for row in left] == [
        ("budget_1", NOW - DAY_S),
        ("budget_x", NOW - 60 * DAY_S),
        ("budget_x", NOW - DAY_S),
    ]
    (row,) = [row for row in await stores.log.read(0, 1000) if row.kind == "budget.levels_removed"]
    assert (row.workspace, row.data) == ("w", {"budget_ids": ["budget_1"]})


async def _version(stores: Stores, policy: Policy, at: float) -> Policy:
    after = replace(policy.of_version(policy.content() | {"priority": policy.version}, "user:t", at))
    await stores.policies.change(after, after.record(ASKER, at, UPDATED))
    return after


async def test_old_versions_go_but_those_that_count_or_are_named(stores: Stores) -> None:
    made = a_policy(id="policy_1", created_at=NOW - 900 * DAY_S, changed_at=NOW - 900 * DAY_S)
    await stores.policies.create(made, made.record(ASKER, made.created_at, POLICY_CREATED), None)
    policy = await _version(stores, made, NOW - 100 * DAY_S)
    policy = await _version(stores, policy, NOW - 50 * DAY_S)
    policy = await _version(stores, policy, NOW - DAY_S)  # the third version counted until yesterday
    named = a_violation(policy_version=2, at=NOW)
    await stores.policies.record([named], [named.record(ASKER, RECORDED, NOW)])
    gone = a_policy(id="policy_2", created_at=NOW - 900 * DAY_S, changed_at=NOW - 900 * DAY_S)
    await stores.policies.create(gone, gone.record(ASKER, gone.created_at, POLICY_CREATED), None)
    await stores.policies.remove(gone, gone.record(ASKER, NOW - DAY_S, DELETED))
    await _keeper(stores, NOW, batch=1).look()

    async def kept() -> dict[str, list[int]]:
        found = {}
        for name in ("policy_1", "policy_2"):
            versions, _ = await stores.policies.versions("w", name, 100)
            found[name] = [version.version for version in versions]
        return found

    assert await kept() == {"policy_1": [4, 3, 2], "policy_2": [1]}
    await stores.policies.remove_violations([named.id], removing("w", [named.id], NOW))
    await _keeper(stores, NOW + 60 * DAY_S, batch=1).look()
    assert await kept() == {"policy_1": [4], "policy_2": []}
    rows = [row for row in await stores.log.read(0, 1000) if row.kind == VERSIONS_REMOVED]
    assert {policy_id for row in rows for policy_id in row.data["policy_ids"]} == {"policy_1", "policy_2"}
