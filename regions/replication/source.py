"""The sending end: batches of the log's tail, and pieces of a full copy.

Each is read from one snapshot, and is bounded in rows and bytes. A batch has rows of the log and what the tables hold now of
all that they name. Nothing is written here, so a burst of changes to one row costs one image, and the primary writes nothing
twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    LogPosition,
    LogRange,
    Refusal,
    ReplicationRefused,
    TableImages,
    TextRow,
    named_row,
)
from cluster.domain.replication.tables import REPLICATED
from cluster.domain.replication.touched import touched
from cluster.ports.replication import ReplicationReads, SourceSnapshot, SourceState

#: Of a batch. A row of the log stands for some kilobytes.
MOST_ROWS: Final = 5_000
MOST_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBounds:
    """A batch has more bytes only if it has one row."""

    rows: int = MOST_ROWS
    size: int = MOST_BYTES


class ReplicationSource:
    """``residency`` of a target is the zone that it is in: payloads that are resident elsewhere do not travel to it. Which these
    are is read in the snapshot that they would travel from, so no payload is there before what keeps it back."""

    def __init__(
        self,
        reads: ReplicationReads,
        zone: str,
        bounds: SourceBounds | None = None,
    ) -> None:
        self._reads = reads
        self._zone = zone
        self._bounds = bounds or SourceBounds()

    async def sums(self, of: LogRange) -> tuple[int, str]:
        """How many rows a range of the log has, and a digest of them.

        Raises: `StoreUnavailable`."""
        async with self._reads.snapshot() as snapshot:
            return await snapshot.sums(of)

    async def batch(self, after: LogPosition, residency: str | None = None, *, is_draining: bool = False) -> Batch:
        """The rows after a position, and images. Without rows if there are none. ``is_draining``: this was the primary until it
        closed its writes to hand the zone over, and its heir needs the last rows.

        Raises: `ReplicationRefused` if this is not the primary, or its log has not got that position (any more)."""
        async with self._reads.snapshot() as snapshot:
            state = await snapshot.state(self._zone, after.seq)
            _check(state, after, is_draining)
            withheld = await snapshot.withheld(residency)
            rows = await snapshot.log_rows(after.seq, self._bounds.rows, withheld)
            images = await self._images(snapshot, rows, withheld)
            while len(rows) > 1 and _size(rows) + sum(_size(found.rows) for found in images) > self._bounds.size:
                rows = rows[: len(rows) // 2]
                images = await self._images(snapshot, rows, withheld)
        return Batch(**self._common(state), after=after, rows=tuple(rows), images=images)

    def _common(self, state: SourceState) -> dict[str, Any]:
        return {
            "zone": self._zone,
            "schema_version": state.schema_version,
            "epoch": state.epoch,
            "images_at": state.head.seq,
        }

    async def _images(
        self, snapshot: SourceSnapshot, rows: Sequence[TextRow], withheld: Collection[str]
    ) -> tuple[TableImages, ...]:
        named = touched(map(named_row, rows)).names
        images = []
        for table in REPLICATED:
            if table.name in named:
                names = tuple(sorted(named[table.name]))
                rows_now = await snapshot.images(table.name, names, withheld)
                images.append(TableImages(table=table.name, names=names, rows=tuple(rows_now)))
        return tuple(images)

    async def tail(self) -> CopyBeginning:
        """The last row, epoch and schema with which a copy begins.

        Raises: `ReplicationRefused` if this is not the primary."""
        async with self._reads.snapshot() as snapshot:
            state = await snapshot.state(self._zone, 0)
            _check_role(state)
            history = await snapshot.history()
        return CopyBeginning(
            zone=self._zone, schema_version=state.schema_version, epoch=state.epoch, tail=state.head, history=history
        )

    async def piece(self, progress: CopyProgress, residency: str | None = None) -> CopyPiece:
        """The next rows of a copy. Writes go on meanwhile: a piece may have what was changed after the copy began, and all
        that was is named by the rows that follow the copy.

        Raises: `ReplicationRefused` if this is not the primary, or its log has not got the copy's tail (any more)."""
        limit = self._bounds.rows
        async with self._reads.snapshot() as snapshot:
            state = await snapshot.state(self._zone, progress.tail.seq)
            _check(state, progress.tail)
            withheld = await snapshot.withheld(residency)
            rows = await snapshot.after_key(progress, limit, withheld)
        is_last = len(rows) < limit
        while len(rows) > 1 and _size(rows) > self._bounds.size:
            rows, is_last = rows[: len(rows) // 2], False
        return CopyPiece(**self._common(state), progress=progress, rows=tuple(rows), is_last=is_last)


def _check_role(state: SourceState, is_draining: bool = False) -> None:
    if state.role != "primary" and not (is_draining and state.role == "fenced"):
        raise ReplicationRefused(Refusal.NOT_PRIMARY)


def _check(state: SourceState, after: LogPosition, is_draining: bool = False) -> None:
    _check_role(state, is_draining)
    if after.seq < state.first - 1:
        raise ReplicationRefused(Refusal.LOST)
    if after.seq > 0 and state.at != after:
        raise ReplicationRefused(Refusal.FORK)


def _size(rows: Sequence[TextRow]) -> int:
    """In characters, which are nearly bytes."""
    return sum(len(value) for row in rows for value in row if value is not None)
