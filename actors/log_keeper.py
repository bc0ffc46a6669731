"""Takes the oldest segments of the log out of the database once nothing needs them any more, each after it is in an archive.

It keeps nothing. One that is killed leaves a segment that is there and perhaps a file of it; the next one writes the file anew.
The commit that removes a segment looks again whether the rows are those of the archive.

The zone's primary decides what goes. A region that follows it removes what is in the primary's archives already, into files
of its own, so that the loss of one region loses no archive; its segments begin and end elsewhere.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any, Final

from actors.while_primary import WhilePrimary
from cluster.domain.audit.checkpoint import DamagedCheckpoint
from cluster.domain.audit.log_retention import (
    Segment,
    archive_deletion,
    archive_name,
    cursors_dropped,
    dropped,
    followed_holder,
    holder,
    removal,
)
from cluster.domain.audit.retention import DAY_S
from cluster.domain.base.errors import Conflict, TryLater
from cluster.log.archives import NotAsSealed, write_archive, write_followed_archive
from cluster.ports.audit import AuditTrail
from cluster.ports.clock import Clock
from cluster.ports.log import Log, Region
from cluster.ports.log_segments import LogSegments
from cluster.process.loops import Loops, OnFatal, unwatched

_logger = logging.getLogger(__name__)

#: Between two looks.
PASS_S: Final = 900.0
#: A segment that somebody has not read for so long after its age is told in the status.
LATE_S: Final = 7 * DAY_S


class LogKeeper:
    """``days``: for how long rows stay in the database at least; 0: for ever. ``directory``: where archives go; None: nowhere,
    and then nothing goes. ``archive_days``: for how long they are kept; 0: for ever. ``hold_s``: for how many seconds the log
    waits for a follower that has not read what could go; 0: for ever."""

    def __init__(
        self,
        *,
        zone: str,
        log: Log,
        trail: AuditTrail,
        segments: LogSegments,
        region: Region,
        days: float,
        directory: Path | None,
        archive_days: float,
        hold_s: float = LATE_S,
        clock: Clock,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._zone = zone
        self._log = log
        self._trail = trail
        self._segments = segments
        self._while_primary = WhilePrimary(region)
        self._days = days
        self._directory = directory
        self._archive_days = archive_days
        self._hold_s = hold_s
        self._clock = clock
        #: Why the oldest segment stays though it should go, as a sentence; empty if nothing is wrong.
        self._problem = ""
        self._loops = Loops(on_fatal)

    async def start(self) -> None:
        self._loops.start(self._run())

    async def stop(self) -> None:
        await self._loops.stop()

    async def status(self) -> dict[str, Any]:
        """Answers from memory."""
        return {"serving": self._loops.running, "warnings": [self._problem] if self._problem else []}

    async def look(self) -> int:
        """Removes the segments that may go, and archives that are old enough; returns how many segments went.

        Raises: `TryLater` if the store does not answer."""
        if self._directory is None:
            return 0
        removed = await self._while_primary.do(partial(self._remove, self._directory, is_primary=True))
        return await self._remove(self._directory, is_primary=False) if removed is None else removed

    async def _remove(self, directory: Path, *, is_primary: bool) -> int:
        removed = 0
        remove_oldest = self._remove_oldest if is_primary else self._trim_oldest
        try:
            while await remove_oldest(directory):
                removed += 1
            await self._forget_archives(directory, is_primary)
        except (OSError, NotAsSealed, DamagedCheckpoint, Conflict) as error:
            self._say(f"The log cannot be archived, and grows: {error}")
        return removed

    async def _remove_oldest(self, directory: Path) -> bool:
        segment = await self._segments.oldest()
        if segment is None or self._days <= 0 or segment.last_at > self._clock.now() - self._days * DAY_S:
            self._problem = ""
            return False
        # Only asked for a segment that is old enough: it looks at the oldest work of every workspace.
        holds, now = await self._segments.holds(), self._clock.now()
        why, late = holder(segment, holds, now, self._days), dropped(segment, holds, now, self._days, self._hold_s)
        if why and not late:
            self._say(self._held(segment, why))
            return False
        archive = await write_archive(directory, self._zone, segment, self._log, self._trail, self._segments)
        self._problem = ""
        told = cursors_dropped(late, segment, now)
        removed = await self._segments.remove(segment, archive, removal(archive, now), late, told)
        if removed and late:
            _logger.error(
                "the log did not wait any longer for %s, which has not read the rows %d to %d and goes on behind them",
                late,
                segment.first_seq,
                segment.last_seq,
            )
        return removed

    async def _trim_oldest(self, directory: Path) -> bool:
        segment, archives = await self._segments.oldest(), await self._segments.archives()
        archived = max((each.archive.last_seq for each in archives), default=0)
        if segment is None or segment.last_seq > archived:
            self._problem = ""
            return False
        holds, now = await self._segments.holds(), self._clock.now()
        if why := followed_holder(segment, archived, holds, now, self._days):
            self._say(self._held(segment, why))
            return False
        archive = await write_followed_archive(directory, self._zone, segment, self._log, self._segments, archives)
        self._problem = ""
        return await self._segments.trim(segment, archive, now)

    def _held(self, segment: Segment, why: str) -> str:
        late = self._clock.now() - self._days * DAY_S - segment.last_at > LATE_S
        is_expected = segment.is_newest or why.startswith("tells of work")
        if not late or is_expected:
            return ""
        return f"The log up to row {segment.last_seq} should have gone and stays, since it {why}."

    async def _forget_archives(self, directory: Path, is_primary: bool) -> None:
        """The files of a region are its own: only those of the primary have a row of the log about them."""
        if self._archive_days <= 0:
            return
        for removed in await self._segments.archives():
            file, archive = directory / removed.archive.name, removed.archive
            if not is_primary and archive.name != archive_name(archive.first_seq, archive.last_seq, followed=True):
                continue
            if removed.at <= self._clock.now() - self._archive_days * DAY_S and file.is_file():
                if is_primary:
                    await self._log.append([archive_deletion(removed.archive, self._clock.now())])
                file.unlink(missing_ok=True)

    def _say(self, problem: str) -> None:
        if problem and problem != self._problem:
            _logger.error("%s", problem)
        self._problem = problem

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except TryLater as error:
                _logger.warning("the log's segments cannot be looked at, will try again: %s", error)
            await self._clock.sleep(PASS_S)
