"""The two ends of replication: snapshots of the sending database, and the receiving one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogPosition,
    LogRange,
    LogSums,
    PeerReport,
    ReplicaState,
    TextRow,
)
from cluster.domain.replication.touched import Names


class LinkLost(TryLater):
    """The other region did not answer, in time or as it should. What it was asked changes nothing there, so it is asked again."""

    default_code = "link_lost"


class LinkRefused(ControlPlaneError):
    """The two ends must not exchange anything: another try changes nothing before an operator does."""

    status = 409
    default_code = "link_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """``at``: the row of the number that was asked for, None if it is not there. ``first``: the first number that is kept."""

    schema_version: int
    role: str | None
    epoch: int
    first: int
    head: LogPosition
    at: LogPosition | None


class SourceSnapshot(Protocol):
    """The sending database at one moment: all answers are of it. ``withheld``: workspaces whose payloads do not travel."""

    async def state(self, zone: str, seq: int) -> SourceState:
        """What the database is for the zone, and the ends of its log."""

    async def history(self) -> tuple[tuple[int, int], ...]:
        """The log's epochs, each with its last row, in order."""

    async def sums(self, of: LogRange) -> tuple[int, str]:
        """How many rows a range of the log has, and a digest of them."""

    async def withheld(self, residency: str | None) -> frozenset[str]:
        """The workspaces whose payloads a region of this zone of residency must not hold; None: of a region that is in none."""

    async def log_rows(self, after: int, limit: int, withheld: Collection[str]) -> Sequence[TextRow]:
        """Rows of the log after a number, in order."""

    async def images(self, table: str, names: Sequence[Names], withheld: Collection[str]) -> Sequence[TextRow]:
        """The rows of a table that have one of the names."""

    async def after_key(self, progress: CopyProgress, limit: int, withheld: Collection[str]) -> Sequence[TextRow]:
        """Rows of a table after a key, in the order of keys; of the log at most up to the copy's tail."""


class ReplicationReads(Protocol):
    """The sending database."""

    def snapshot(self) -> AbstractAsyncContextManager[SourceSnapshot]:
        """Opens a snapshot."""


class ReplicationLink(Protocol):
    """Another region, as this one reaches it. All methods raise `LinkLost` if it does not answer in time, or not as it should,
    and `LinkRefused` if it is none that may answer or be answered. Those of a copy and of batches raise `ReplicationRefused`
    if it is not the zone's primary, or its log has not got a position (any more)."""

    async def batch(self, follower: Follower) -> Batch:
        """The rows after a position, and images. If there are none, it may wait for them; without rows it is a heartbeat."""

    async def tail(self) -> CopyBeginning:
        """The last row, epoch and schema with which a copy begins."""

    async def piece(self, progress: CopyProgress) -> CopyPiece:
        """The next rows of a copy."""

    async def report(self) -> PeerReport:
        """What its database says of the zone, whether it is primary or not."""


class RegionLink(ReplicationLink, Protocol):
    """What operators ask of another region, besides. The methods raise what those of `ReplicationLink` do."""

    async def sums(self, of: LogRange) -> LogSums:
        """By which two regions compare a range of their logs."""

    async def hand_over(self) -> None:
        """Begins a planned transfer of the zone from that region to the one that asks. Refused if it is not the primary."""


class ReplicationEnd(Protocol):
    """What a region answers to its peers. ``peer`` is the region that asks, as the link knows it. The methods are those of
    `RegionLink`, and raise what those raise."""

    async def batch(self, peer: str, follower: Follower) -> Batch:
        """The rows after a position, and images."""

    async def tail(self, peer: str) -> CopyBeginning:
        """With what a copy begins."""

    async def piece(self, peer: str, progress: CopyProgress) -> CopyPiece:
        """The next rows of a copy."""

    async def report(self, peer: str) -> PeerReport:
        """What the database says of the zone."""

    async def sums(self, peer: str, of: LogRange) -> LogSums:
        """By which two regions compare a range of their logs."""

    async def hand_over(self, peer: str) -> None:
        """Begins a planned transfer of the zone to the peer."""


