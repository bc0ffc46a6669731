"""Retention of the log: which segment may go, and what holds one that may not.

The log goes from its beginning, a whole segment at a time, and only what is in an archive. Nothing goes that somebody has still
to read, that is not sealed, or that tells of work which is still there: so what is asked about a task, a deliberation or a run is
answered from the log as long as the task is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from cluster.domain.audit.retention import DAY_S, PRINCIPAL
from cluster.domain.base.log import IDENTITY, SYSTEM, LogRecord, LogTexts, Origin, record_for

#: The kind of the row that removes a segment.
LOG_REMOVED: Final = "retention.log_removed"
#: The kind of the row that says that the file of an archive is deleted.
ARCHIVE_DELETED: Final = "retention.archive_deleted"
#: The kind of the row that says that a follower goes on behind rows which it has not read.
CURSOR_DROPPED: Final = "retention.cursor_dropped"
#: Times of rows are of the clocks of those that wrote them, so a later row may say an earlier time.
SKEW_S: Final = 3600.0


class Follower(StrEnum):
    """Who reads the log from a cursor that is stored."""

    TELEMETRY = "telemetry"
    NOTIFICATIONS = "notifications"
    WORKFLOWS = "workflows"


#: What a row says of another region, in place of a follower.
REGION: Final = "region"
LOG_TEXTS: LogTexts = {
    "name": IDENTITY,
    "digest": IDENTITY,
    "follower": frozenset({*Follower, REGION}),
    "region": IDENTITY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment of the log in the database. ``first_seq`` and ``last_seq`` are of the rows that it has, ``last_at`` is the time
    of the last, in epoch seconds."""

    number: int
    first_seq: int
    last_seq: int
    last_at: float
    is_newest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What still needs rows. ``sealed``: the last row that a checkpoint covers. ``cursors``: who reads the log → the last row
    that was read, None if that is not known. ``oldest_work``: when the oldest task, deliberation or run that is there was
    submitted, in epoch seconds; None if there is none. ``regions``: other region → the last row that it holds, None if that is
    not known. ``is_told``: whether the regions are known; else nothing goes."""

    sealed: int
    cursors: Mapping[Follower, int | None]
    oldest_work: float | None
    regions: Mapping[str, int | None] = field(default_factory=dict)
    is_told: bool = True


def holder(segment: Segment, holds: Holds, now: float, days: float) -> str:
    """Why a segment stays, as the rest of a sentence that begins with "it"; empty if it may go. ``days``: for how long rows are
    kept at least; 0: for ever."""
    if young := _young(segment, now, days):
        return young
    if segment.last_seq > holds.sealed:
        return "is not sealed"
    for name, cursor in holds.cursors.items():
        if cursor is None or cursor < segment.last_seq:
            return f"has not been read by {name}"
    if not holds.is_told:
        return "may be needed by other regions, of which this region's leader has not told yet"
    for region, cursor in holds.regions.items():
        if cursor is None or cursor < segment.last_seq:
            return f"has not been replicated to {region}"
    if holds.oldest_work is not None and segment.last_at > holds.oldest_work - SKEW_S:
        return "tells of work that is still there"
    return ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Who is not waited for any more. ``regions`` have to be copied anew when they come back."""

    followers: frozenset[Follower] = frozenset()
    regions: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.followers or self.regions)

    def __str__(self) -> str:
        return " and ".join([*sorted(self.followers), *(f"region {region}" for region in sorted(self.regions))])


def dropped(segment: Segment, holds: Holds, now: float, days: float, hold_s: float) -> Dropped:
    """The followers and regions that alone hold a segment, and have for longer than ``hold_s`` since it could have gone
    otherwise: they go on behind it. None if something else holds it too. ``hold_s``: in seconds; 0: the log waits for ever."""
    late = Dropped(
        frozenset(_before(segment, holds.cursors)),
        frozenset(_before(segment, holds.regions)),
    )
    read = replace(
        holds,
        cursors={name: at for name, at in holds.cursors.items() if name not in late.followers},
        regions={name: at for name, at in holds.regions.items() if name not in late.regions},
    )
    is_late = hold_s > 0 and segment.last_at <= now - days * DAY_S - hold_s
    return late if is_late and not holder(segment, read, now, days) else Dropped()


_Name = TypeVar("_Name", bound=str)


def _before(segment: Segment, cursors: Mapping[_Name, int | None]) -> list[_Name]:
    return [name for name, cursor in cursors.items() if cursor is None or cursor < segment.last_seq]


def _young(segment: Segment, now: float, days: float) -> str:
    if segment.is_newest:
        return "is the newest"
    if days <= 0:
        return "is kept for ever"
    return "is not old enough" if segment.last_at > now - days * DAY_S else ""


def followed_holder(segment: Segment, archived: int, holds: Holds, now: float, days: float) -> str:
    """The same as `holder` where the region follows another one, which has decided already what may go: rows up to ``archived``
    are in its archives. Counts are made in each region."""
    if young := _young(segment, now, days):
        return young
    if segment.last_seq > archived:
        return "is in no archive of the primary yet"
    if Follower.TELEMETRY in _before(segment, holds.cursors):
        return f"has not been read by {Follower.TELEMETRY}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Rows that are in a file. ``digest`` is the SHA-256 of its bytes, ``entry`` the entry hash of the last row, ``epochs`` has
    each epoch with its last row. ``first_form``: whether a row has its words among its data."""

    first_seq: int
    last_seq: int
    name: str
    digest: bytes
    entry: bytes
    epochs: tuple[tuple[int, int], ...]
    first_form: bool


def archive_name(first_seq: int, last_seq: int, *, followed: bool = False) -> str:
    """The name of the file for these rows. ``followed``: of a region that follows, which has signed no checkpoints."""
    return f"log-{first_seq:019d}-{last_seq:019d}{'-followed' if followed else ''}.jsonl.gz"


def removal(archive: Archive, now: float) -> LogRecord:
    """The row of the commit that removes a segment."""
    return _record(archive, now, LOG_REMOVED)


def archive_deletion(archive: Archive, now: float) -> LogRecord:
    """The row that is written before an archive's file is deleted."""
    return _record(archive, now, ARCHIVE_DELETED)


def cursors_dropped(late: Dropped, segment: Segment, now: float) -> list[LogRecord]:
    """The rows that say who has not read the rows of a segment that goes."""
    told: list[dict[str, Any]] = [{"follower": follower.value} for follower in sorted(late.followers)]
    told += [{"follower": REGION, "region": region} for region in sorted(late.regions)]
    rows = {"first_seq": segment.first_seq, "last_seq": segment.last_seq}
    origin = Origin(workspace=SYSTEM, principal=PRINCIPAL, cause="")
    return [record_for(origin, now, CURSOR_DROPPED, "log", data | rows) for data in told]


def _record(archive: Archive, now: float, kind: str) -> LogRecord:
    data: dict[str, Any] = {
        "first_seq": archive.first_seq,
        "last_seq": archive.last_seq,
        "name": archive.name,
        "digest": archive.digest.hex(),
    }
    return record_for(Origin(workspace=SYSTEM, principal=PRINCIPAL, cause=""), now, kind, "log", data)
