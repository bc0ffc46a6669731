"""Why a task waits for budgets, and what would change that."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from aragora_worker.base.money import usd
from cluster.domain.budgets.accounts import Account
from cluster.domain.budgets.budget import BudgetScope
from cluster.domain.scheduling.agent_reasons import Reason


def budget_reasons(accounts: Sequence[Account], able_agents: Collection[str]) -> list[Reason]:
    """A reason for each account without room that keeps a task from starting. The budgets of agents do so only if none of those
    that may have it has room."""
    of_agents = {account.budget.subject for account in accounts if account.budget.scope is BudgetScope.AGENT}
    agents_are_short = bool(able_agents) and of_agents.issuperset(able_agents)
    return [
        _reason(account)
        for account in accounts
        if account.budget.scope is not BudgetScope.AGENT or (agents_are_short and account.budget.subject in able_agents)
    ]


def _reason(account: Account) -> Reason:
    budget = account.budget
    spent, reserved, limit = usd(account.spent), usd(account.reserved), usd(budget.limit_nanos)
    return Reason(
        code="budget",
        message=f"The budget {budget.id} of {budget.about()} has no room for another attempt: ${spent} of ${limit} are "
        f"spent this {budget.period.value}, and ${reserved} are reserved for attempts that run.",
        unblock="Its next period begins, an attempt costs less than was reserved for it, or its limit is raised: "
        f"aragora-cp budgets update {budget.id} --limit AMOUNT",
        at=account.end,
    )