class Replica(Protocol):
    """The receiving database."""

    async def state(self) -> ReplicaState:
        """What it is, and how far."""

    async def apply(self, batch: Batch) -> ReplicaState:
        """Applies rows and images in one transaction; returns what the database is then, without ``rows``. Of a batch that was
        applied before, nothing is applied again.

        Raises: `ReplicationRefused` if it must not be applied."""

    async def begin_copy(self, beginning: CopyBeginning) -> None:
        """Empties the replicated tables for a full copy.

        Raises: `ReplicationRefused` if this database is not a secondary, knows a later epoch, or has another schema."""

    async def apply_piece(self, piece: CopyPiece) -> CopyProgress | None:
        """Applies the next piece of a copy; returns where the copy is then, None at its end.

        Raises: `ReplicationRefused` if it is not the next one."""

    async def set_role(self, role: str, epoch: int, trusted_s: float | None) -> bool:
        """Sets what the database is for the zone, under the lock of its commits: ``primary``, ``secondary`` or ``fenced``,
        trusted from now on for so long (None: for ever). False if it knows a later epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneRole:
    """``trusted_until``: by the database's clock, in seconds of the epoch; None if it ends never, or the role is none that
    writes."""

    role: str
    epoch: int
    trusted_until: float | None


class RegionDatabase(Protocol):
    """What the leader of a region does to its own database. All methods raise `StoreUnavailable` if it does not answer."""

    async def keep(self) -> None:
        """Makes it keep this zone alone, if that is a zone of residency.

        Raises: `Conflict` if it keeps another zone."""

    async def report(self) -> PeerReport:
        """What it says of the zone."""

    async def clock(self) -> float:
        """Its clock, by which trust ends."""

    async def zone_role(self) -> ZoneRole:
        """What it may do now."""

    async def open_writes(self, epoch: int, trusted_until: float) -> int | None:
        """Makes it primary under a later epoch than its own, and returns the row that says so; None if it must not be.

        Raises: `Fenced` if the trust ends meanwhile."""

    async def close_writes(self) -> int:
        """Fences it if it is primary, and returns its last row."""

    async def move_trust(self, epoch: int, trusted_until: float) -> None:
        """Until when it may write under this epoch; never back."""

    async def remember_version(self, version: int) -> None:
        """The version of the group's record that the region acts on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderStatus:
    """What the leader of a region tells its other processes. ``watermark``: under ``epoch``, the row up to which every region of
    the in-sync set holds the log. ``refusal``: the code with which writes are refused before they are committed."""

    epoch: int
    watermark: int
    primary: str | None
    refusal: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationStatus:
    """What a region's database is for the zone at one moment, and what its leader told last.

    ``head``: the last row that anybody can have seen. ``whole``: no full copy is under way, during which tables are nearly empty.
    ``copies``: how many have begun; what was read before one may be of rows that no region has. ``silent_s``: for how long the
    leader has not heard of the primary, None if it never has; 0 or a little more at the primary."""

    role: str = "fenced"
    epoch: int = 0
    head: int = 0
    whole: bool = False
    copies: int = 0
    told: LeaderStatus | None = None
    silent_s: float | None = None

    def is_replicated(self, seq: int) -> bool:
        """Whether every region that may become primary without a loss has the rows up to ``seq``. What was told under another
        epoch than the database's own may be of another log."""
        told = self.told
        return self.whole and told is not None and told.epoch == self.epoch and told.watermark >= seq


class ReplicationStatuses(Protocol):
    """Where a region's leader tells its other processes how far replication is. Both methods raise `StoreUnavailable`."""

    async def read(self) -> ReplicationStatus:
        """What is so now; it may be told only after a database was migrated and a leader has started."""

    async def tell(self, told: LeaderStatus, silent_s: float | None) -> None:
        """Replaces what was told."""

    async def tell_cursors(self, epoch: int, cursors: Mapping[str, int | None]) -> None:
        """While this region is primary under ``epoch``: data region → the last row that it holds, None if that is not known. The
        log is kept for those (`cluster/domain/audit/log_retention.py`); a region that is not there is waited for no more."""
