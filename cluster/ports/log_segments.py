"""The segments of the log, and what of the log is in archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.audit.log_retention import Archive, Follower, Holds, Segment
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
        """The entry hash of a row; None if it is not sealed. Raises: `StoreUnavailable`."""

    async def remove(
        self, segment: Segment, archive: Archive, record: LogRecord, dropped: Mapping[Follower, LogRecord] | None = None
    ) -> bool:
        """Removes the oldest segment, whose rows are in the archive; False, and nothing is changed, if it is not the oldest any
        more or the log is being read. ``dropped``: followers that have not read it and go on behind it, each with its row.

        Raises: `Fenced` if this region is not the primary any more, `StoreUnavailable`."""
