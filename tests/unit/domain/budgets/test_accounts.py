"""Random lives of accounts, held to the entries that a store would have of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cluster.domain.budgets.accounts import Accounts, BudgetSums
from cluster.domain.budgets.budget import Budget, BudgetScope, Mode, Period, window_of
from cluster.domain.budgets.entries import Reservation
from tests.support.budgets import a_budget
from tests.support.samples import NOW

AGENTS = ("a1", "a2")
TYPES = ("echo", "nightly")
SCOPES = (
    (BudgetScope.WORKSPACE, ""),
    *((BudgetScope.AGENT, agent_id) for agent_id in AGENTS),
    *((BudgetScope.TASK_TYPE, name) for name in TYPES),
)


@dataclass
class Row:
    """An entry as the store has it."""

    reservation: Reservation
    spent: int | None = None


class Life(RuleBasedStateMachine):
    """Claims are refused by the accounts alone; what they let through is added up from the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts = Accounts()
        self.budgets: dict[str, Budget] = {}
        self.rows: list[Row] = []
        self.now = NOW
        self.numbers = itertools.count(1)

    def in_period(self, budget: Budget) -> list[Row]:
        window = window_of(budget.period, self.now)
        return [
            row
            for row in self.rows
            if budget.id in row.reservation.budgets and window.start <= row.reservation.at < window.end
        ]

    def running(self) -> list[Row]:
        return [row for row in self.rows if row.spent is None]

    @initialize(
        scope=st.sampled_from(SCOPES), period=st.sampled_from(Period), mode=st.sampled_from((Mode.HARD, Mode.SOFT))
    )
    def first(self, scope: tuple[BudgetScope, str], period: Period, mode: Mode) -> None:
        self.make(scope, period, mode, 5, 2)

    @rule(
        scope=st.sampled_from(SCOPES),
        period=st.sampled_from(Period),
        mode=st.sampled_from((Mode.HARD, Mode.SOFT)),
        limit=st.integers(3, 30),
        estimate=st.integers(1, 3),
    )
    def make(self, scope: tuple[BudgetScope, str], period: Period, mode: Mode, limit: int, estimate: int) -> None:
        made = a_budget(
            id=f"budget_{next(self.numbers)}",
            scope=scope[0],
            subject=scope[1],
            period=period,
            mode=mode,
            limit_nanos=limit,
            estimate_nanos=estimate,
        )
        self.budgets[made.id] = made
        assert self.accounts.put(made, self.now)
        assert not self.accounts.put(made, self.now), "a row that is read twice does no harm"

    @precondition(lambda self: self.budgets)
    @rule(data=st.data(), limit=st.integers(3, 60))
    def change(self, data: st.DataObject, limit: int) -> None:
        before = self.budgets[data.draw(st.sampled_from(sorted(self.budgets)))]
        after = replace(before, limit_nanos=limit, version=before.version + 1)
        self.budgets[after.id] = after
        assert self.accounts.put(after, self.now)

    @precondition(lambda self: self.budgets)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        budget_id = data.draw(st.sampled_from(sorted(self.budgets)))
        del self.budgets[budget_id]
        assert self.accounts.remove(budget_id)
        assert not self.accounts.remove(budget_id)

    @rule(agent_id=st.sampled_from(AGENTS), task_type=st.sampled_from(TYPES))
    def claim(self, agent_id: str, task_type: str) -> None:
        counting = [budget for budget in self.budgets.values() if budget.counts(agent_id, task_type)]
        nanos = max((budget.estimate_nanos for budget in counting), default=0)
        has_room = all(
            budget.mode is Mode.SOFT or self.used(budget) + nanos <= budget.limit_nanos for budget in counting
        )
        assert self.accounts.admits("w", agent_id, task_type, self.now) == has_room
        if not has_room:
            return
        reservation = self.accounts.reserve(f"task_{next(self.numbers)}", 1, "w", agent_id, task_type, self.now)
        assert (reservation is None) == (not counting)
        if reservation is not None:
            assert reservation.nanos == nanos
            self.rows.append(Row(reservation))

    def used(self, budget: Budget) -> int:
        return sum(row.reservation.nanos if row.spent is None else row.spent for row in self.in_period(budget))

    @precondition(lambda self: self.running())
    @rule(data=st.data(), cost=st.none() | st.integers(0, 6))
    def end(self, data: st.DataObject, cost: int | None) -> None:
        row = self.running()[data.draw(st.integers(0, len(self.running()) - 1))]
        settlement = self.accounts.settle(row.reservation.task_id, cost)
        assert settlement is not None
        assert settlement.is_known == (cost is not None)
        row.spent = settlement.nanos
        assert row.spent == (row.reservation.nanos if cost is None else cost)
        assert self.accounts.settle(row.reservation.task_id, 99) is None, "an attempt is settled once"

    @rule(passed_s=st.sampled_from((1.0, 40_000.0, 2_000_000.0)))
    def wait(self, passed_s: float) -> None:
        self.now += passed_s

    @rule()
    def restart(self) -> None:
        sums = {}
        for budget in self.budgets.values():
            rows = self.in_period(budget)
            sums[budget.id] = BudgetSums(
                spent=sum(row.spent for row in rows if row.spent is not None),
                reserved=sum(row.reservation.nanos for row in rows if row.spent is None),
            )
        self.accounts = Accounts()
        self.accounts.load(self.budgets.values(), sums, [row.reservation for row in self.running()], self.now)

    @invariant()
    def sums_are_those_of_the_rows(self) -> None:
        for account in self.accounts.accounts(self.now):
            rows = self.in_period(account.budget)
            assert account.spent == sum(row.spent for row in rows if row.spent is not None)
            assert account.reserved == sum(row.reservation.nanos for row in rows if row.spent is None)
        assert len(self.accounts.accounts(self.now)) == len(self.budgets)

    @invariant()
    def nothing_is_overspent_but_by_attempts_that_cost_more_than_reserved(self) -> None:
        for account in self.accounts.accounts(self.now):
            budget = account.budget
            if budget.mode is Mode.SOFT or budget.version > 1:  # a lowered limit may be below what is spent
                continue
            more = sum(max(0, (row.spent or 0) - row.reservation.nanos) for row in self.in_period(budget))
            assert account.used <= budget.limit_nanos + more


