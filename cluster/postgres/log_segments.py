"""The segments of the log, what still needs them, and what of the log is in archives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cluster.domain.audit.log_retention import Archive, Dropped, Follower, Holds, Segment
from cluster.domain.base.json_writing import canonical_json
from cluster.domain.base.log import LogRecord
from cluster.ports.log_segments import ArchivedRows
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("log_segments")
_RETENTION = queries("retention")


class PostgresLogSegments:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def oldest(self) -> Segment | None:
        for row in await self._pool.rows(_SQL["oldest_segments"]):
            ends = await self._pool.rows(_SQL["segment_ends"], row["end_seq"])
            if ends:
                return Segment(number=row["number"], is_newest=row["is_newest"], **dict(ends[0]))
        return None

    async def holds(self) -> Holds:
        (row,) = await self._pool.rows(_SQL["log_holds"], self._epoch.region)
        cursors = {
            Follower.TELEMETRY: row["counts"],
            Follower.NOTIFICATIONS: row["notifications"],
            Follower.WORKFLOWS: row["workflows"],
        }
        (others,) = await self._pool.rows(_SQL["region_cursors"], self._epoch.region)
        return Holds(
            sealed=row["sealed"],
            cursors=cursors,
            oldest_work=await self._oldest_work(),
            regions=json.loads(others["regions"]),
            is_told=others["told"],
        )

    async def _oldest_work(self) -> float | None:
        oldest = None
        for row in await self._pool.rows(_RETENTION["retention_workspaces"]):
            at = await self._pool.value(_SQL["oldest_work"], row["id"])
            oldest = at if oldest is None else min(oldest, at if at is not None else oldest)
        return oldest

    async def entry(self, seq: int) -> bytes | None:
        entry: bytes | None = await self._pool.value(_SQL["entry_of"], seq)
        return entry

    async def remove(
        self,
        segment: Segment,
        archive: Archive,
        record: LogRecord,
        late: Dropped | None = None,
        dropped: Sequence[LogRecord] = (),
    ) -> bool:
        mine, stored = (self._epoch.region, self._epoch.value, segment.number), stored_archive(archive, record.at)
        if not late:
            rows = log_rows([record], self._epoch)
            return bool(await self._pool.value(_SQL["remove_log_segment"], *mine, stored, rows))
        rows, names = log_rows([record, *dropped], self._epoch), (sorted(late.followers), sorted(late.regions))
        return bool(await self._pool.value(_SQL["remove_segment"], *mine, stored, *names, rows))

    async def trim(self, segment: Segment, archive: Archive, at: float) -> bool:
        given = (self._epoch.region, segment.number, stored_archive(archive, at))
        return bool(await self._pool.value(_SQL["trim_followed_log"], *given))

    async def archives(self) -> Sequence[ArchivedRows]:
        return [
            ArchivedRows(archive=_archive(row), at=row["at"]) for row in await self._pool.rows(_SQL["log_archives"])
        ]


def stored_archive(archive: Archive, at: float) -> str:
    """The row of the table, as JSON, of an archive whose rows go at a time."""
    row = {
        "first_seq": archive.first_seq,
        "last_seq": archive.last_seq,
        "at": at,
        "name": archive.name,
        "digest": f"\\x{archive.digest.hex()}",
        "entry": f"\\x{archive.entry.hex()}",
        "epochs": [list(pair) for pair in archive.epochs],
        "first_form": archive.first_form,
    }
    return canonical_json(row)


def _archive(row: Any) -> Archive:
    return Archive(
        first_seq=row["first_seq"],
        last_seq=row["last_seq"],
        name=row["name"],
        digest=row["digest"],
        entry=row["entry"],
        epochs=tuple((epoch, seq) for epoch, seq in json.loads(row["epochs"])),
        first_form=row["first_form"],
    )
