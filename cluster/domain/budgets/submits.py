"""A submit under budgets: it is refused if what is spent leaves no room for it, whatever becomes of what is reserved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aragora_worker.base.money import usd
from cluster.domain.base.errors import Forbidden
from cluster.domain.budgets.accounts import BudgetSums
from cluster.domain.budgets.budget import Budget, BudgetScope, window_of


class BudgetExhausted(Forbidden):
    """A budget is used up. ``details`` are for the answer: which one, and when its next period begins."""

    default_code = "budget_exhausted"

    def __init__(self, message: str, code: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, code)
        self.args = (message, code, details)  # what pickle calls the class with
        self.details = dict(details or {})


def stopping(budgets: Iterable[Budget], task_type: str) -> list[Budget]:
    """The budgets that can refuse a submit of a task of this type. Which agent will have it, nobody knows yet."""
    return [
        budget
        for budget in budgets
        if budget.blocks and budget.scope is not BudgetScope.AGENT and budget.counts(None, task_type)
    ]


def exhausted(
    budgets: Iterable[Budget], sums: Mapping[str, BudgetSums], runs_at: float, now: float
) -> BudgetExhausted | None:
    """The refusal of a task that may start at ``runs_at``; None if no budget is used up until then."""
    for budget in budgets:
        window = window_of(budget.period, now)
        spent = sums.get(budget.id, BudgetSums()).spent
        if spent + budget.estimate_nanos > budget.limit_nanos and runs_at < window.end:
            resets = datetime.fromtimestamp(window.end, UTC).isoformat(timespec="seconds")
            return BudgetExhausted(
                f"The budget {budget.id} of {budget.about()} is used up: ${usd(spent)} of ${usd(budget.limit_nanos)} are "
                f"spent this {budget.period.value}. It begins anew at {resets}; submit with a later run_at, or have its "
                "limit raised.",
                details={"budget_id": budget.id, "resets_at": window.end},
            )
    return None
