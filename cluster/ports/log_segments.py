"""The segments of the log, and what of the log is in archives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.audit.log_retention import Archive, Dropped, Holds, Segment
from cluster.domain.base.log import LogRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRows:
    """Rows that are in an archive and went from the table at a time, in epoch seconds."""

    archive: Archive
    at: float


class LogArchives(Protocol):
    """What reads archives."""

    async def archives(self) -> Sequence[ArchivedRows]:
        """What went, in the order of the rows. Raises: `StoreUnavailable`."""


class LogSegments(LogArchives, Protocol):
    """What the part that removes segments gets."""

    async def oldest(self) -> Segment | None:
        """The oldest segment that has rows; None while the log is empty. Raises: `StoreUnavailable`."""

    async def holds(self) -> Holds:
        """What still needs rows. Raises: `StoreUnavailable`."""

    async def entry(self, seq: int) -> bytes | None:
        """The entry hash of a row, or of the last one that went; None if it is not sealed. Raises: `StoreUnavailable`."""

    async def remove(
        self,
        segment: Segment,
        archive: Archive,
        record: LogRecord,
        late: Dropped | None = None,
        dropped: Sequence[LogRecord] = (),
    ) -> bool:
        """Removes the oldest segment, whose rows are in the archive; False, and nothing is changed, if it is not the oldest any
        more or the log is being read. ``late``: who has not read it and goes on behind it, of which ``dropped`` are the rows.

        Raises: `Fenced` if this region is not the primary any more, `StoreUnavailable`."""

    async def trim(self, segment: Segment, archive: Archive, at: float) -> bool:
        """The same in a region that follows: False also if it does not follow. No row is written.

        Raises: `StoreUnavailable`."""
