"""Snapshots of the sending database. Values are read as texts, so that they arrive as they were written: JSON to the byte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cluster.domain.replication.batch import START, CopyProgress, LogPosition, LogRange, TextRow
from cluster.domain.replication.tables import LOG, TABLES, ReplicatedTable
from cluster.domain.replication.touched import Names
from cluster.ports.replication import SourceSnapshot, SourceState
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("replication")


class PostgresReplicationReads:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SourceSnapshot]:
        async with self._pool.snapshot() as connection:
            yield _Snapshot(connection)


class _Snapshot:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def state(self, zone: str, seq: int) -> SourceState:
        row = await self._connection.fetchrow(_SQL["source_state"], zone)
        found = await self._connection.fetch(_SQL["log_positions"], [seq])
        positions = {row["seq"]: LogPosition(**dict(row)) for row in found}
        return SourceState(
            schema_version=row["schema_version"],
            role=row["role"],
            epoch=row["epoch"] or 0,
            first=row["first"],
            head=positions[max(positions)] if positions else START,
            at=positions.get(seq),
        )

    async def history(self) -> tuple[tuple[int, int], ...]:
        return tuple((row["epoch"], row["seq"]) for row in await self._connection.fetch(_SQL["log_history"]))

    async def sums(self, of: LogRange) -> tuple[int, str]:
        row = await self._connection.fetchrow(_SQL["log_sums"], of.after, of.upto)
        return row["count"], row["digest"]

    async def withheld(self, residency: str | None) -> frozenset[str]:
        return frozenset(
            row["workspace"] for row in await self._connection.fetch(_SQL["withheld_workspaces"], residency)
        )

    async def log_rows(self, after: int, limit: int, withheld: Collection[str]) -> Sequence[TextRow]:
        statement = f"select {_texts(LOG, '$3')} from log where log.seq > $1 order by log.seq limit $2"
        return _rows(await self._connection.fetch(statement, after, limit, list(withheld)))

    async def images(self, table: str, names: Sequence[Names], withheld: Collection[str]) -> Sequence[TextRow]:
        declared = TABLES[table]
        columns = tuple(declared.naming.values)
        statement = f"select {_texts(declared, '$1')} from {table}"
        if columns:
            arrays = ", ".join(f"${n}::text[]" for n in range(2, len(columns) + 2))
            equal = " and ".join(
                f"{table}.{name} = named.c{n}::{declared.columns[name]}" for n, name in enumerate(columns)
            )
            inner = ", ".join(f"c{n}" for n in range(len(columns)))
            statement += f" join unnest({arrays}) as named ({inner}) on {equal}"
        statement += _travelling(declared, "$1")
        values = [[name[n] for name in names] for n in range(len(columns))]
        return _rows(await self._connection.fetch(statement, list(withheld), *values))

    async def after_key(self, progress: CopyProgress, limit: int, withheld: Collection[str]) -> Sequence[TextRow]:
        declared = TABLES[progress.table]
        conditions = [_travelling(declared, "$1").removeprefix(" where ")]
        values: list[Any] = [list(withheld), limit]
        if progress.key is not None:
            casts = ", ".join(f"${n + 3}::text::{declared.columns[name]}" for n, name in enumerate(declared.key))
            conditions.append(f"({', '.join(declared.key)}) > ({casts})")
            values += progress.key
        if declared is LOG:
            conditions.append(f"seq <= {progress.tail.seq:d}")
        where = " and ".join(condition for condition in conditions if condition)
        statement = (
            f"select {_texts(declared, '$1')} from {progress.table} {f'where {where} ' if where else ''}"
            f"order by {', '.join(f'{progress.table}.{name}' for name in declared.key)} limit $2"
        )
        return _rows(await self._connection.fetch(statement, *values))


def _rows(found: Sequence[Any]) -> list[TextRow]:
    return [tuple(row)[:-1] for row in found]


def _texts(table: ReplicatedTable, withheld: str) -> str:
    """The columns as texts; instead of those that are withheld, what stands for them. A last one reads the parameter in any
    case."""
    columns = []
    for name in table.columns:
        value = f"{table.name}.{name}::text"
        if name in table.withheld:
            value = f"case when {table.owner} = any ({withheld}::text[]) then {table.withheld[name]} else {value} end"
        columns.append(value)
    return ", ".join((*columns, f"cardinality({withheld}::text[])"))


def _travelling(table: ReplicatedTable, withheld: str) -> str:
    """Leaves out the rows that do not travel. Their owner may be null: the row of a parent that is not there any more."""
    if not table.whole_rows_withheld:
        return ""
    return f" where not coalesce({table.owner} = any ({withheld}::text[]), false)"
