"""The log of a region: reading it, and the epoch that fences every write to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.log import LogRecord, LogRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """All given fields must match; ``entities`` is any of them; ``kind_prefix`` e.g. ``task.``, ``kinds`` any of such."""

    workspace: str | None = None
    entities: tuple[str, ...] = ()
    kind_prefix: str | None = None
    kinds: tuple[str, ...] = ()

    def all_kinds(self) -> tuple[str, ...]:
        return (*self.kinds, *([self.kind_prefix] if self.kind_prefix else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """``cursor`` is how far the log has been looked through: beyond the last row, where later ones did not match."""

    rows: list[LogRow]
    cursor: int


class Log(Protocol):
    async def read(self, after: int, limit: int, only: LogFilter | None = None) -> list[LogRow]:
        """Rows with ``seq > after`` in order. Never shows a later row before an earlier one."""

    async def page(self, after: int, limit: int, only: LogFilter | None = None) -> LogPage:
        """The next rows for a follower, at most ``limit``; a filter does not hold its cursor back."""

    async def story(self, workspace: str, of: str, after: int, limit: int) -> list[LogRow]:
        """Rows with ``seq > after`` of the entity or the request ``of``, with those that led to them and those that they
        led to."""

    async def head(self) -> int:
        """The last committed ``seq``, 0 for an empty log."""

    async def append(self, records: Sequence[LogRecord]) -> list[int]:
        """Rows that belong to no other change (system events)."""


class Region(Protocol):
    """The region's epoch: fences every write."""

    async def epoch(self) -> int:
        """The stored epoch; also becomes the epoch that this process's writes state."""

    async def raise_epoch(self, leader: str) -> int:
        """Under the lock of the commit protocol: no write that states an older epoch can commit after it."""
