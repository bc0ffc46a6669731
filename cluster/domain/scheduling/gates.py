"""What keeps whole sub-queues of a ready queue back: pauses, rates, budgets, quotas on running tasks, suspended workspaces.

What is in force is copied into the sub-queues that it concerns, so that a claim looks at a flag and need not look it up.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.budgets.accounts import Accounts
from cluster.domain.budgets.budget import Budget
from cluster.domain.quotas.quotas import Quotas
from cluster.domain.scheduling.limits import Control, ControlKind, Limits
from cluster.domain.scheduling.running_quotas import RunningQuotas
from cluster.domain.scheduling.sub_queues import SubQueue, SubQueues


class Gates:
    """``weights`` are the weights of shares for which no control sets one; 1 for all others."""

    def __init__(self, sub_queues: SubQueues, limits: Limits, weights: Mapping[str, float]) -> None:
        # Those of the ready queue, which adds and removes them.
        self._sub_queues = sub_queues
        # Controls, tokens and slots. The core takes and frees the slots with its leases; the ready queue spends the tokens.
        self.limits = limits
        # Budgets, and what running attempts have reserved. The core reserves and settles with its decisions.
        self.accounts = Accounts()
        # How many tasks of each workspace run, and may. The core counts with its leases.
        self.running = RunningQuotas()
        # Share → weight, for shares whose tenant has no control. Fixed.
        self._weights = weights

    def put_control(self, control: Control, now: float) -> bool:
        """Puts a control in force; False if this one or a newer one is in force. After the first control of a task type the
        caller must push the type's waiting tasks again, so that they move to sub-queues of their own."""
        if not self.limits.put(control, now):
            return False
        self._set_all(control.workspace)
        return True

    def put_budget(self, budget: Budget, now: float) -> bool:
        """Puts a budget in force; False if this version or a newer one is. After a new one of a task type the caller must push
        the type's waiting tasks again, as after a control."""
        changed = self.accounts.put(budget, now)
        if changed:
            self._set_all(budget.workspace)
        return changed

    def remove_budget(self, workspace: str, budget_id: str) -> bool:
        """Forgets a budget; False if it is not known."""
        known = self.accounts.remove(budget_id)
        if known:
            self._set_all(workspace)
        return known

    def put_quotas(self, quotas: Quotas) -> bool:
        """Puts quotas in force; False if this version or a newer one is."""
        changed = self.running.put(quotas)
        if changed:
            self._set_all(quotas.workspace)
        return changed

    def set_state(self, workspace: str, state: WorkspaceState) -> None:
        """Notes what a workspace admits now: nothing starts in one that is suspended or deleted."""
        self.limits.set_state(workspace, state)
        self._set_all(workspace)

    def _set_all(self, workspace: str) -> None:
        for sub_queue in self._sub_queues:
            if sub_queue.demand.workspace == workspace:
                self.set_gate(sub_queue)

    def next_token(self, workspace: str, now: float) -> float | None:
        """When the next queue of the workspace that has a rate and is not paused may start a task; None if there is none."""
        times = [
            bucket.ready_at(now)
            for sub_queue in self._sub_queues.of_workspace(workspace)
            if not sub_queue.paused and (bucket := self.limits.bucket(workspace, sub_queue.demand.queue)) is not None
        ]
        return min(times, default=None)

    def set_gate(self, sub_queue: SubQueue) -> None:
        """Copies the controls in force into the sub-queue, so that a claim need not look them up."""
        paused = self.limits.paused
        sub_queue.paused = (
            self.limits.is_closed(sub_queue.demand.workspace)
            or paused(sub_queue.demand.workspace, ControlKind.QUEUE, sub_queue.demand.queue)
            or paused(sub_queue.demand.workspace, ControlKind.TENANT, sub_queue.tenant)
            or (
                sub_queue.demand.task_type is not None
                and paused(sub_queue.demand.workspace, ControlKind.TASK_TYPE, sub_queue.demand.task_type)
            )
        )
        rated = self.limits.bucket(sub_queue.demand.workspace, sub_queue.demand.queue) is not None
        sub_queue.budgeted = self.accounts.watches(sub_queue.demand.workspace)
        bounded = self.running.limit(sub_queue.demand.workspace) is not None
        sub_queue.gated = sub_queue.paused or rated or sub_queue.budgeted or bounded
        control = self.limits.get(sub_queue.demand.workspace, ControlKind.TENANT, sub_queue.tenant)
        sub_queue.weight = self._weights.get(sub_queue.share, 1.0) if control is None else control.weight

    def is_open(self, sub_queue: SubQueue, agent_id: str, now: float) -> bool:
        if sub_queue.paused:
            return False
        demand = sub_queue.demand
        bucket = self.limits.bucket(demand.workspace, demand.queue)
        if bucket is not None and not bucket.ready(now):
            return False
        if not self.running.admits(demand.workspace):
            return False
        return not sub_queue.budgeted or self.accounts.admits(demand.workspace, agent_id, demand.task_type, now)
