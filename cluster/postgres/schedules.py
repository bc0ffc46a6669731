"""Schedules in the database. A run is submitted by the statement that advances its schedule, so neither is without the other."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from typing import Any

from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import LogRecord
from cluster.domain.schedules.schedule import MOST_SCHEDULES, Plan, Schedule
from cluster.domain.tasks.task import IdempotencyKey
from cluster.ports.schedules import ScheduleChange
from cluster.ports.totals import Total
from cluster.postgres.deliberations import admit_arguments
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import in_one_statement, queries
from cluster.postgres.tasks import submit_parts
from cluster.postgres.workflows import start_arguments

_SQL = queries("schedules")
_dump = json_writer(allow_nan=True)


class PostgresSchedules:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def create(self, schedule: Schedule, record: LogRecord, key: IdempotencyKey | None) -> str:
        return str(
            await self._pool.value(
                _SQL["create_schedule"],
                self._epoch.region,
                self._epoch.value,
                MOST_SCHEDULES,
                _dump(_row(schedule)),
                [key and key.route],
                [key and key.key],
                [key and key.body_digest],
                log_rows([record], self._epoch),
            )
        )

    async def get(self, workspace: str, schedule_id: str) -> Schedule | None:
        rows = await self._pool.rows(_SQL["get_schedule"], workspace, schedule_id)
        return _schedule(rows[0]) if rows else None

    async def list(self, workspace: str, limit: int, offset: int) -> tuple[list[Schedule], Total]:
        rows = await self._pool.rows(_SQL["list_schedules"], workspace, limit, offset)
        return [_schedule(row) for row in rows], Total(int(await self._pool.value(_SQL["count_schedules"], workspace)))

    async def change(self, changes: Sequence[ScheduleChange]) -> None:
        tasks = [item for change in changes for item in change.tasks]
        deliberations = [new for change in changes for new in change.deliberations]
        starting: list[tuple[str, tuple[Any, ...]]] = []
        if tasks:
            starting.extend(submit_parts(tasks, self._epoch))
        if deliberations:
            starting.append(
                (queries("deliberations")["admit_deliberations"], admit_arguments(deliberations, self._epoch))
            )
        starting.extend(
            (queries("workflows")["start_run"], start_arguments(new, self._epoch))
            for change in changes
            for new in change.workflow_runs
        )
        own = (
            self._epoch.region,
            self._epoch.value,
            _dump([_row(change.schedule) for change in changes]),
            [change.schedule.id for change in changes if change.defined],
            log_rows([record for change in changes for record in change.records], self._epoch),
        )
        await self._pool.rows(*in_one_statement([(_SQL["change_schedules"], own), *starting]))

    async def remove(self, workspace: str, records: Sequence[LogRecord]) -> builtins.list[str]:
        return list(
            await self._pool.value(
                _SQL["remove_schedules"], self._epoch.region, self._epoch.value, log_rows(records, self._epoch)
            )
        )

    async def of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["schedules_of_subject"], workspace, subject, limit)]

    async def open_runs(self, workspace: str, runs: Sequence[str]) -> frozenset[str]:
        if not runs:
            return frozenset()
        return frozenset(row["id"] for row in await self._pool.rows(_SQL["open_runs"], workspace, list(runs)))

    async def has_run(self, workspace: str, run: str) -> bool:
        return bool(await self._pool.value(_SQL["has_run"], workspace, run))

    async def due(self, now: float, limit: int) -> builtins.list[Schedule]:
        return [_schedule(row) for row in await self._pool.rows(_SQL["due_schedules"], now, limit)]


def _row(schedule: Schedule) -> dict[str, Any]:
    """The columns, as JSON."""
    return {
        "id": schedule.id,
        "workspace": schedule.workspace,
        "principal": schedule.principal,
        "name": schedule.name,
        "plan": schedule.plan.to_json(),
        "template": schedule.template,
        "created_at": schedule.created_at,
        "changed_at": schedule.changed_at,
        "next_due": schedule.next_due,
        "fire_at": schedule.fire_at,
        "paused": schedule.paused,
        "revision": schedule.revision,
        "changed_row": schedule.changed_row,
        "last_due": schedule.last_due,
        "last_run": schedule.last_run,
        "runs": schedule.runs,
        "fired": schedule.fired,
    }


def _schedule(row: Any) -> Schedule:
    return Schedule(
        id=row["id"],
        workspace=row["workspace"],
        principal=row["principal"],
        name=row["name"],
        plan=Plan.from_json(json.loads(row["plan_text"])),
        template=json.loads(row["template_text"]),
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        next_due=row["next_due"],
        paused=row["paused"],
        revision=row["revision"],
        changed_row=row["changed_row"],
        last_due=row["last_due"],
        last_run=row["last_run"],
        runs=tuple(json.loads(row["runs_text"])),
        fired=row["fired"],
    )
