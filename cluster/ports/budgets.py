"""Budgets, and what attempts have cost. What attempts reserve and cost is written with the shard's decisions (``TaskStore``)."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord
from cluster.domain.budgets.accounts import BudgetSums
from cluster.domain.budgets.budget import Budget, Window
from cluster.domain.budgets.entries import Reservation, SettledEntry
from cluster.domain.budgets.levels import LevelReached
from cluster.domain.tasks.task import IdempotencyKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What attempts that started on one day (``YYYY-MM-DD``, UTC) have cost: those of one agent at tasks of one type. Money is in
    nano-dollars; ``reserved`` is of attempts that still run, ``unknown`` counts those whose cost nobody said."""

    day: str
    agent_id: str
    task_type: str
    attempts: int
    spent: int
    reserved: int
    unknown: int


class WorkspaceBudgets(Protocol):
    """What request handlers get."""

    async def create(self, budget: Budget, record: LogRecord, key: IdempotencyKey | None) -> str:
        """Stores a budget and returns its id; an earlier one's if the key was used before.

        Raises: `Conflict` if the key was used with another body, or there are as many budgets as there may be."""

    async def change(self, budget: Budget, record: LogRecord) -> None:
        """Stores the next version of a budget.

        Raises: `Conflict` (``budget_changed``) if it was changed or deleted meanwhile."""

    async def remove(self, budget: Budget, record: LogRecord) -> None:
        """Deletes a budget; what was spent under it stays.

        Raises: `Conflict` (``budget_changed``) if it was changed or deleted meanwhile."""

    async def get(self, workspace: str, budget_id: str) -> Budget | None: ...

    async def list(self, workspace: str) -> builtins.list[Budget]:
        """All budgets of a workspace, the oldest first."""

    async def sums(self, workspace: str, windows: Mapping[str, Window]) -> Mapping[str, BudgetSums]:
        """Of each of these budgets what its entries of its window come to. A budget of another workspace has none."""

    async def spending(self, workspace: str, window: Window, most: int) -> Sequence[Spending]:
        """What attempts that started in the window have cost, by day, agent and task type: at most so many rows, the oldest days
        first. Only attempts that some budget counted have an entry."""


class Budgets(WorkspaceBudgets, Protocol):
    """What actors get."""

    async def all(self) -> builtins.list[Budget]: ...

    async def named(self, budget_ids: Sequence[str]) -> builtins.list[Budget]:
        """Those of the budgets that exist, of all workspaces."""

    async def all_sums(self, budgets: Sequence[Budget], now: float) -> Mapping[str, BudgetSums]:
        """Of each of these budgets what its entries of its period at ``now`` come to."""

    async def open_reservations(self) -> Sequence[Reservation]:
        """The entries of attempts that still run."""

    async def tell(self, levels: Sequence[LevelReached]) -> None:
        """Stores the levels that budgets have reached, each with its row; one that is stored has no second row."""

    async def settled(self, before: float, limit: int) -> Sequence[SettledEntry]:
        """Some entries of attempts that ended before a time, of all workspaces, those of one together."""

    async def fold(self, entries: Sequence[SettledEntry], record: LogRecord) -> int:
        """Adds entries of one workspace to their days and deletes them; returns how many were still there.

        Raises: `Fenced` if this region is not the primary any more."""

    async def with_days(self) -> builtins.list[str]:
        """The workspaces of which it is kept what days have cost."""

    async def old_days(self, workspace: str, before: str, limit: int) -> Sequence[str]:
        """Some of a workspace's days before another one, oldest first."""

    async def with_levels(self) -> builtins.list[str]:
        """The workspaces of which it is kept which levels budgets have reached."""

    async def old_levels(self, workspace: str, before: float, limit: int) -> Sequence[str]:
        """Some of the budgets with levels of periods that began before a time (epoch seconds)."""

    async def forget_levels(self, budgets: Sequence[str], before: float, record: LogRecord) -> int:
        """Deletes which levels these budgets of the record's workspace reached in periods that began before a time, and returns
        how many.

        Raises: `Fenced`."""

    async def forget_days(self, days: Sequence[str], record: LogRecord) -> int:
        """Deletes what these days of the record's workspace have cost, and returns of how many rows.

        Raises: `Fenced`."""
