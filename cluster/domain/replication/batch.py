"""What travels: batches of the log's tail, and pieces of a full copy; and the sentence by which one is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.replication.tables import LOG, TABLES
from cluster.domain.replication.touched import NamedRow, Names

#: A row's columns in the order of the declaration, as PostgreSQL writes them: JSON, numbers and bytes come back as they were.
TextRow = tuple[str | None, ...]
_LOG_COLUMNS: Final = tuple(LOG.columns)
_SEQ, _EPOCH, _DIGEST = (_LOG_COLUMNS.index(name) for name in ("seq", "epoch", "digest"))
_NAMED: Final = {name: _LOG_COLUMNS.index(name) for name in ("kind", "entity", "workspace", "at", "data")}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """A row of a log, by which two logs are compared. ``digest`` is of the row's content.
    Its defaults are before the first row."""

    epoch: int = 0
    seq: int = 0
    digest: str = ""


START: Final = LogPosition()


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Where a receiving database is. Whoever asks for what follows confirms by this all rows up to there, if it is whole and its
    ``epoch`` is the primary's: before that it would still take rows of an earlier one."""

    position: LogPosition
    is_whole: bool
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """What a region's database says of a zone to one that wants to become primary: its epoch, the last version of the group's
    record that it was told, its last row, and whether its tables are what a primary's were at that row."""

    epoch: int
    version: int
    position: LogPosition
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """Rows of the log after one number and up to another."""

    after: int
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSums:
    """Of a range of a region's log: how many rows it has, and one digest of their numbers and digests. ``surplus``: files of
    surplus rows that the region keeps."""

    count: int
    digest: str
    surplus: int


def position_of(row: TextRow) -> LogPosition:
    """Where a row of the log is."""
    return LogPosition(epoch=int(row[_EPOCH] or 0), seq=int(row[_SEQ] or 0), digest=row[_DIGEST] or "")


