"""Submits under the budgets of their workspace: what a call that submits tasks asks before it commits them."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.domain.base.log import Origin
from cluster.domain.budgets.submits import BudgetExhausted, exhausted, stopping
from cluster.ports.tasks import SubmitItem
from serve_app.gateway import Gateway
from serve_app.under_policies import is_repeat


async def check_budgets(gate: Gateway, asker: Origin, items: Sequence[SubmitItem]) -> None:
    """Refuses new tasks for which a budget is used up. A repeat of a call has the answer of its first call. While a workspace has
    no budget that stops its tasks, this reads nothing.

    Raises: `BudgetExhausted`, `StoreUnavailable`."""
    budgets = gate.budget_view.of(asker.workspace)
    concerned = {item.task.task_type: stopping(budgets, item.task.task_type) for item in items} if budgets else {}
    if not any(concerned.values()):
        return
    sums = await gate.budget_view.sums(asker.workspace, budgets)
    now = gate.clock.now()
    for index, item in enumerate(items):
        task = item.task
        refusal = exhausted(concerned[task.task_type], sums, task.run_at or task.created_at, now)
        if refusal is not None and not await is_repeat(gate, items[0]):
            raise refusal if len(items) == 1 else _of_batch(refusal, index)


def _of_batch(refusal: BudgetExhausted, index: int) -> BudgetExhausted:
    return BudgetExhausted(f"tasks.{index}: {refusal.message}", None, refusal.details | {"index": index})
