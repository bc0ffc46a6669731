"""The story of what is in archives of the log: the rows about a task, a deliberation, an agent or a request, without words."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from cluster.domain.audit.export import read_row
from cluster.domain.base.errors import InvalidRequest, Overloaded
from cluster.domain.base.log import LogRow
from cluster.log.archives import joined
from cluster.ports.log import Log
from cluster.ports.log_segments import LogArchives

_logger = logging.getLogger(__name__)

#: How long a search waits until it has its turn: who may read the log could else keep all others waiting without end.
TURN_S: Final = 5.0

#: Of a line of an archive. Quotes within a text are escaped there, so these are the row's own.
_SEQ: Final = re.compile(r'"seq":(\d+)')
_CAUSE: Final = re.compile(r'"cause":"([^"]*)"')
_ROW: Final = re.compile(r"#(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedStory:
    """``rows`` in order, all from before the first row of the database. ``searched_from``: the first row that archives or
    database still have."""

    rows: Sequence[LogRow]
    searched_from: int


class ArchiveFile(NamedTuple):
    """An archive that is there."""

    path: Path
    first_seq: int
    last_seq: int


class ArchivedStories:
    """``directory``: of the archives; None: there are none. It searches for one caller at a time, because a search reads all
    of the files: a second or so for each million rows."""

    def __init__(self, log: Log, archives: LogArchives, directory: Path | None) -> None:
        self._log = log
        self._archives = archives
        self._directory = directory
        self._one = asyncio.Semaphore(1)

    async def find(self, workspace: str, of: str, live: Sequence[LogRow], after: int = 0) -> ArchivedStory:
        """What archives have, after a row, of the story of which the database has ``live``. A file that cannot be read counts as
        one that is not there. Raises: `StoreUnavailable`; `Overloaded` if other searches go on."""
        first = await self._log.first()
        base = (first or 1) - 1
        found = joined(await self._archives.archives(), self._directory, base)
        if self._directory is None or not found:
            return ArchivedStory(rows=(), searched_from=base + 1)
        if after >= base:  # a later page, of rows that the database has
            return ArchivedStory(rows=(), searched_from=found[0].first_seq)
        files = [ArchiveFile(self._directory / each.name, each.first_seq, each.last_seq) for each in found]
        await self._turn()
        try:
            rows = await asyncio.to_thread(_story, files, base, workspace, of, live)
        except (OSError, EOFError, zlib.error, UnicodeError, InvalidRequest) as error:
            _logger.error("an archive of the log cannot be read, see `aragora-cp audit verify`: %s", error)
            return ArchivedStory(rows=(), searched_from=base + 1)
        finally:
            self._one.release()
        later = [row for row in rows if row.seq > after]
        return ArchivedStory(rows=later, searched_from=found[0].first_seq)

    async def _turn(self) -> None:
        """Raises: `Overloaded` if it takes too long."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._one.acquire()
        except TimeoutError:
            raise Overloaded("Another search of the archives goes on; try again when it has ended.") from None


def _story(files: Sequence[ArchiveFile], upto: int, workspace: str, of: str, live: Sequence[LogRow]) -> list[LogRow]:
    """As ``log_story`` of the database chooses: the subject's own rows, those that led to them, and those that they led to.

    What a row led to comes after it, so one pass finds all of that. What led to it has gone by then: files that hold such rows
    are read once more, and no others."""
    search = _Search(workspace, of, live)
    found: dict[int, LogRow] = {}
    for file in files:
        found |= {row.seq: row for row in _rows(file.path, upto, search.takes)}
    for file in files:
        if search.goes_back_to(file, found.keys()):
            found |= {row.seq: row for row in _rows(file.path, upto, search.takes_earlier)}
    return [found[seq] for seq in sorted(found)]


class _Search:
    """Which lines belong to the story of one subject, as far as the rows before them tell."""

    def __init__(self, workspace: str, of: str, live: Sequence[LogRow]) -> None:
        self._workspace = workspace
        self._of = of
        self._needle = json.dumps(of, ensure_ascii=False)
        #: Causes of rows that own rows led to, and the rows that own rows name as their cause.
        self._led: set[str] = set()
        self._leading: set[int] = set()
        #: The cause of the subject's deliberation, which others may have had before it → the row that said so.
        self._asked: dict[str, int] = {}
        for row in live:
            if self._is_own(row):
                self._add(row)
        #: What the database's rows tell is known before the first file is read.
        self._known = frozenset(self._leading), frozenset(self._asked)

    def _is_own(self, row: LogRow) -> bool:
        return row.workspace == self._workspace and self._of in (row.entity, row.cause)

    def _add(self, row: LogRow) -> None:
        self._led.add(f"#{row.seq}")
        if named := _ROW.fullmatch(row.cause):
            self._leading.add(int(named[1]))
        if row.kind == "deliberation.admitted" and row.cause:
            self._asked.setdefault(row.cause, row.seq)

    def takes(self, line: str) -> LogRow | None:
        """The row of a line, if it belongs to the story as far as that is known."""
        if self._needle in line:
            row = read_row(line)
            if self._is_own(row):
                self._add(row)
                return row
        cause = _cause(line)
        return self._row(line) if cause in self._led or cause in self._asked or _seq(line) in self._leading else None

    def takes_earlier(self, line: str) -> LogRow | None:
        """The same, of a line that was read before all of it was known."""
        return self._row(line) if _cause(line) in self._asked or _seq(line) in self._leading else None

    def _row(self, line: str) -> LogRow | None:
        row = read_row(line)
        return row if row.workspace == self._workspace else None

    def goes_back_to(self, file: ArchiveFile, found: Collection[int]) -> bool:
        """Whether a file may hold rows, beside those that were found, which led to what came after."""
        leading, asked = self._known
        missing = [seq for seq in self._leading - leading if seq not in found]
        earlier = [seq for cause, seq in self._asked.items() if cause not in asked]
        return any(file.first_seq <= seq <= file.last_seq for seq in missing) or any(
            file.first_seq < seq for seq in earlier
        )


def _cause(line: str) -> str | None:
    found = _CAUSE.search(line)
    return None if found is None else found[1]


def _seq(line: str) -> int:
    found = _SEQ.search(line)
    return 0 if found is None else int(found[1])


def _rows(path: Path, upto: int, chosen: Callable[[str], LogRow | None]) -> Iterator[LogRow]:
    """The rows of lines that are chosen. After a failover files may overlap: a row may come twice."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith('{"row"') and (row := chosen(line)) is not None and row.seq <= upto:
                yield row
