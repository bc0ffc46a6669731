"""Retention of the log: which segment may go, and what holds one that may not.

The log goes from its beginning, a whole segment at a time, and only what is in an archive. Nothing goes that somebody has still
to read, that is not sealed, or that tells of work which is still there: so what is asked about a task, a deliberation or a run is
answered from the log as long as the task is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

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


LOG_TEXTS: LogTexts = {"name": IDENTITY, "digest": IDENTITY, "follower": frozenset(Follower)}


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
    submitted, in epoch seconds; None if there is none."""

    sealed: int
    cursors: Mapping[Follower, int | None]
    oldest_work: float | None


def holder(segment: Segment, holds: Holds, now: float, days: float) -> str:
    """Why a segment stays, as the rest of a sentence that begins with "it"; empty if it may go. ``days``: for how long rows are
    kept at least; 0: for ever."""
    if segment.is_newest:
        return "is the newest"
    if days <= 0:
        return "is kept for ever"
    if segment.last_at > now - days * DAY_S:
        return "is not old enough"
    if segment.last_seq > holds.sealed:
        return "is not sealed"
    for name, cursor in holds.cursors.items():
        if cursor is None or cursor < segment.last_seq:
            return f"has not been read by {name}"
    if holds.oldest_work is not None and segment.last_at > holds.oldest_work - SKEW_S:
        return "tells of work that is still there"
    return ""


def dropped(segment: Segment, holds: Holds, now: float, days: float, hold_s: float) -> frozenset[Follower]:
    """The followers that alone hold a segment, and have for longer than ``hold_s`` since it could have gone otherwise: they go on
    behind it. None if something else holds it too. ``hold_s``: in seconds; 0: the log waits for ever."""
    unread = {name for name, cursor in holds.cursors.items() if cursor is None or cursor < segment.last_seq}
    read = replace(holds, cursors={name: at for name, at in holds.cursors.items() if name not in unread})
    is_late = hold_s > 0 and segment.last_at <= now - days * DAY_S - hold_s
    return frozenset(unread) if is_late and not holder(segment, read, now, days) else frozenset()


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


def archive_name(first_seq: int, last_seq: int) -> str:
    """The name of the file for these rows."""
    return f"log-{first_seq:019d}-{last_seq:019d}.jsonl.gz"


def removal(archive: Archive, now: float) -> LogRecord:
    """The row of the commit that removes a segment."""
    return _record(archive, now, LOG_REMOVED)


def archive_deletion(archive: Archive, now: float) -> LogRecord:
    """The row that is written before an archive's file is deleted."""
    return _record(archive, now, ARCHIVE_DELETED)


def cursor_dropped(follower: Follower, segment: Segment, now: float) -> LogRecord:
    """The row that says that a follower has not read the rows of a segment that goes."""
    data = {"follower": follower.value, "first_seq": segment.first_seq, "last_seq": segment.last_seq}
    return record_for(Origin(workspace=SYSTEM, principal=PRINCIPAL, cause=""), now, CURSOR_DROPPED, "log", data)


def _record(archive: Archive, now: float, kind: str) -> LogRecord:
    data: dict[str, Any] = {
        "first_seq": archive.first_seq,
        "last_seq": archive.last_seq,
        "name": archive.name,
        "digest": archive.digest.hex(),
    }
    return record_for(Origin(workspace=SYSTEM, principal=PRINCIPAL, cause=""), now, kind, "log", data)
