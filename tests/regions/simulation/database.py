"""A region's database: what it holds survives the region's processes. It checks role, epoch and trust in every commit, by its own
clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from regions.domain.leadership import LogPosition, RegionReport
from regions.domain.rejoin import LogHistory, extended

#: (epoch, id) of a row; its seq is its index + 1.
StoredRow = tuple[int, str]


class RegionRole(StrEnum):
    """What a region's database is to a zone: commits succeed as ``primary`` only."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    FENCED = "fenced"


class CommitRefused(Exception):
    """The commit function refuses: role, epoch or trust."""


@dataclass(slots=True)
class Database:
    """``rate`` and ``offset_s``: its clock against the simulation's."""

    region: str
    rate: float
    offset_s: float
    rows: list[StoredRow] = field(default_factory=list)
    history: LogHistory = ()
    epoch: int = 0
    version: int = 0
    role: RegionRole = RegionRole.SECONDARY
    trusted_until: float = 0.0
    surplus: list[StoredRow] = field(default_factory=list)
    #: Up to which row its images are, whether it is being copied, and the last row at which it was whole.
    images_at: int = 0
    copying: bool = False
    whole_at: int = 0

    @property
    def is_whole(self) -> bool:
        return not self.copying and len(self.rows) >= self.images_at

    def clock(self, now: float) -> float:
        return self.offset_s + now * self.rate

    def report(self) -> RegionReport:
        position = LogPosition(epoch=self.rows[-1][0] if self.rows else 0, seq=len(self.rows))
        return RegionReport(epoch=self.epoch, version=self.version, position=position, is_whole=self.is_whole)

    def commit(self, epoch: int, row_id: str, now: float) -> int:
        if self.role is not RegionRole.PRIMARY or epoch != self.epoch or self.clock(now) >= self.trusted_until:
            raise CommitRefused
        self._append((epoch, row_id))
        return len(self.rows)

    def _append(self, row: StoredRow) -> None:
        self.rows.append(row)
        self.whole_at = len(self.rows) if self.is_whole else self.whole_at
        self.history = extended(self.history, row[0], len(self.rows))

    def open(self, epoch: int, trusted_until: float, now: float) -> int:
        """Under an epoch that is greater than its own only; the raise is a row."""
        if epoch <= self.epoch or self.clock(now) >= trusted_until:
            raise CommitRefused
        self.epoch, self.role, self.trusted_until = epoch, RegionRole.PRIMARY, trusted_until
        self._append((epoch, f"epoch-{epoch}"))
        return len(self.rows)

    def close(self) -> int:
        self.role = RegionRole.FENCED
        return len(self.rows)

    def move_trust(self, epoch: int, trusted_until: float) -> None:
        if epoch == self.epoch and self.role is RegionRole.PRIMARY:
            self.trusted_until = max(self.trusted_until, trusted_until)

    def follows(self, epoch: int) -> bool:
        """Whether it takes rows of a primary of that epoch; a later epoch ends its own."""
        if epoch < self.epoch or (epoch == self.epoch and self.role is RegionRole.PRIMARY):
            return False
        self.epoch, self.role = epoch, RegionRole.SECONDARY
        return True

    def apply(self, after: int, rows: list[StoredRow], images_at: int) -> None:
        taken = rows[max(0, len(self.rows) - after) :] if len(self.rows) >= after else []
        if taken:
            self.images_at = max(self.images_at, images_at)
        for row in taken:
            self._append(row)

    def empty(self) -> None:
        self.rows, self.history, self.images_at, self.copying, self.whole_at = [], (), 0, True, 0

    def copy_rows(self, rows: list[StoredRow]) -> None:
        """A part of a copy: rows of the log, while tables are still missing."""
        for row in rows:
            self._append(row)