def test_sums_follow_the_rows_and_no_claim_overspends() -> None:
    run_state_machine_as_test(Life, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def _short(accounts: Accounts, claims: int) -> None:
    """Uses the budget up, by attempts that run, until a claim finds no room."""
    for n in range(claims):
        assert accounts.admits("w", "a1", "echo", NOW)
        accounts.reserve(f"task_{n}", 1, "w", "a1", "echo", NOW)
    assert not accounts.admits("w", "a1", "echo", NOW)


def test_room_is_told_of_only_when_there_is_some() -> None:
    accounts = Accounts()
    accounts.put(a_budget(limit_nanos=2), NOW)
    _short(accounts, 2)
    assert accounts.take_free() == set()
    accounts.settle("task_0", None)
    assert accounts.take_free() == set(), "what is spent leaves no room"
    accounts.settle("task_1", 0)
    assert accounts.take_free() == {"w"}
    assert accounts.take_free() == set()


def test_a_raised_limit_and_a_deletion_make_room() -> None:
    accounts = Accounts()
    budget = a_budget(limit_nanos=1)
    accounts.put(budget, NOW)
    _short(accounts, 1)
    accounts.put(replace(budget, limit_nanos=2, version=2), NOW)
    assert accounts.take_free() == {"w"}
    accounts.reserve("task_9", 1, "w", "a1", "echo", NOW)
    assert not accounts.admits("w", "a1", "echo", NOW)
    accounts.remove(budget.id)
    assert accounts.take_free() == {"w"}


def test_the_next_period_is_told_only_while_a_claim_is_short() -> None:
    accounts = Accounts()
    accounts.put(a_budget(limit_nanos=1), NOW)
    assert accounts.opens_at("w", NOW) is None
    _short(accounts, 1)
    end = window_of(Period.DAY, NOW).end
    assert accounts.opens_at("w", NOW) == end
    assert accounts.admits("w", "a1", "echo", end)


def test_a_throttled_type_loses_a_level_at_each_level_reached() -> None:
    accounts = Accounts()
    accounts.put(
        a_budget(scope=BudgetScope.TASK_TYPE, subject="echo", mode=Mode.THROTTLE, limit_nanos=100, estimate_nanos=5),
        NOW,
    )
    seen = []
    for n in range(20):
        seen.append(accounts.lowered("w", "echo", NOW))
        accounts.reserve(f"task_{n}", 1, "w", "a1", "echo", NOW)
    assert seen == [0] * 10 + [1] * 5 + [2] * 3 + [3] * 2
    assert accounts.lowered("w", "nightly", NOW) == 0
    assert not accounts.admits("w", "a1", "echo", NOW), "all of it is used, so it blocks as a hard one"


def test_levels_are_told_once_in_a_period_and_again_of_another_limit() -> None:
    accounts = Accounts()
    budget = a_budget(limit_nanos=4)
    accounts.put(budget, NOW)
    accounts.reserve("task_1", 1, "w", "a1", "echo", NOW)
    assert accounts.untold(NOW) == []
    accounts.settle("task_1", 3)
    (account,) = accounts.untold(NOW)
    assert account.level == 75
    accounts.tell(budget.id, account.start, 75)
    assert accounts.untold(NOW) == []
    accounts.put(replace(budget, name="Other", version=2), NOW)
    assert accounts.untold(NOW) == [], "another name is no reason to tell again"
    accounts.put(replace(budget, limit_nanos=6, version=3), NOW)
    assert [account.level for account in accounts.untold(NOW)] == [50]
