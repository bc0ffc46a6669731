"""Deliberations: the row that readers see, and the journal from which workers compute the state."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from typing import Any

from cluster.domain.audit.retention import Stub
from cluster.domain.base.json_writing import json_writer
from cluster.domain.base.log import SYSTEM, LogRecord
from cluster.domain.deliberation.stored import (
    Admitted,
    Deliberation,
    JournalAppend,
    JournalEvent,
    NewDeliberation,
    TakenDeliberation,
)
from cluster.ports.deliberations import DeliberationPage, DeliberationQuery
from cluster.ports.totals import Total
from cluster.postgres.columns import array, numbers, texts
from cluster.postgres.deliberation_search import deliberation_terms, search_statement
from cluster.postgres.log import Epoch, log_columns, log_rows, waves
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries
from cluster.postgres.task_search import SCANNED
from cluster.postgres.totals import total_of

_SQL = queries("deliberations")
_encode = json_writer(compact=True, allow_nan=True)

#: How long after its deliberation's end a key is forgotten that was made from the body.
SOFT_KEY_S = 60.0
PRINCIPAL = "system:deliberation"


class PostgresDeliberations:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def admit(self, items: Sequence[NewDeliberation]) -> builtins.list[Admitted]:
        outcomes: list[Admitted | None] = [None] * len(items)
        for part in waves(items, lambda item: (item.idempotency and item.idempotency.key, item.request_id)):
            rows = await self._pool.rows(
                _SQL["admit_deliberations"], *admit_arguments([item for _, item in part], self._epoch)
            )
            for (index, _), row in zip(part, rows, strict=True):
                outcomes[index] = Admitted(
                    request_id=row["request_id"],
                    seq=row["seq"],
                    replayed=bool(row["replayed"]),
                    conflict=bool(row["conflict"]),
                )
        return [outcome for outcome in outcomes if outcome is not None]

    async def take(self, request_ids: Sequence[str], owner: str) -> builtins.list[TakenDeliberation | None]:
        rows = await self._pool.rows(_SQL["take_deliberations"], sorted(set(request_ids)), owner)
        taken = {row["request_id"]: _deliberation(row) for row in rows}
        begun = [request_id for request_id, deliberation in taken.items() if deliberation.events]
        journals: dict[str, builtins.list[JournalEvent]] = {request_id: [] for request_id in taken}
        for row in await self._pool.rows(_SQL["journals"], begun) if begun else ():
            journals[row["request_id"]].append(_event(row))
        return [
            TakenDeliberation(deliberation=taken[request_id], journal=tuple(journals[request_id]))
            if request_id in taken
            else None
            for request_id in request_ids
        ]

    async def open(self) -> builtins.list[tuple[str, str | None]]:
        return [(row["request_id"], row["owner"]) for row in await self._pool.rows(_SQL["open_deliberations"])]

    async def append(self, items: Sequence[JournalAppend]) -> builtins.list[bool]:
        done = [False] * len(items)
        for part in waves(items, lambda item: item.request_id):
            values = await self._append([item for _, item in part])
            for (index, _), value in zip(part, values, strict=True):
                done[index] = value
        return done

    async def _append(self, items: Sequence[JournalAppend]) -> Sequence[bool]:
        records = [
            LogRecord(
                at=item.events[index].at,
                workspace=item.workspace,
                kind=kind,
                entity=item.request_id,
                principal=PRINCIPAL,
                cause=item.cause,
                data=data,
                private=words or None,
            )
            for item in items
            for index, kind, data, words in item.log
        ]
        records += [_silent(item) for item in items if not item.log]
        events = [(item.request_id, event) for item in items for event in item.events]
        values: Sequence[bool] = await self._pool.value(
            _SQL["append_deliberations"],
            self._epoch.region,
            self._epoch.value,
            texts([item.request_id for item in items]),
            numbers([item.fence for item in items]),
            numbers([item.events[0].n for item in items]),
            numbers([len(item.events) for item in items]),
            texts([item.state for item in items]),
            texts([item.terminal for item in items]),
            array([None if item.result is None else _encode(item.result) for item in items]),
            numbers([item.completed_at for item in items]),
            texts([request_id for request_id, _ in events]),
            numbers([event.n for _, event in events]),
            numbers([event.at for _, event in events]),
            texts([event.kind for _, event in events]),
            [_encode(event.data) for _, event in events],
            *log_columns(records, self._epoch),
        )
        return values

    async def journal(self, workspace: str, request_id: str, after: int = 0) -> builtins.list[JournalEvent]:
        return [_event(row) for row in await self._pool.rows(_SQL["journal"], workspace, request_id, after)]

    async def get(self, workspace: str, request_id: str) -> Deliberation | None:
        return await self._get(request_id, workspace)

    async def stub(self, workspace: str, request_id: str) -> Stub | None:
        rows = await self._pool.rows(_SQL["deliberation_stub"], workspace, request_id)
        return Stub(**dict(rows[0])) if rows else None

    async def get_any(self, request_id: str) -> Deliberation | None:
        return await self._get(request_id, None)

    async def _get(self, request_id: str, workspace: str | None) -> Deliberation | None:
        rows = await self._pool.rows(_SQL["get_deliberation"], request_id, workspace)
        return _deliberation(rows[0]) if rows else None

    async def list(
        self, workspace: str, limit: int = 100, offset: int = 0
    ) -> tuple[builtins.list[Deliberation], Total]:
        rows = await self._pool.rows(_SQL["list_deliberations"], workspace, limit, offset)
        total = await total_of(self._pool, _SQL["matching_deliberations"], workspace)
        return [_deliberation(row) for row in rows], total

    async def last_changed(
        self, workspace: str, limit: int, before: tuple[float, str] | None = None
    ) -> tuple[builtins.list[Deliberation], Total]:
        rows = await self._pool.rows(_SQL["changed_deliberations"], workspace, *(before or (None, None)), limit)
        total = await total_of(self._pool, _SQL["matching_deliberations"], workspace)
        return [_deliberation(row) for row in rows], total

    async def search(self, query: DeliberationQuery) -> DeliberationPage:
        terms = deliberation_terms(query)
        if len(terms) > 1:  # the rarest leads
            rows = await self._pool.rows(_SQL["count_deliberation_terms"], terms, SCANNED)
            terms = [row["term"] for row in rows]
        rows = await self._pool.rows(*search_statement(query, terms))
        found = [_deliberation(row) for row in rows if row["request_id"] is not None]
        if len(found) == query.limit:
            return DeliberationPage(found, (found[-1].admitted_at, found[-1].request_id))
        end = rows[0]
        return DeliberationPage(found, None if end["end_id"] is None else (end["end_at"], end["end_id"]))

    async def cancel(self, workspace: str, request_id: str, record: LogRecord) -> bool:
        return bool(
            await self._pool.value(
                _SQL["cancel_deliberation"],
                self._epoch.region,
                self._epoch.value,
                workspace,
                request_id,
                log_rows([record], self._epoch),
            )
        )


def admit_arguments(items: Sequence[NewDeliberation], epoch: Epoch) -> tuple[Any, ...]:
    """The arguments of the statement ``admit_deliberations``."""
    records = [
        LogRecord(
            at=item.admitted_at,
            workspace=item.origin.workspace,
            kind="deliberation.admitted",
            entity=item.request_id,
            principal=item.origin.principal,
            cause=item.origin.cause,
            data={"request_id": item.request_id, "task_id": item.task_id, "mode": item.mode},
        )
        for item in items
    ]
    keys = [item.idempotency for item in items]
    return (
        epoch.region,
        epoch.value,
        items[0].admitted_at,
        SOFT_KEY_S,
        [item.task_id for item in items],
        [item.deadline_at for item in items],
        [_encode(item.contract) for item in items],
        [item.contract_digest for item in items],
        [item.mode for item in items],
        [key and key.route for key in keys],
        [key and key.key for key in keys],
        [key and key.body_digest for key in keys],
        log_rows(records, epoch),
    )


def _silent(item: JournalAppend) -> LogRecord:
    """The row of events that nobody is told of: another region gets the journal by it. It is the system's, so that no workspace's
    stream or story shows it."""
    last = item.events[-1]
    return LogRecord(
        at=last.at,
        workspace=SYSTEM,
        kind="journal.appended",
        entity=item.request_id,
        cause=item.cause,
        data={"events": last.n},
    )


def _event(row: Any) -> JournalEvent:
    return JournalEvent(n=row["n"], at=row["at"], kind=row["kind"], data=json.loads(row["data"]))


def _deliberation(row: Any) -> Deliberation:
    result = row["result_text"]
    return Deliberation(
        request_id=row["request_id"],
        task_id=row["task_id"],
        workspace=row["workspace"],
        principal=row["principal"],
        admitted_at=row["admitted_at"],
        deadline_at=row["deadline_at"],
        contract=json.loads(row["contract_text"]),
        contract_digest=row["contract_digest"],
        mode=row["mode"],
        state=row["state"],
        terminal=row["terminal"],
        result=None if result is None else json.loads(result),
        completed_at=row["completed_at"],
        owner=row["owner"],
        fence=row["fence"],
        events=row["events"],
        cancel_requested=row["cancel_requested"],
        cause=row["cause"],
        erased_at=row["erased_at"],
    )
