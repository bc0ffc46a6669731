"""The command line's output: live on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def staged(name: str, seconds: float) -> None:
    console.print(f"[green]✓[/] {name} ({seconds:.1f} s)" if console.is_terminal else f"{name}: up in {seconds:.1f} s")
    sys.stdout.flush()


def listing(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table, one line a row, with every cell whole.

    Rich's tables were rejected: they cut and fold cells to fit the terminal (80 columns in a pipe), and an id that is cut
    cannot be used in the next command. Put long texts into the last column.
    """
    lines = [[on_one_line(value) for value in row] for row in rows]
    widths = [max(len(line[n]) for line in [[*head], *lines]) for n in range(len(head))]
    for number, line in enumerate([[*head], *lines]):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        console.print(f"[bold]{_literal(text)}[/]" if number == 0 else _literal(text))


def total_words(found: Mapping[str, Any]) -> str:
    """The total of a list's answer, marked if it is an estimate."""
    return str(found["total"]) if found.get("total_exact", True) else f"about {found['total']}"


def counted(number: int, what: str) -> str:
    """A number of things, such as ``1 attempt`` and ``2 attempts``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def utc(at: float | None) -> str:
    """A time (epoch seconds) for a cell, to the second; a dash if there is none."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A time span for people, as the web page has it: ``80 ms``, ``2.5 s``, ``3 min 5 s``, ``2 h``, ``1 d 4 h``."""
    if seconds < 0.0995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{round(seconds)} s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError("it is a minute or longer")


def on_one_line(value: object) -> str:
    """A value on one line. Characters that could move a terminal's cursor become spaces, since agents write some texts."""
    return "".join(char if char.isprintable() else " " for char in ("" if value is None else str(value)))


def plain(value: object) -> str:
    """Somebody's words for a line of ours: as they are, but nothing in them is markup or moves a terminal's cursor. Line ends
    stay; where a line end could pass for a row of ours, take `on_one_line`."""
    return _literal(printable("" if value is None else str(value)))


def printable(text: str) -> str:
    """Somebody's words as they are, but nothing in them moves a terminal's cursor: only line ends stay."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _literal(text: str) -> str:
    """Markup that shows a text as it is.

    Of backslashes before a tag rich shows half as many, without a tag all of them. ``escape`` minds those within a text; at its
    end it takes one for two, and two for two. So they are doubled here, and a tag follows them."""
    body = text.rstrip("\\")
    backslashes = 2 * (len(text) - len(body))
    return escape(body) + ("\\" * backslashes + "[none][/none]" if backslashes else "")


@contextmanager
def working(what: str) -> Iterator[None]:
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        console.print(what)
        sys.stdout.flush()
        yield


def progress_words(progress: Mapping[str, Any]) -> str:
    """How far a task is, as its holder reported it; empty if the report says neither a number nor a word."""
    percent, message = progress.get("percent"), progress.get("message")
    return ": ".join(part for part in ("" if percent is None else f"{percent:g} %", message) if part)