def named_row(row: TextRow) -> NamedRow:
    """What of a row of the log names others."""
    return NamedRow(**{name: row[at] or "" for name, at in _NAMED.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class TableImages:
    """All rows of a table that have one of the ``names`` now. What is named and not among ``rows`` is not there any more."""

    table: str
    names: tuple[Names, ...]
    rows: tuple[TextRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The rows of the log after ``after`` and the images of all that they name, of one snapshot whose last row is
    ``images_at``. If that is later than the last of ``rows``, the tail was longer than a batch, and the target is whole again
    when it has passed it. ``epoch`` is the source's, and ``schema_version`` its newest migration. ``watermark``: every region
    of the in-sync set holds the rows up to there. A batch without rows is a heartbeat."""

    zone: str
    schema_version: int
    epoch: int
    after: LogPosition
    rows: tuple[TextRow, ...]
    images: tuple[TableImages, ...]
    images_at: int
    watermark: int = 0

    @property
    def is_tail(self) -> bool:
        """Whether the source had no later rows."""
        return self.last.seq >= self.images_at

    @property
    def last(self) -> LogPosition:
        return position_of(self.rows[-1]) if self.rows else self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyProgress:
    """Where a full copy is: in which table, after which key. ``tail`` is the last row of the log when it began; when the copy
    ends, the rows after it follow."""

    tail: LogPosition
    table: str
    key: TextRow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPiece:
    """Rows of a table after ``progress.key``, by key. ``is_last``: of this table. ``images_at`` is the last row of the log in the
    snapshot that they were read from."""

    zone: str
    schema_version: int
    epoch: int
    progress: CopyProgress
    rows: tuple[TextRow, ...]
    is_last: bool
    images_at: int

    def following(self) -> CopyProgress | None:
        """Where the copy is after this piece; None at its end."""
        tail, table = self.progress.tail, self.progress.table
        if not self.is_last:
            declared = TABLES[table]
            columns = tuple(declared.columns)
            key = tuple(self.rows[-1][columns.index(name)] for name in declared.key)
            return CopyProgress(tail=tail, table=table, key=key)
        names = list(TABLES)
        after = names.index(table) + 1
        return CopyProgress(tail=tail, table=names[after]) if after < len(names) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBeginning:
    """Whether a full copy may begin is decided by this, before the target empties its tables. ``history``: the last row of each
    epoch of the source's log, by which a target finds where its own log has left it; empty from a release that does not say."""

    zone: str
    schema_version: int
    epoch: int
    tail: LogPosition
    history: tuple[tuple[int, int], ...] = ()


def first_progress(tail: LogPosition) -> CopyProgress:
    """The beginning of a copy."""
    return CopyProgress(tail=tail, table=next(iter(TABLES)))


class Refusal(StrEnum):
    """Why nothing was applied, or nothing sent. The value is the error's code."""

    SCHEMA = "schema_mismatch"
    EPOCH = "epoch_replaced"
    NOT_SECONDARY = "not_secondary"
    NOT_PRIMARY = "not_primary"
    GAP = "log_gap"
    FORK = "log_fork"
    LOST = "cursor_lost"
    COUNTED = "still_in_sync"
    IMAGES = "images_ahead"
    COPYING = "copy_incomplete"
    NOT_COPYING = "no_copy"


_SENTENCES: Final[Mapping[Refusal, str]] = {
    Refusal.SCHEMA: "The regions have different versions of the schema; upgrade the older one.",
    Refusal.EPOCH: "The sender's epoch is not the newest; follow the zone's new primary.",
    Refusal.NOT_SECONDARY: "This region is not a secondary of the zone; make it one before it receives rows.",
    Refusal.NOT_PRIMARY: "The region that was asked is not the zone's primary; ask the primary.",
    Refusal.GAP: "Rows are missing before the first of the batch; read again after the last row that is there.",
    Refusal.FORK: "The two logs differ; keep the rows after the fork in a file and copy the region anew.",
    Refusal.LOST: "The rows after this one are not kept any more; copy the region anew.",
    Refusal.COUNTED: "This region is in the in-sync set, which it has to leave before it is copied anew; ask again.",
    Refusal.IMAGES: "The tables are later than the log's last row, by rows that the new primary may never have had; copy anew.",
    Refusal.COPYING: "A copy of the region has not ended; go on with it.",
    Refusal.NOT_COPYING: "The piece is not the next one of a copy; ask where the copy is.",
}


class ReplicationRefused(ControlPlaneError):
    """Nothing was applied."""

    status = 409

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(_SENTENCES[refusal], refusal.value)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """The receiving database, under its lock. ``rows``: its own rows of the log at the numbers that a batch names. ``role`` and
    ``epoch`` are None if it has never heard of the zone. ``lacks_payloads``: a workspace is resident in a zone that this
    region is not in."""

    schema_version: int
    role: str | None
    epoch: int | None
    head: LogPosition
    images_at: int = 0
    copying: CopyProgress | None = None
    rows: Mapping[int, LogPosition] = field(default_factory=dict)
    lacks_payloads: bool = False

    @property
    def as_follower(self) -> Follower:
        return Follower(position=self.head, is_whole=self.may_lead, epoch=self.epoch or 0)

    @property
    def may_lead(self) -> bool:
        """Whether the database could take over. One that lacks payloads never: they would be lost for those who have them, as its
        images would replace theirs."""
        return self.is_whole and not self.lacks_payloads

    @property
    def is_whole(self) -> bool:
        """Whether the tables are what the source's were at the last row."""
        return self.copying is None and self.head.seq >= self.images_at


def _common_refusal(state: ReplicaState, schema_version: int, epoch: int) -> Refusal | None:
    if state.schema_version != schema_version:
        return Refusal.SCHEMA
    if state.role != "secondary":
        return Refusal.NOT_SECONDARY
    return Refusal.EPOCH if state.epoch is not None and epoch < state.epoch else None


def batch_refusal(state: ReplicaState, batch: Batch) -> Refusal | None:
    """Why the batch must not be applied; None if it may be. One that was applied before may be: nothing of it is new."""
    refusal = _common_refusal(state, batch.schema_version, batch.epoch)
    if refusal is not None:
        return refusal
    if state.copying is not None:
        return Refusal.COPYING
    if state.epoch != batch.epoch and not state.is_whole:
        return Refusal.IMAGES
    if batch.after.seq > state.head.seq or not _follow(batch.after, batch.rows):
        return Refusal.GAP
    known = {batch.after.seq: batch.after} | {position.seq: position for position in map(position_of, batch.rows)}
    differing = [seq for seq, own in state.rows.items() if seq in known and known[seq] != own]
    return Refusal.FORK if differing else None


def _follow(after: LogPosition, rows: Sequence[TextRow]) -> bool:
    return [position_of(row).seq for row in rows] == list(range(after.seq + 1, after.seq + 1 + len(rows)))


def copy_refusal(state: ReplicaState, beginning: CopyBeginning) -> Refusal | None:
    """Why no copy must begin; None if it may."""
    return _common_refusal(state, beginning.schema_version, beginning.epoch)


def piece_refusal(state: ReplicaState, piece: CopyPiece) -> Refusal | None:
    """Why the piece must not be applied; None if it may be."""
    refusal = _common_refusal(state, piece.schema_version, piece.epoch)
    if refusal is not None:
        return refusal
    if state.epoch != piece.epoch:
        return Refusal.EPOCH  # what was copied may hold rows that the new primary never had
    return None if state.copying == piece.progress else Refusal.NOT_COPYING
