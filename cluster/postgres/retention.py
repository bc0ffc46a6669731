"""Retention in the database. Each commit is one function of the commit protocol."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from cluster.domain.audit.retention import DELIBERATIONS_REMOVED, RUNS_REMOVED, TASKS_REMOVED, Bounds
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord
from cluster.domain.tasks.task import OF_DELIBERATIONS
from cluster.ports.erasure import Position, Window
from cluster.ports.retention import Pass, RetentionState
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("retention")
#: Kind of the row that removes → what the names of its statements have.
_OF_KIND: Final[Mapping[str, str]] = {
    TASKS_REMOVED: "tasks",
    DELIBERATIONS_REMOVED: "deliberations",
    RUNS_REMOVED: "runs",
}


class PostgresRetention:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def state(self, workspace: str) -> RetentionState:
        (row,) = await self._pool.rows(_SQL["retention_state"], workspace)
        last = None
        if row["ended_at"] is not None:
            last = Pass(
                ended_at=row["ended_at"],
                requested_at=row["answered"],
                tasks=row["tasks"],
                deliberations=row["deliberations"],
                workflow_runs=row["workflow_runs"],
            )
        rule = None if row["rule"] is None else json.loads(row["rule"])
        return RetentionState(rule=rule, requested_at=row["requested_at"], last=last)

    async def set_rule(self, workspace: str, rule: Mapping[str, Any], record: LogRecord) -> None:
        await self._put(canonical_json(rule), None, record)

    async def request_run(self, workspace: str, at: float, record: LogRecord) -> None:
        await self._put(None, at, record)

    async def _put(self, rule: str | None, requested_at: float | None, record: LogRecord) -> None:
        rows = log_rows([record], self._epoch)
        await self._pool.value(_SQL["put_retention"], self._epoch.region, self._epoch.value, rule, requested_at, rows)

    async def workspaces(self) -> list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["retention_workspaces"])]

    async def requested(self) -> list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["retention_requested"])]

    async def oldest_kept(self, workspace: str, kind: str, bounds: Bounds) -> Position | None:
        if bounds.newest is None:
            return None
        rows = await self._pool.rows(_SQL[f"too_many_{_OF_KIND[kind]}"], workspace, bounds.newest)
        return (rows[0]["at"], rows[0]["id"]) if rows else None

    async def window(
        self, workspace: str, kind: str, bounds: Bounds, too_many: Position | None, after: Position, limit: int
    ) -> Window:
        of_agents = (list(OF_DELIBERATIONS),) if kind == TASKS_REMOVED else ()
        rows = await self._pool.rows(
            _SQL[f"{_OF_KIND[kind]}_to_remove"],
            workspace,
            *after,
            bounds.recent,
            bounds.ended_before,
            *(too_many or (None, None)),
            limit,
            *of_agents,
        )
        last = (rows[-1]["at"], rows[-1]["id"]) if rows else None
        return Window(ids=[row["id"] for row in rows if row["chosen"]], last=last)

    async def referred(self, workspace: str, kind: str, ids: Sequence[str]) -> Collection[str]:
        rows = await self._pool.rows(_SQL[f"referred_{_OF_KIND[kind]}"], workspace, list(ids))
        return frozenset(row["id"] for row in rows)

    async def remove(self, kind: str, record: LogRecord) -> int:
        rows = log_rows([record], self._epoch)
        query = _SQL[f"remove_{_OF_KIND[kind]}"]
        return int(await self._pool.value(query, self._epoch.region, self._epoch.value, rows))

    async def passed(self, workspace: str, last: Pass) -> None:
        counts = (last.tasks, last.deliberations, last.workflow_runs)
        await self._pool.execute(_SQL["passed"], workspace, last.ended_at, last.requested_at, *counts)
