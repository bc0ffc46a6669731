"""Bodies and answers about budgets and spending. Money is a text in US dollars, since JSON's numbers are floats to many."""

from __future__ import annotations

from typing import Any

from aragora_worker.base.money import nanos_of, usd
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.budgets.accounts import BudgetSums
from cluster.domain.budgets.budget import Budget, BudgetScope, Mode, Period, forecast, level_of, window_of
from cluster.ports.budgets import Spending
from serve_app.schemas.fields import ExactBody, Money, Word, Words, iso_time


class BudgetChange(ExactBody):
    """What can be changed of a budget; what is left out stays. ``limit_usd``: what its tasks may cost in a period.
    ``estimate_usd``: what is reserved for an attempt until its cost is known."""

    name: Words | None = None
    mode: Mode | None = None
    limit_usd: Money | None = None
    estimate_usd: Money | None = None

    def fields(self) -> dict[str, Any]:
        """The fields that are given, by their names in `Budget`. Raises: `InvalidRequest` if an amount is none."""
        given: dict[str, Any] = {
            name: getattr(self, name) for name in ("name", "mode") if getattr(self, name) is not None
        }
        for name in ("limit", "estimate"):
            text = getattr(self, f"{name}_usd")
            if text is not None:
                given[f"{name}_nanos"] = nanos_of(text, f"{name}_usd")
        return given


class NewBudget(BudgetChange):
    """A budget. ``subject``: the agent's id or the task type of its scope; none for the workspace."""

    scope: BudgetScope = BudgetScope.WORKSPACE
    subject: Word | None = None
    period: Period = Period.MONTH

    def all_fields(self) -> dict[str, Any]:
        """The fields of a new budget. Raises: `InvalidRequest` if one is missing or an amount is none."""
        for name in ("name", "limit_usd", "estimate_usd"):
            if getattr(self, name) is None:
                raise InvalidRequest(f"{name} is required.")
        about = {"scope": self.scope, "subject": self.subject or "", "period": self.period}
        return {"mode": Mode.HARD, **self.fields(), **about}


def budget_wire(budget: Budget) -> dict[str, Any]:
    """A budget as the API shows it."""
    return {
        "id": budget.id,
        "name": budget.name,
        "scope": budget.scope.value,
        "subject": budget.subject or None,
        "period": budget.period.value,
        "mode": budget.mode.value,
        "limit_usd": usd(budget.limit_nanos),
        "estimate_usd": usd(budget.estimate_nanos),
        "version": budget.version,
        "created_at": iso_time(budget.created_at),
        "created_by": budget.created_by,
        "updated_at": iso_time(budget.changed_at),
        "updated_by": budget.changed_by,
    }


def usage_wire(budget: Budget, sums: BudgetSums, now: float) -> dict[str, Any]:
    """What is spent and reserved of a budget in its period at ``now``, as the API shows it."""
    window = window_of(budget.period, now)
    expected = forecast(sums.spent, window, now)
    return {
        "period_start": iso_time(window.start),
        "period_end": iso_time(window.end),
        "spent_usd": usd(sums.spent),
        "reserved_usd": usd(sums.reserved),
        "available_usd": usd(budget.limit_nanos - sums.spent - sums.reserved),
        "level": level_of(sums.spent + sums.reserved, budget.limit_nanos),
        "attempts": sums.attempts,
        "unknown_costs": sums.unknown,
        "forecast_usd": None if expected is None else usd(expected),
    }


def spending_wire(spending: Spending) -> dict[str, Any]:
    """What attempts of one day, agent and task type have cost, as the API shows it."""
    return {
        "day": spending.day,
        "agent_id": spending.agent_id,
        "task_type": spending.task_type,
        "attempts": spending.attempts,
        "spent_usd": usd(spending.spent),
        "reserved_usd": usd(spending.reserved),
        "unknown_costs": spending.unknown,
    }
