"""The receiving database: rows and images of a batch are one transaction, under the lock of the zone's commits.

Where it is in the log, its log says, so that no second cursor can disagree with it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from cluster.domain.audit.erasure import is_erasure
from cluster.domain.replication.batch import (
    START,
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    LogPosition,
    ReplicaState,
    ReplicationRefused,
    TableImages,
    TextRow,
    batch_refusal,
    copy_refusal,
    first_progress,
    named_row,
    piece_refusal,
    position_of,
)
from cluster.domain.replication.tables import LOG, TABLES, ReplicatedTable
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("replication")


class PostgresReplica:
    """``residency``: the zone of residency that the region is in."""

    def __init__(self, pool: Pool, zone: str, residency: str | None = None) -> None:
        self._pool = pool
        self._zone = zone
        self._residency = residency

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[Any]:
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["replica_lock"], self._zone)
            yield connection

    async def state(self) -> ReplicaState:
        async with self._pool.snapshot() as connection:
            return await self._state(connection, [])

    async def _state(self, connection: Any, seqs: Sequence[int]) -> ReplicaState:
        row = await connection.fetchrow(_SQL["replica_state"], self._zone, self._residency)
        found = await connection.fetch(_SQL["log_positions"], list(seqs))
        positions = {row["seq"]: LogPosition(**dict(row)) for row in found}
        return ReplicaState(
            schema_version=row["schema_version"],
            role=row["role"],
            epoch=row["epoch"],
            head=positions[max(positions)] if positions else START,
            images_at=row["images_at"],
            copying=None if row["copying"] is None else _progress(row["copying"]),
            rows=positions,
            lacks_payloads=row["lacks_payloads"],
        )

    async def apply(self, batch: Batch) -> ReplicaState:
        """Raises: `ReplicationRefused`, before anything is applied."""
        async with self._locked() as connection:
            state = await self._state(connection, [batch.after.seq, batch.last.seq])
            refusal = batch_refusal(state, batch)
            if refusal is not None:
                raise ReplicationRefused(refusal)
            if batch.epoch != state.epoch:
                await connection.execute(_SQL["replica_epoch"], self._zone, batch.epoch)
            state = replace(state, epoch=batch.epoch, rows={})
            rows = [row for row in batch.rows if position_of(row).seq > state.head.seq]
            if not rows:
                return state
            for images in batch.images:
                await _replace(connection, images)
            await _take_log(connection, rows)
            if any(is_erasure(named_row(row).kind) for row in rows):
                await connection.execute(_SQL["follow_erasures"], state.head.seq)
            state = replace(state, head=batch.last, images_at=max(state.images_at, batch.images_at))
            if any(images.table == "workspace_zones" for images in batch.images):
                # Before the next batch is confirmed: whoever lacks payloads must not count from the first of them on.
                lacks = await connection.fetchval(_SQL["lacks_payloads"], self._residency)
                state = replace(state, lacks_payloads=lacks)
            if not state.is_whole:  # else the last row tells as much
                await connection.execute(_SQL["replica_images"], self._zone, batch.images_at)
            return state

    async def begin_copy(self, beginning: CopyBeginning) -> None:
        """Raises: `ReplicationRefused`, before anything is applied."""
        async with self._locked() as connection:
            state = await self._state(connection, [])
            refusal = copy_refusal(state, beginning)
            if refusal is not None:
                raise ReplicationRefused(refusal)
            await connection.execute(_SQL["replica_epoch"], self._zone, beginning.epoch)
            # Folds of the log begin anew with it: a cursor past a fork would skip rows.
            await connection.execute(f"truncate {', '.join(TABLES)}, telemetry, audit_checkpoints, followed_archives")
            first = _progress_json(first_progress(beginning.tail))
            await connection.execute(_SQL["replica_begins"], self._zone, beginning.tail.seq, first)

    async def apply_piece(self, piece: CopyPiece) -> CopyProgress | None:
        """Raises: `ReplicationRefused`, before anything is applied."""
        async with self._locked() as connection:
            state = await self._state(connection, [])
            refusal = piece_refusal(state, piece)
            if refusal is not None:
                raise ReplicationRefused(refusal)
            following = piece.following()
            if TABLES[piece.progress.table] is LOG:
                await _take_log(connection, piece.rows)
            else:
                await _upsert(connection, TABLES[piece.progress.table], piece.rows)
            stored = None if following is None else _progress_json(following)
            await connection.execute(_SQL["replica_copying"], self._zone, piece.images_at, stored)
            return following

    async def set_role(self, role: str, epoch: int, trusted_s: float | None) -> bool:
        return await self._pool.value(_SQL["set_region_role"], self._zone, role, epoch, trusted_s) is not None


def _progress_json(progress: CopyProgress) -> str:
    tail = progress.tail
    key = None if progress.key is None else list(progress.key)
    return json.dumps({"tail": [tail.epoch, tail.seq, tail.digest], "table": progress.table, "key": key})


def _progress(text: str) -> CopyProgress:
    found = json.loads(text)
    epoch, seq, digest = found["tail"]
    key = None if found["key"] is None else tuple(found["key"])
    return CopyProgress(tail=LogPosition(epoch=epoch, seq=seq, digest=digest), table=found["table"], key=key)


async def _take_log(connection: Any, rows: Sequence[TextRow]) -> None:
    """Rows of the log in their order. Their segments are this database's own: a copy may begin with any row."""
    if rows:
        await connection.execute(_SQL["replica_room"], position_of(rows[-1]).seq)
        await _upsert(connection, LOG, rows)


