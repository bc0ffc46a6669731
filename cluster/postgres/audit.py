"""Checkpoints of the log's audit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.domain.audit.checkpoint import Checkpoint, checked
from cluster.domain.base.canonical import canonical_bytes
from cluster.ports.audit import EntryHashes, RowToSeal
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("audit")


class PostgresSeals:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def last(self) -> Checkpoint | None:
        rows = await self._pool.rows(_SQL["last_checkpoint"])
        return _checkpoint(rows[0]) if rows else None

    async def checkpoints(self, after: int, limit: int) -> list[Checkpoint]:
        return [_checkpoint(row) for row in await self._pool.rows(_SQL["checkpoints_after"], after, limit)]

    async def entry_hashes(self, seqs: Sequence[int]) -> Mapping[int, EntryHashes]:
        rows = await self._pool.rows(_SQL["entry_hashes"], list(seqs))
        return {row["seq"]: EntryHashes(entry=row["entry"], previous=row["previous"]) for row in rows}

    async def sealed(self) -> tuple[int, str | None]:
        (row,) = await self._pool.rows(_SQL["audit_totals"])
        return row["sealed"], row["chain"]

    async def rows_to_seal(self, first: int, limit: int) -> list[RowToSeal]:
        rows = await self._pool.rows(_SQL["rows_to_seal"], first, limit)
        return [RowToSeal(seq=row["seq"], at=row["at"], v=row["v"], digest=row["digest"]) for row in rows]

    async def seal(self, checkpoint: Checkpoint) -> bool:
        head = checkpoint.head
        return bool(
            await self._pool.value(
                _SQL["seal_rows"],
                head["zone"],
                head["epoch"],
                checkpoint.first_seq,
                checkpoint.last_seq,
                canonical_bytes(head).decode(),
                checkpoint.public_key,
                checkpoint.signature,
                checkpoint.entries,
            )
        )


def _checkpoint(row: Any) -> Checkpoint:
    try:
        head = json.loads(row["head"])
    except ValueError:
        head = None
    return checked(head, row["public_key"], row["signature"], row["entries"])
