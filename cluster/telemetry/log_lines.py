"""The form of the process logs: how a record becomes lines, and how lines become records again.

    2026-03-01T12:00:00.123456Z ERROR api:4711 5f3c0a91b2d4e6f8 serve_app: a call failed
        Traceback (most recent call last):
        ...

The first line of a record has its time (UTC), level, process, trace id (``-``: none), logger and message. The further lines of
a record, which are those of its error, begin with four spaces, and no first line does. Whatever somebody wrote is escaped: a
character that is not printable (a line end, an escape sequence, half a surrogate pair) would let a message pass for another
line, or move the reader's cursor. JSON was rejected: people read these files first, and one expression reads this form too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

#: A message and an error are cut to this many characters each, the middle of an error first: its end says what was raised.
MOST_CHARS = 16_000
INDENT = "    "
NO_TRACE = "-"

_HEAD = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([A-Z]+) (\S+) (\S+) \S+: ")


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """One record as it was read. ``text`` is all of its lines, without the last line end."""

    at: str
    trace: str
    text: str


def shown(text: str) -> str:
    """The text with everything that is not printable escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _word(text: str) -> str:
    return "_".join(shown(text).split()) or NO_TRACE


def written(at: float, level: str, process: str, trace: str, logger: str, message: str, error: str = "") -> str:
    """The lines of a record, each with its line end. ``at`` is in seconds since the epoch."""
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    head = f"{time}Z {level} {_word(process)} {_word(trace)} {_word(logger)}:"
    if len(message) > MOST_CHARS:
        message = f"{message[:MOST_CHARS]}…"
    if len(error) > MOST_CHARS:
        error = f"{error[: MOST_CHARS // 4]}\n…\n{error[-MOST_CHARS * 3 // 4 :]}"
    lines = [f"{head} {shown(message)}", *(INDENT + shown(line) for line in error.split("\n") if line)]
    return "".join(f"{line}\n" for line in lines)


class RecordParser:
    """Makes records of the lines of one log, which may come in parts."""

    def __init__(self) -> None:
        #: The head of the last record; None until one was read. What comes before belongs to an older file, which is gone.
        self._head: re.Match[str] | None = None

    def feed(self, lines: Iterable[str]) -> Iterator[LoggedRecord]:
        """The records of the next lines, in their order. A line of another form (a process was killed while it wrote) belongs to
        the record before it. If that was given already, the rest of it is a record too."""
        gathered: list[str] = []
        for line in lines:
            found = _HEAD.match(line)
            if found is not None:
                yield from self._gathered(gathered)
                self._head, gathered = found, []
            gathered.append(shown(line))
        yield from self._gathered(gathered)

    def _gathered(self, lines: list[str]) -> Iterator[LoggedRecord]:
        if self._head is not None and lines:
            yield LoggedRecord(self._head[1], self._head[4], "\n".join(lines))
