"""The log of a region, and the epoch that fences every write to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord, LogRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Selects rows that match all fields that are given: one of ``entities``, the ``kind_prefix`` (such as ``task.``), one of
    several such prefixes in ``kinds``."""

    workspace: str | None = None
    entities: tuple[str, ...] = ()
    kind_prefix: str | None = None
    kinds: tuple[str, ...] = ()

    def all_kinds(self) -> tuple[str, ...]:
        """All prefixes of kinds, of which one has to match."""
        return (*self.kinds, *([self.kind_prefix] if self.kind_prefix else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Rows for a follower. ``cursor`` is up to which row the log was searched: after the last row of the page, if those
    after it did not match."""

    rows: list[LogRow]
    cursor: int


class WorkspaceLog(Protocol):
    """What request handlers get."""

    async def story(self, workspace: str, of: str, after: int, limit: int) -> list[LogRow]:
        """Rows of the entity or the request ``of``, those that led to them and those that they led to; of these the rows with
        ``seq > after``, in order."""


class Log(WorkspaceLog, Protocol):
    """What the parts of the system get, which follow the rows of all workspaces."""

    async def read(self, after: int, limit: int, only: LogFilter | None = None) -> list[LogRow]:
        """At most ``limit`` rows with ``seq > after``, in order. A later row is never visible before an earlier one."""

    async def page(self, after: int, limit: int, only: LogFilter | None = None) -> LogPage:
        """The next rows for a follower, at most ``limit``. The cursor also passes rows that the filter leaves out."""

    async def head(self) -> int:
        """The last committed ``seq``, 0 for an empty log."""

    async def first(self) -> int:
        """The first ``seq`` that has not gone into an archive, 1 for an empty log."""

    async def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Writes rows that belong to no other change (system events), and returns their numbers."""


class Region(Protocol):
    """The region's epoch: fences every write."""

    async def epoch(self) -> int:
        """Returns the stored epoch. From now on this process's writes state it."""

    async def raise_epoch(self, leader: str) -> int:
        """Raises the epoch by one and returns it, under the lock of the commit protocol: no write that states an older epoch
        can commit afterwards."""
