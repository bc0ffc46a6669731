"""What operators do: the dead letter, and controls of queues, task types and tenants."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from typing import Any

from cluster.domain.base.log import LogRecord
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.task import Task
from cluster.domain.workflows.large_values import PREFIX, read_payload, stored_payload
from cluster.ports.operations import DeadLetterQuery, Replay
from cluster.ports.totals import Total
from cluster.postgres.large_values import filled
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries
from cluster.postgres.task_rows import page_of, read_page
from cluster.postgres.tasks import rules_json
from cluster.postgres.totals import total_of

_SQL = queries("tasks")


class PostgresDeadLetters:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def list(self, query: DeadLetterQuery) -> tuple[list[Task], Total]:
        before_at, before_id = query.before or (None, None)
        filters = (
            query.workspace,
            list(query.ids) or None,
            query.task_type,
            query.queue,
            query.reason and query.reason.value,
            query.error_contains,
            query.ended_after,
            query.ended_before,
            query.with_replayed,
        )
        statement = page_of(_SQL["dead_letters"], "t.completed_at desc, t.id desc", query.bodies)
        arguments = (*filters, before_at, before_id, query.limit)
        tasks = await read_page(self._pool, statement, arguments, query.workspace, query.bodies)
        return tasks, await total_of(self._pool, _SQL["matching_dead_letters"], *filters)

    async def replay(self, replays: Sequence[Replay]) -> builtins.list[str | None]:
        if not replays:
            return []
        tasks = [replay.task for replay in replays]
        copied = await self._referring(replays)
        records = [*(task.record() for task in tasks), *(replay.record for replay in replays)]
        return list(
            await self._pool.value(
                _SQL["replay_tasks"],
                self._epoch.region,
                self._epoch.value,
                tasks[0].created_at,
                tasks[0].origin.workspace,
                [replay.of for replay in replays],
                [task.id for task in tasks],
                [task.origin.principal for task in tasks],
                [
                    json.dumps(stored_payload(replay.task.payload), ensure_ascii=False)
                    if replay.new_payload
                    else copied.get(replay.of)
                    for replay in replays
                ],
                [rules_json(task.rules) for task in tasks],
                log_rows(records, self._epoch),
            )
        )

    async def _referring(self, replays: Sequence[Replay]) -> dict[str, str]:
        """The payloads, with their values, of what is replayed and refers to some: its run has ended, so retention may remove
        those before the replay is done."""
        same = [replay.of for replay in replays if not replay.new_payload]
        if not same:
            return {}
        workspace = replays[0].task.origin.workspace
        rows = await self._pool.rows(_SQL["referring_payloads"], workspace, same, PREFIX)
        payloads = {row["id"]: read_payload(row["payload"]) for row in rows}
        whole = await filled(self._pool, workspace, payloads)
        return {id_: json.dumps(stored_payload(payload), ensure_ascii=False) for id_, payload in whole.items()}

    async def purge(self, workspace: str, task_ids: Sequence[str], records: Sequence[LogRecord]) -> int:
        if not task_ids:
            return 0
        return int(
            await self._pool.value(
                _SQL["purge_tasks"],
                self._epoch.region,
                self._epoch.value,
                records[0].at,
                workspace,
                log_rows(records, self._epoch),
            )
        )


class PostgresControls:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def put(self, control: Control, record: LogRecord) -> Control:
        await self._pool.value(
            _SQL["put_control"],
            self._epoch.region,
            self._epoch.value,
            control.workspace,
            control.kind.value,
            control.name,
            control.paused,
            control.rate_per_s,
            control.burst,
            control.weight,
            log_rows([record], self._epoch),
        )
        stored = await self.get(control.workspace, control.kind, control.name)
        assert stored is not None, "controls are never deleted"
        return stored

    async def get(self, workspace: str, kind: ControlKind, name: str) -> Control | None:
        found = [control for control in await self.list(workspace) if (control.kind, control.name) == (kind, name)]
        return found[0] if found else None

    async def list(self, workspace: str) -> builtins.list[Control]:
        return [_control(row) for row in await self._pool.rows(_SQL["controls"], workspace)]

    async def load(self) -> builtins.list[Control]:
        return [_control(row) for row in await self._pool.rows(_SQL["controls"], None)]


def _control(row: Any) -> Control:
    return Control(**{**dict(row), "kind": ControlKind(row["kind"])})
