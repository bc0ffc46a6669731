"""Budgets of tests."""

from __future__ import annotations

from typing import Any

from cluster.domain.budgets.budget import Budget, BudgetScope, Mode, Period
from tests.support.samples import NOW


def a_budget(**fields: Any) -> Budget:
    """A hard budget of the workspace ``w``: ten nano-dollars a day, one reserved for an attempt."""
    given: dict[str, Any] = {
        "id": "budget_1",
        "workspace": "w",
        "name": "One",
        "scope": BudgetScope.WORKSPACE,
        "subject": "",
        "period": Period.DAY,
        "mode": Mode.HARD,
        "limit_nanos": 10,
        "estimate_nanos": 1,
    }
    made = {"created_at": NOW, "created_by": "user:tester", "changed_at": NOW, "changed_by": "user:tester"}
    return Budget(**(given | made | fields))
