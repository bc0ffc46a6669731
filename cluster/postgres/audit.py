"""Checkpoints of the log's audit."""

from __future__ import annotations

import json
import re
from typing import Any

from cluster.domain.audit.checkpoint import Checkpoint, DamagedCheckpoint, checked
from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.ports.audit import AuditEntry, AuditFilter, LogBase, RowToSeal, Unsealed
from cluster.ports.totals import Total
from cluster.postgres.log import log_row
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("audit")


#: More entries than this are not counted.
COUNT_MAX = 100_000
_LIKE = re.compile(r"[\\%_]")


class PostgresAudit:
    """The log as entries of the audit, one workspace at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def entries(self, of: AuditFilter, limit: int, offset: int) -> tuple[list[AuditEntry], Total]:
        filters = (of.workspace, of.since, of.until, of.kinds, of.principals, of.principal_types, of.nouns, _hidden(of))
        rows = await self._pool.rows(_SQL["audit_entries"], *filters, COUNT_MAX, limit, offset)
        count = rows[0]["total"]
        return [_entry(row) for row in rows if row["seq"] is not None], Total(entries=count, exact=count < COUNT_MAX)

    async def next(self, of: AuditFilter, after: int, through: int, limit: int) -> tuple[list[AuditEntry], int]:
        # By how many rows there are and not by numbers: somebody may have written one with a number far behind the last.
        times = (of.workspace, of.since, of.until, _hidden(of))
        rows = await self._pool.rows(_SQL["audit_next"], *times, after, through, limit)
        return [_entry(row) for row in rows if row["seq"] is not None], rows[0]["reached"]

    async def entry(self, workspace: str, seq: int) -> AuditEntry | None:
        rows = await self._pool.rows(_SQL["audit_entry"], workspace, seq)
        return _entry(rows[0]) if rows else None


def _hidden(of: AuditFilter) -> list[str]:
    return [_LIKE.sub(r"\\\g<0>", kind) + "%" for kind in of.hidden]


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(row=log_row(row), previous_hash=row["previous"], entry_hash=row["entry"])


class PostgresSeals:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def base(self) -> LogBase:
        rows = await self._pool.rows(_SQL["log_base"])
        return LogBase(seq=rows[0]["seq"], entry=rows[0]["entry"]) if rows else LogBase()

    async def last(self) -> Checkpoint | None:
        rows = await self._pool.rows(_SQL["last_checkpoint"])
        return _checkpoint(rows[0]) if rows else None

    async def checkpoints(self, after: int, limit: int) -> list[Checkpoint]:
        found: list[Checkpoint] = []
        for row in await self._pool.rows(_SQL["checkpoints_after"], after, limit):
            try:
                found.append(_checkpoint(row))
            except DamagedCheckpoint:
                if not found:
                    raise
                break
        return found

    async def sealed(self) -> tuple[int, str | None]:
        (row,) = await self._pool.rows(_SQL["audit_totals"])
        return row["sealed"], row["chain"]

    async def unsealed(self, zone: str) -> Unsealed:
        rows = await self._pool.rows(_SQL["audit_unsealed"], zone)
        return Unsealed(rows=rows[0]["count"], since=rows[0]["at"]) if rows else Unsealed(rows=0, since=None)

    async def rows_to_seal(self, first: int, limit: int) -> list[RowToSeal]:
        rows = await self._pool.rows(_SQL["rows_to_seal"], first, limit)
        return [RowToSeal(**dict(row)) for row in rows]

    async def seal(self, checkpoint: Checkpoint) -> bool:
        head = checkpoint.head
        return bool(
            await self._pool.value(
                _SQL["seal_log"],
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
    """Raises: `DamagedCheckpoint` if somebody has changed the row, so that it holds none or is stored for other rows than it
    covers: a reader that goes on after the rows of its head would read it again and again."""
    first, last = row["first_seq"], row["last_seq"]
    try:
        head = json.loads(row["head"])
    except (ValueError, RecursionError):
        head = None
    try:
        found = checked(head, row["public_key"], row["signature"], row["entries"])
        if (found.first_seq, found.last_seq) != (first, last):
            raise InvalidRequest(f"This is the audit checkpoint of the rows {found.first_seq} to {found.last_seq}.")
    except InvalidRequest as error:
        raise DamagedCheckpoint(
            f"The stored checkpoint of the rows {first} to {last} was changed: {error.message}", first
        ) from error
    return found