async def _replace(connection: Any, images: TableImages) -> None:
    """Makes the rows of these names what the images are."""
    table = TABLES[images.table]
    if table.deletes:
        await _delete(connection, table, images)
    await _upsert(connection, table, images.rows)


async def _delete(connection: Any, table: ReplicatedTable, images: TableImages) -> None:
    naming, names = tuple(table.naming.values), tuple(table.columns)
    keys = [names.index(name) for name in table.key]
    arrays = [[row[at] for row in images.rows] for at in keys]
    kept = _equal(table, table.key, "kept")
    condition = f"not exists (select from {_unnested(1, len(keys), 'kept')} where {kept})"
    using = ""
    if naming:
        using = f"using {_unnested(len(keys) + 1, len(naming), 'named')}"
        condition = f"{_equal(table, naming, 'named')} and {condition}"
        arrays += [[name[n] for name in images.names] for n in range(len(naming))]
    # Tables and columns are those of `cluster/domain/replication/tables.py`; what comes from a peer is in the arrays.
    await connection.execute(f"delete from {table.name} {using} where {condition}", *arrays)  # nosec


def _unnested(first: int, columns: int, alias: str) -> str:
    arrays = ", ".join(f"${n}::text[]" for n in range(first, first + columns))
    return f"unnest({arrays}) as {alias} ({', '.join(f'c{n}' for n in range(columns))})"


def _equal(table: ReplicatedTable, columns: Sequence[str], alias: str) -> str:
    return " and ".join(f"{table.name}.{name} = {alias}.c{n}::{table.columns[name]}" for n, name in enumerate(columns))


async def _upsert(connection: Any, table: ReplicatedTable, rows: Sequence[TextRow]) -> None:
    if not rows:
        return
    names = tuple(table.columns)
    values = ", ".join(f"u.c{n}::{table.columns[name]}" for n, name in enumerate(names))
    changed = [name for name in names if name not in table.key and name not in table.fixed]
    update = ", ".join(f"{name} = excluded.{name}" for name in changed)
    await connection.execute(
        f"insert into {table.name} ({', '.join(names)}) overriding system value "  # nosec
        f"select {values} from {_unnested(1, len(names), 'u')} "
        f"on conflict ({', '.join(table.key)}) do update set {update}",
        *[list(column) for column in zip(*rows, strict=True)],
    )
    for name in table.fixed:
        newest = max(int(row[names.index(name)] or 0) for row in rows)
        await connection.execute(_SQL["identity_moves"], table.name, name, newest)
