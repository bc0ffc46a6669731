"""Workflows in the database. The tasks that a run starts are submitted by the statement that moves the run and the cursor, so
none is without the others."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from typing import Any

from cluster.domain.audit.retention import Stub
from cluster.domain.base.json_writing import canonical_json, json_writer
from cluster.domain.base.log import LogRecord
from cluster.domain.deliberation.stored import NewDeliberation
from cluster.domain.tasks.task import IdempotencyKey
from cluster.domain.workflows.deliberations import DELIBERATION_ENDS
from cluster.domain.workflows.document import MOST_WORKFLOWS, RunStatus
from cluster.domain.workflows.stored import RUN_PREFIX, TASK_ENDS, SignalAnswer, StoredRun, StoredWorkflow
from cluster.domain.workflows.waits import MOST_SIGNALS_CHARS
from cluster.ports.tasks import SubmitItem
from cluster.ports.totals import Total
from cluster.ports.workflows import NewRun, RunRow
from cluster.postgres.deliberations import admit_arguments
from cluster.postgres.large_values import read_results
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import in_one_statement, queries
from cluster.postgres.tasks import submit_parts

_SQL = queries("workflows")
_dump = json_writer(allow_nan=True)


class PostgresWorkflows:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def apply(self, workflow: StoredWorkflow, record: LogRecord) -> bool:
        row = {
            "workspace": workflow.workspace,
            "name": workflow.name,
            "version": workflow.version,
            "principal": workflow.principal,
            "document": workflow.document,
            "templates": workflow.templates,
            "digest": f"\\x{workflow.digest.hex()}",
            "created_at": workflow.created_at,
        }
        return bool(await self._commit("apply_workflow", MOST_WORKFLOWS, _dump(row), log_rows([record], self._epoch)))

    async def get(self, workspace: str, name: str, version: int | None = None) -> StoredWorkflow | None:
        if version is None:
            rows = await self._pool.rows(_SQL["newest_workflow"], workspace, name)
        else:
            rows = await self._pool.rows(_SQL["get_workflow"], workspace, name, version)
        return _workflow(rows[0]) if rows else None

    async def list(self, workspace: str, limit: int, offset: int) -> tuple[list[StoredWorkflow], Total]:
        rows = await self._pool.rows(_SQL["list_workflows"], workspace, limit, offset)
        return [_workflow(row) for row in rows], Total(int(await self._pool.value(_SQL["count_workflows"], workspace)))

    async def start(self, run: StoredRun, input: Any, record: LogRecord, key: IdempotencyKey | None) -> str:
        new = NewRun(run=run, input=input, record=record, key=key)
        return str(await self._pool.value(_SQL["start_run"], *start_arguments(new, self._epoch)))

    async def runs(self, workspace: str, ids: Sequence[str]) -> dict[str, StoredRun]:
        return {row["id"]: _run(row) for row in await self._pool.rows(_SQL["get_runs"], workspace, list(ids))}

    async def stub(self, workspace: str, run_id: str) -> Stub | None:
        rows = await self._pool.rows(_SQL["run_stub"], workspace, run_id)
        return Stub(**dict(rows[0])) if rows else None

    async def run_input(self, workspace: str, run_id: str) -> tuple[Any, int]:
        text = await self._pool.value(_SQL["run_input"], workspace, run_id) or "null"
        return json.loads(text), len(text)

    async def list_runs(
        self, workspace: str, name: str | None, status: RunStatus | None, limit: int, offset: int
    ) -> tuple[builtins.list[StoredRun], Total]:
        filters = (name, status and status.value)
        rows = await self._pool.rows(_SQL["list_runs"], workspace, limit, offset, *filters)
        return [_run(row) for row in rows], Total(int(await self._pool.value(_SQL["count_runs"], workspace, *filters)))

    async def ask(self, *records: LogRecord) -> None:
        rows, chosen = log_rows(records, self._epoch), [True] * len(records)
        await self._pool.value(queries("log")["append_log"], self._epoch.region, self._epoch.value, chosen, rows)

    async def signal(self, record: LogRecord, name: str, value: Any, steps: Sequence[str]) -> SignalAnswer:
        given = (name, canonical_json(value), list(steps), MOST_SIGNALS_CHARS)
        return SignalAnswer(await self._commit("signal_run", *given, log_rows([record], self._epoch)))

    async def waiting(self, workspace: str, run_id: str, signal: str) -> tuple[bool, builtins.list[str] | None]:
        rows = await self._pool.rows(_SQL["run_waits"], workspace, run_id, signal)
        return (True, rows[0]["steps"]) if rows else (False, None)

    async def signals(self, workspace: str, run_id: str) -> dict[str, Any]:
        signals: dict[str, Any] = json.loads(await self._pool.value(_SQL["run_signals"], workspace, run_id) or "{}")
        return signals

    async def results(
        self, workspace: str, steps: Sequence[Sequence[str]], most_chars: int
    ) -> tuple[dict[str, Any], builtins.list[int]]:
        return await read_results(self._pool, workspace, steps, most_chars)

    async def kept(self, workspace: str, ids: Sequence[str]) -> builtins.list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["kept_work"], workspace, list(ids))]

    async def remove(self, records: Sequence[LogRecord]) -> builtins.list[str]:
        return list(await self._commit("remove_workflows", log_rows(records, self._epoch)))

    async def of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[str]:
        return [row["name"] for row in await self._pool.rows(_SQL["workflows_of_subject"], workspace, subject, limit)]

    async def runs_of_subject(self, workspace: str, subject: str | None, limit: int) -> builtins.list[tuple[str, bool]]:
        rows = await self._pool.rows(_SQL["runs_of_subject"], workspace, subject, limit)
        return [(row["id"], row["open"]) for row in rows]

    async def begin(self) -> int:
        return int(await self._commit("begin_advancing"))

    async def rows(self, after: int, limit: int) -> tuple[builtins.list[RunRow], int]:
        ends = [*TASK_ENDS, *DELIBERATION_ENDS]
        found = await self._pool.rows(_SQL["run_rows"], after, limit, ends, f"{RUN_PREFIX}_")
        rows = [
            RunRow(
                seq=row["seq"],
                kind=row["kind"],
                entity=row["entity"],
                workspace=row["workspace"],
                data=json.loads(row["data"]),
            )
            for row in found
            if row["kind"] is not None
        ]
        (head,) = [row["seq"] for row in found if row["kind"] is None]
        return rows, rows[-1].seq if len(rows) == limit else max(after, head)

    async def due(self, now: float, limit: int, but: Sequence[str]) -> builtins.list[StoredRun]:
        return [_run(row) for row in await self._pool.rows(_SQL["due_runs"], now, limit, list(but))]

    async def advance(
        self,
        cursor: tuple[int, int],
        runs: Sequence[StoredRun],
        records: Sequence[LogRecord],
        tasks: Sequence[SubmitItem],
        deliberations: Sequence[NewDeliberation] = (),
    ) -> None:
        own = (
            self._epoch.region,
            self._epoch.value,
            *cursor,
            _dump([_row(run) for run in runs]),
            log_rows(records, self._epoch),
        )
        # The runs come last: they take the region's lock at once, and all other commits of the region would wait while a page of
        # a fan-out is inserted. A submit takes it for its rows of the log only.
        parts: list[tuple[str, tuple[Any, ...]]] = []
        if tasks:
            parts.extend(submit_parts(tasks, self._epoch))
        if deliberations:
            admitted = admit_arguments(deliberations, self._epoch)
            parts.append((queries("deliberations")["admit_deliberations"], admitted))
        parts.append((_SQL["advance_runs"], own))
        await self._pool.rows(*in_one_statement(parts))

    async def _commit(self, statement: str, *arguments: Any) -> Any:
        return await self._pool.value(_SQL[statement], self._epoch.region, self._epoch.value, *arguments)


def start_arguments(new: NewRun, epoch: Epoch) -> tuple[Any, ...]:
    """The arguments of ``start_run``."""
    run, key = new.run, new.key
    kept = sorted({state.signal for state in run.steps.values() if state.signal is not None})
    row = _row(run) | {"input": new.input, "refers": run.refers or None, "kept_signals": kept}
    keys = ([key and key.route], [key and key.key], [key and key.body_digest])
    return epoch.region, epoch.value, _dump(row), *keys, log_rows([new.record], epoch)


def _row(run: StoredRun) -> dict[str, Any]:
    """The columns, as JSON, but for what the run was given."""
    return {
        "id": run.id,
        "workspace": run.workspace,
        "name": run.name,
        "version": run.version,
        "principal": run.principal,
        "metadata": run.metadata,
        "status": run.status.value,
        "state": run.state,
        "created_at": run.created_at,
        "changed_at": run.changed_at,
        "ended_at": run.ended_at,
        "started_row": run.started_row,
        "due_at": run.due_at,
        "missed": sorted(run.missed),
        "replays": run.replays,
    }


def _run(row: Any) -> StoredRun:
    return StoredRun(
        id=row["id"],
        workspace=row["workspace"],
        name=row["name"],
        version=row["version"],
        principal=row["principal"],
        metadata=json.loads(row["metadata_text"]),
        status=RunStatus(row["status"]),
        state=json.loads(row["state_text"]),
        created_at=row["created_at"],
        changed_at=row["changed_at"],
        ended_at=row["ended_at"],
        started_row=row["started_row"],
        due_at=row["due_at"],
        replays=row["replays"],
    )


def _workflow(row: Any) -> StoredWorkflow:
    return StoredWorkflow(
        workspace=row["workspace"],
        name=row["name"],
        version=row["version"],
        principal=row["principal"],
        document=json.loads(row["document_text"]),
        templates=json.loads(row["templates_text"]),
        digest=row["digest"],
        created_at=row["created_at"],
    )
