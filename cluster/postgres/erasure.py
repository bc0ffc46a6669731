"""Erasure in the database. Each commit is one function of the commit protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.domain.base.log import LogRecord
from cluster.domain.tasks.task import OF_DELIBERATIONS
from cluster.ports.erasure import Chosen, Position, Window
from cluster.postgres.log import Epoch, PostgresLog, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("erasure")


class PostgresErasures:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def open_work(self, workspace: str, subject: str | None, limit: int) -> list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["open_work"], workspace, subject, limit)]

    async def task_family(self, workspace: str, task_id: str) -> Chosen | None:
        rows = await self._pool.rows(_SQL["task_family"], workspace, task_id)
        return _chosen([row for row in rows if not row["erased"]]) if rows else None

    async def pull_calls(self, workspace: str, request_id: str, since: float, until: float) -> Chosen:
        return _chosen(
            await self._pool.rows(_SQL["pull_calls"], workspace, list(OF_DELIBERATIONS), since, until, f"{request_id}/")
        )

    async def tasks(self, workspace: str, subject: str | None, after: Position, until: float, limit: int) -> Window:
        return await self._window("tasks_to_erase", workspace, subject, after, until, limit)

    async def deliberations(
        self, workspace: str, subject: str | None, after: Position, until: float, limit: int
    ) -> Window:
        return await self._window("deliberations_to_erase", workspace, subject, after, until, limit)

    async def _window(
        self, query: str, workspace: str, subject: str | None, after: Position, until: float, limit: int
    ) -> Window:
        return _windowed(await self._pool.rows(_SQL[query], workspace, subject, *after, until, limit))

    async def outcomes(self, workspace: str, after: str, limit: int) -> list[str]:
        return [row["id"] for row in await self._pool.rows(_SQL["outcomes_to_erase"], workspace, after, limit)]

    async def rules(self, workspace: str, limit: int) -> list[tuple[str, str]]:
        return [(row["kind"], row["entity"]) for row in await self._pool.rows(_SQL["rules_to_erase"], workspace, limit)]

    async def violations(self, workspace: str, after: Position, limit: int) -> Window:
        return _windowed(await self._pool.rows(_SQL["violations_to_erase"], workspace, *after, limit))

    async def told(self, workspace: str) -> int:
        return int(await self._pool.value(_SQL["count_told"], workspace))

    async def log_words(self, workspace: str, after: int, through: int) -> int:
        return int(await self._pool.value(_SQL["log_words"], workspace, after, through))

    async def log_end(self, workspace: str) -> tuple[int, bool]:
        (row,) = await self._pool.rows(_SQL["last_row"])
        return row["seq"], row["first_form"]

    async def erase_tasks(self, workspace: str, records: Sequence[LogRecord]) -> int:
        return len(await self._commit("erase_tasks", records))

    async def erase_deliberation(
        self, workspace: str, contract: str, events: Sequence[tuple[int, str]], records: Sequence[LogRecord]
    ) -> bool:
        numbers, texts = [n for n, _ in events], [text for _, text in events]
        return bool(await self._commit("erase_deliberation", records, contract, numbers, texts))

    async def erase_outcomes(self, workspace: str, records: Sequence[LogRecord]) -> int:
        return int(await self._commit("erase_outcomes", records))

    async def erase_rules(self, workspace: str, records: Sequence[LogRecord]) -> Sequence[bool]:
        return list(await self._commit("erase_rules", records))

    async def erase_violations(self, workspace: str, record: LogRecord) -> int:
        return int(await self._commit("erase_violations", [record]))

    async def erase_told(self, workspace: str, limit: int) -> int:
        return int(await self._pool.value(_SQL["erase_told"], workspace, limit))

    async def erase_log_words(self, workspace: str, after: int, through: int, record: LogRecord) -> int:
        return int(await self._commit("erase_log_words", [record], after, through))

    async def forget_rest(self, workspace: str) -> None:
        await self._pool.execute(_SQL["forget_rest"], workspace)

    async def note(self, workspace: str, record: LogRecord) -> None:
        await PostgresLog(self._pool, self._epoch).append([record])

    async def _commit(self, query: str, records: Sequence[LogRecord], *what: Any) -> Any:
        return await self._pool.value(
            _SQL[query], self._epoch.region, self._epoch.value, *what, log_rows(records, self._epoch)
        )


def _windowed(rows: Sequence[Any]) -> Window:
    last = (rows[-1]["created_at"], rows[-1]["id"]) if rows else None
    return Window(ids=[row["id"] for row in rows if row["chosen"]], last=last)


def _chosen(rows: Sequence[Any]) -> Chosen:
    return Chosen(open=[row["id"] for row in rows if row["open"]], ended=[row["id"] for row in rows if not row["open"]])
