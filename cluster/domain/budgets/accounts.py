"""What a shard knows of its budgets: one account each, with what is spent and reserved in its present period.

No clock and no I/O. Nothing here is counted in the store: after a restart the sums are those of the stored entries. A shard is
the only writer of its entries, so memory is exact, and no claim can spend what another has reserved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cluster.domain.budgets.budget import LEVELS, Budget, BudgetScope, Mode, level_of, window_of
from cluster.domain.budgets.entries import Reservation, Settlement


@dataclass(slots=True)
class Account:
    """``spent`` and ``reserved`` (nano-dollars) are those of attempts that started from ``start`` until before ``end``. ``told``
    is the highest level of which a row is stored for this period and limit."""

    budget: Budget
    start: float
    end: float
    spent: int = 0
    reserved: int = 0
    told: int = 0

    @classmethod
    def new(cls, budget: Budget, now: float) -> Account:
        window = window_of(budget.period, now)
        return cls(budget, window.start, window.end)

    @property
    def used(self) -> int:
        return self.spent + self.reserved

    @property
    def level(self) -> int:
        return level_of(self.used, self.budget.limit_nanos)

    def roll(self, now: float) -> None:
        """Begins the period of ``now`` if the present one is over. It never goes back."""
        if now >= self.end:
            window = window_of(self.budget.period, now)
            self.start, self.end, self.spent, self.reserved, self.told = window.start, window.end, 0, 0, 0

    def holds(self, nanos: int) -> bool:
        """Whether there is room for so much more."""
        return not self.budget.blocks or self.used + nanos <= self.budget.limit_nanos


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSums:
    """What the store has of a budget in one period: nano-dollars, attempts, and the highest level that was told."""

    spent: int = 0
    reserved: int = 0
    attempts: int = 0
    unknown: int = 0
    told: int = 0


class Accounts:
    """The accounts of all budgets and the open reservations. It is false while there are neither, and then costs nothing."""

    def __init__(self) -> None:
        # Budget id → account. ``put`` and ``remove`` change it.
        self._accounts: dict[str, Account] = {}
        # Workspace → the same. No list is empty.
        self._of: dict[str, list[Account]] = {}
        # Task id → reservation of its running attempt. ``reserve`` adds, ``settle`` removes.
        self._open: dict[str, Reservation] = {}
        # Workspace → ids of budgets in which a claim found no room since its tasks were last offered again. ``admits`` adds,
        # ``take_free`` removes.
        self._short: dict[str, set[str]] = {}
        # Workspaces of those budgets that have room by now.
        self._free: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._accounts or self._open)

    def load(
        self, budgets: Iterable[Budget], sums: Mapping[str, BudgetSums], reservations: Iterable[Reservation], now: float
    ) -> None:
        """Takes what the store has. ``sums`` are those of each budget's period at ``now``."""
        for budget in budgets:
            self.put(budget, now)
            account, known = self._accounts[budget.id], sums.get(budget.id, BudgetSums())
            account.spent, account.reserved, account.told = known.spent, known.reserved, known.told
        self._open = {reservation.task_id: reservation for reservation in reservations}

    def put(self, budget: Budget, now: float) -> bool:
        """Takes a new or changed budget; False if this version or a newer one is known."""
        known = self._accounts.get(budget.id)
        if known is None:
            account = self._accounts[budget.id] = Account.new(budget, now)
            self._of.setdefault(budget.workspace, []).append(account)
            return True
        if known.budget.version >= budget.version:
            return False
        if known.budget.limit_nanos != budget.limit_nanos:
            known.told = 0  # people are told how much of the new limit is used
        known.budget = budget
        self._room(budget.workspace)
        return True

    def remove(self, budget_id: str) -> bool:
        """Forgets a budget; False if it is not known. What is reserved for running attempts is settled all the same."""
        account = self._accounts.pop(budget_id, None)
        if account is None:
            return False
        workspace = account.budget.workspace
        self._of[workspace].remove(account)
        if not self._of[workspace]:
            del self._of[workspace]
        self._room(workspace)
        return True

    # --- what a claim asks ----------------------------------------------------------------------------------------

    def watches(self, workspace: str) -> bool:
        """Whether the workspace has budgets."""
        return workspace in self._of

    def has_type(self, workspace: str, task_type: str) -> bool:
        """Whether a budget is about this task type, so that its tasks have to be found apart."""
        return bool(self._of) and any(
            account.budget.subject == task_type and account.budget.counts(None, task_type)
            for account in self._of.get(workspace, ())
        )

    def counting(self, workspace: str, agent_id: str | None, task_type: str | None) -> list[Account]:
        """The accounts that count an attempt."""
        return [account for account in self._of.get(workspace, ()) if account.budget.counts(agent_id, task_type)]

    def without_room(self, workspace: str, agent_id: str | None, task_type: str | None, now: float) -> list[Account]:
        """The accounts that have no room for one more attempt."""
        counting = self.counting(workspace, agent_id, task_type)
        for account in counting:
            account.roll(now)
        nanos = _amount(counting)
        return [account for account in counting if not account.holds(nanos)]

    def admits(self, workspace: str, agent_id: str, task_type: str | None, now: float) -> bool:
        """Whether all budgets have room for an attempt. If not, ``take_free`` names the workspace once there may be."""
        short = self.without_room(workspace, agent_id, task_type, now)
        if short:
            self._short.setdefault(workspace, set()).update(account.budget.id for account in short)
        return not short

    def lowered(self, workspace: str, task_type: str | None, now: float) -> int:
        """By how many levels of priority tasks are served later, because budgets throttle them."""
        lowest = 0
        for account in self.counting(workspace, None, task_type):
            if account.budget.mode is Mode.THROTTLE:
                account.roll(now)
                lowest = max(lowest, sum(level <= account.level for level in LEVELS[:-1]))
        return lowest

    def opens_at(self, workspace: str, now: float) -> float | None:
        """When the next period of a budget without room begins, in epoch seconds; None if no claim found one."""
        short = [self._accounts[id_] for id_ in self._short.get(workspace, ()) if id_ in self._accounts]
        return min((account.end for account in short if account.end > now), default=None)

    def take_free(self) -> set[str]:
        """Workspaces in which there may be room again for what found none."""
        if not self._free:
            return self._free
        free, self._free = self._free, set()
        for workspace in free:
            self._short.pop(workspace, None)
        return free

    def _room(self, workspace: str) -> None:
        if workspace in self._short:
            self._free.add(workspace)

    # --- what attempts cost ---------------------------------------------------------------------------------------

    def reserve(
        self, task_id: str, attempt: int, workspace: str, agent_id: str, task_type: str, now: float
    ) -> Reservation | None:
        """Sets aside what an attempt is expected to cost; None if no budget counts it. Whether there is room was asked before."""
        counting = self.counting(workspace, agent_id, task_type)
        if not counting:
            return None
        reservation = Reservation(
            task_id=task_id,
            attempt=attempt,
            workspace=workspace,
            agent_id=agent_id,
            task_type=task_type,
            budgets=tuple(account.budget.id for account in counting),
            nanos=_amount(counting),
            at=now,
        )
        for account in counting:
            account.roll(now)
            if account.start <= now:  # else the clock went back over midnight
                account.reserved += reservation.nanos
        self._open[task_id] = reservation
        return reservation

    def settle(self, task_id: str, nanos: int | None) -> Settlement | None:
        """Ends a reservation: ``nanos`` were spent; None if nobody knows, so that the reserved amount counts. Returns None if the
        attempt has no reservation."""
        reservation = self._open.pop(task_id, None)
        if reservation is None:
            return None
        spent = reservation.nanos if nanos is None else nanos
        short = self._short.get(reservation.workspace, ())
        for budget_id in reservation.budgets:
            account = self._accounts.get(budget_id)
            if account is not None and account.start <= reservation.at:
                account.reserved -= reservation.nanos
                account.spent += spent
                if budget_id in short and account.holds(account.budget.estimate_nanos):
                    self._free.add(reservation.workspace)
        return Settlement(task_id=task_id, attempt=reservation.attempt, nanos=spent, is_known=nanos is not None)

    def keeping(self, workspace: str, task_type: str, now: float) -> list[Account]:
        """The accounts without room that keep tasks of a type from starting: for everybody, or at their agent; copies."""
        short = self.without_room(workspace, None, task_type, now)
        for account in self._of.get(workspace, ()):
            if account.budget.scope is BudgetScope.AGENT:
                short += [
                    found
                    for found in self.without_room(workspace, account.budget.subject, task_type, now)
                    if found is account
                ]
        return [replace(account) for account in short]

    # --- what is shown --------------------------------------------------------------------------------------------

    def accounts(self, now: float) -> list[Account]:
        """All accounts, each in its present period; copies."""
        for account in self._accounts.values():
            account.roll(now)
        return [replace(account) for account in self._accounts.values()]

    def untold(self, now: float) -> list[Account]:
        """The accounts that have reached a level of which no row is stored; copies."""
        return [account for account in self.accounts(now) if account.level > account.told]

    def tell(self, budget_id: str, start: float, level: int) -> None:
        """Notes that the row of a level is stored, for the period that begins at ``start``."""
        account = self._accounts.get(budget_id)
        if account is not None and account.start == start:
            account.told = max(account.told, level)


def _amount(counting: Iterable[Account]) -> int:
    """What is reserved for an attempt that these accounts count: the highest of their estimates."""
    return max((account.budget.estimate_nanos for account in counting), default=0)
