"""The story of what is in archives of the log: the rows about a task, a deliberation, an agent or a request, without words."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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


class ArchivedStories:
    """``directory``: of the archives; None: there are none. It searches for one caller at a time, because a search reads all
    of the files: a second or so for each million rows."""

    def __init__(self, log: Log, archives: LogArchives, directory: Path | None) -> None:
        self._log = log
        self._archives = archives
        self._directory = directory
        self._one = asyncio.Semaphore(1)

    async def find(self, workspace: str, of: str, live: Sequence[LogRow]) -> ArchivedStory:
        """What archives have of the story of which the database has ``live``. A file that cannot be read counts as one that is
        not there. Raises: `StoreUnavailable`; `Overloaded` if other searches go on."""
        first = await self._log.first()
        base = (first or 1) - 1
        found = joined(await self._archives.archives(), self._directory, base)
        if self._directory is None or not found:
            return ArchivedStory(rows=(), searched_from=base + 1)
        files = [self._directory / archive.name for archive in found]
        await self._turn()
        try:
            rows = await asyncio.to_thread(_story, files, base, workspace, of, live)
        except (OSError, EOFError, zlib.error, UnicodeError, InvalidRequest) as error:
            _logger.error("an archive of the log cannot be read, see `aragora-cp audit verify`: %s", error)
            return ArchivedStory(rows=(), searched_from=base + 1)
        finally:
            self._one.release()
        return ArchivedStory(rows=rows, searched_from=found[0].first_seq)

    async def _turn(self) -> None:
        """Raises: `Overloaded` if it takes too long."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._one.acquire()
        except TimeoutError:
            raise Overloaded("Another search of the archives goes on; try again when it has ended.") from None


def _story(files: Sequence[Path], upto: int, workspace: str, of: str, live: Sequence[LogRow]) -> list[LogRow]:
    """As ``log_story`` of the database chooses: the subject's own rows, those that led to them, and those that they led to."""
    needle = json.dumps(of, ensure_ascii=False)
    own = [row for row in _rows(files, upto, workspace, lambda line: needle in line) if of in (row.entity, row.cause)]
    all_own = [*own, *(row for row in live if of in (row.entity, row.cause))]
    led = {f"#{row.seq}" for row in all_own}
    leading = {int(named[1]) for row in all_own if (named := _ROW.fullmatch(row.cause))}
    asked = {row.cause for row in all_own if row.kind == "deliberation.admitted" and row.cause}
    causes = led | asked
    found = {row.seq: row for row in own}
    if causes or leading:
        more = _rows(files, upto, workspace, lambda line: _cause(line) in causes or _seq(line) in leading)
        found |= {row.seq: row for row in more}
    return [found[seq] for seq in sorted(found)]


def _cause(line: str) -> str | None:
    found = _CAUSE.search(line)
    return None if found is None else found[1]


def _seq(line: str) -> int:
    found = _SEQ.search(line)
    return 0 if found is None else int(found[1])


def _rows(files: Sequence[Path], upto: int, workspace: str, chosen: Callable[[str], Any]) -> Iterator[LogRow]:
    """The rows of a workspace whose lines are chosen. After a failover files may overlap: a row may come twice."""
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith('{"row"') and chosen(line):
                    row = read_row(line)
                    if row.workspace == workspace and row.seq <= upto:
                        yield row
