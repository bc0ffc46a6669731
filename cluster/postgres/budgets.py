"""Budgets and what attempts have cost, in the database. Each commit is one function of the commit protocol."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from cluster.domain.base.errors import Conflict
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRecord
from cluster.domain.budgets.accounts import BudgetSums
from cluster.domain.budgets.budget import MOST_BUDGETS, Budget, BudgetScope, Mode, Period, Window, window_of
from cluster.domain.budgets.entries import Entry, Reservation, SettledEntry, Settlement
from cluster.domain.budgets.levels import LevelReached
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.budgets import Spending
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("budgets")
_dump = json_writer(allow_nan=False)
#: How long a shard's start may add up entries, in seconds.
START_S = 60
_TYPES = {"scope": BudgetScope, "period": Period, "mode": Mode}


class PostgresBudgets:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def create(self, budget: Budget, record: LogRecord, key: IdempotencyKey | None) -> str:
        budget_id = await self._pool.value(
            _SQL["create_budget"],
            self._epoch.region,
            self._epoch.value,
            MOST_BUDGETS,
            _dump(asdict(budget)),
            [key and key.route],
            [key and key.key],
            [key and key.body_digest],
            log_rows([record], self._epoch),
        )
        if budget_id is None:
            raise Conflict(f"There are {MOST_BUDGETS} budgets; delete one first.", "too_many_budgets")
        return str(budget_id)

    async def change(self, budget: Budget, record: LogRecord) -> None:
        args = (self._epoch.region, self._epoch.value, _dump(asdict(budget)), log_rows([record], self._epoch))
        if not await self._pool.value(_SQL["change_budget"], *args):
            raise _changed(budget)

    async def remove(self, budget: Budget, record: LogRecord) -> None:
        rows = log_rows([record], self._epoch)
        args = (self._epoch.region, self._epoch.value, budget.workspace, budget.version, rows)
        if not await self._pool.value(_SQL["remove_budget"], *args):
            raise _changed(budget)

    async def get(self, workspace: str, budget_id: str) -> Budget | None:
        rows = await self._pool.rows(_SQL["get_budget"], workspace, budget_id)
        return _budget(rows[0]) if rows else None

    async def list(self, workspace: str) -> builtins.list[Budget]:
        return [_budget(row) for row in await self._pool.rows(_SQL["list_budgets"], workspace)]

    async def sums(self, workspace: str, windows: Mapping[str, Window]) -> Mapping[str, BudgetSums]:
        if not windows:
            return {}
        columns = _windows([(budget_id, workspace, window) for budget_id, window in windows.items()])
        return _sums(await self._pool.rows(_SQL["budget_sums"], *columns))

    async def spending(self, workspace: str, window: Window, most: int) -> Sequence[Spending]:
        rows = await self._pool.rows(_SQL["spending"], workspace, window.start, window.end, most)
        return [Spending(**dict(row)) for row in rows]

    async def all(self) -> builtins.list[Budget]:
        return [_budget(row) for row in await self._pool.rows(_SQL["all_budgets"])]

    async def named(self, budget_ids: Sequence[str]) -> builtins.list[Budget]:
        return [_budget(row) for row in await self._pool.rows(_SQL["named_budgets"], builtins.list(budget_ids))]

    async def all_sums(self, budgets: Sequence[Budget], now: float) -> Mapping[str, BudgetSums]:
        if not budgets:
            return {}
        columns = _windows([(each.id, each.workspace, window_of(each.period, now)) for each in budgets])
        # A scheduler that starts has to have them, however many entries are not added to their days yet: some two microseconds
        # each.
        async with self._pool.snapshot() as connection:
            await connection.execute(f"set local statement_timeout = '{START_S}s'")
            return _sums(await connection.fetch(_SQL["budget_sums"], *columns, timeout=START_S))

    async def open_reservations(self) -> Sequence[Reservation]:
        rows = await self._pool.rows(_SQL["open_reservations"])
        return [Reservation(**{**dict(row), "budgets": tuple(row["budgets"])}) for row in rows]

    async def settled(self, before: float, limit: int) -> Sequence[SettledEntry]:
        return [SettledEntry(**dict(row)) for row in await self._pool.rows(_SQL["settled_entries"], before, limit)]

    async def fold(self, entries: Sequence[SettledEntry], record: LogRecord) -> int:
        columns = ([each.task_id for each in entries], [each.attempt for each in entries])
        rows = log_rows([record], self._epoch)
        return int(await self._pool.value(_SQL["fold_entries"], self._epoch.region, self._epoch.value, *columns, rows))

    async def with_days(self) -> builtins.list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["spending_workspaces"])]

    async def old_days(self, workspace: str, before: str, limit: int) -> Sequence[str]:
        return [row["day"] for row in await self._pool.rows(_SQL["old_days"], workspace, before, limit)]

    async def forget_days(self, days: Sequence[str], record: LogRecord) -> int:
        args = (self._epoch.region, self._epoch.value, builtins.list(days), log_rows([record], self._epoch))
        return int(await self._pool.value(_SQL["remove_spending"], *args))

    async def with_levels(self) -> builtins.list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["level_workspaces"])]

    async def old_levels(self, workspace: str, before: float, limit: int) -> Sequence[str]:
        return [row["budget_id"] for row in await self._pool.rows(_SQL["old_levels"], workspace, before, limit)]

    async def forget_levels(self, budgets: Sequence[str], before: float, record: LogRecord) -> int:
        rows = log_rows([record], self._epoch)
        args = (self._epoch.region, self._epoch.value, builtins.list(budgets), before, rows)
        return int(await self._pool.value(_SQL["remove_budget_levels"], *args))

    async def tell(self, levels: Sequence[LevelReached]) -> None:
        names = ("budget_id", "period_start", "limit_nanos", "level", "workspace", "at")
        rows = [{name: getattr(level, name) for name in names} for level in levels]
        records = log_rows([level.record() for level in levels], self._epoch)
        await self._pool.value(_SQL["tell_budget_levels"], self._epoch.region, self._epoch.value, _dump(rows), records)


def _windows(parts: Sequence[tuple[str, str, Window]]) -> tuple[Sequence[Any], ...]:
    """The columns of ids, workspaces, starts and ends."""
    return (
        [budget_id for budget_id, _, _ in parts],
        [workspace for _, workspace, _ in parts],
        [window.start for _, _, window in parts],
        [window.end for _, _, window in parts],
    )


def _sums(rows: Sequence[Any]) -> Mapping[str, BudgetSums]:
    names = [each.name for each in fields(BudgetSums)]
    return {row["id"]: BudgetSums(**{name: int(row[name]) for name in names}) for row in rows}


def entry_parts(entry: Entry) -> Mapping[str, Any]:
    """What a decision reserves or settles, as the statement ``decide`` reads it."""
    if isinstance(entry, Settlement):
        return {"spent": entry.nanos, "known": entry.is_known}
    return {
        "budgets": entry.budgets,
        "agent_id": entry.agent_id,
        "task_type": entry.task_type,
        "reserved": entry.nanos,
    }


def _changed(budget: Budget) -> Conflict:
    return Conflict(
        f"Budget {budget.id} was changed or deleted by somebody else meanwhile; read it again.", "budget_changed"
    )


def _budget(row: Any) -> Budget:
    values: dict[str, Any] = dict(row)
    return Budget(**values | {name: kind(values[name]) for name, kind in _TYPES.items()})
