"""What every command has: ``--json``, and ``--watch`` where it only reads.

Both are added to the commands once, when the program is put together (`finish`), so that a new command cannot be without them. A
command that has a ``--json`` of its own keeps it. For the others ``--json`` prints what the command itself prints as JSON
(`print_json`), else the last answer that it has noted (`answered`; each call of the API notes its own), and none of its words.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cluster.cli.numbers import finite
from cluster.cli.output import console, errors, plain
from cluster.domain.base.errors import TryLater

#: Commands that print lines for as long as they run, or end in a program of others. Their output is not one answer.
WITHOUT_JSON: Final = frozenset(
    {
        ("up",),
        ("demo",),
        ("regions", "demo"),
        ("worker", "run"),
        ("batch", "submit"),
        ("audit", "export"),
        ("top",),
        ("logs",),
    }
)
#: Names of commands that only read what may change.
READING: Final = frozenset(
    {
        *("alarms", "breakers", "controls", "entry", "events", "explain", "fleet", "get", "health", "history", "jobs"),
        *("list", "log", "metrics", "runs", "show", "spending", "stats", "status", "story", "system", "tasks", "today"),
        *("transcript", "versions", "whoami"),
    }
)
#: These read a file, or what does not change. (The first: it follows by itself.)
WITHOUT_WATCH: Final = frozenset(
    {
        ("events",),
        ("receipts", "get"),
        ("receipts", "show"),
        ("weights", "show"),
        ("context", "list"),
        ("audit", "entry"),
    }
)
LOOK_S: Final = 2.0

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WatchFlag = Annotated[bool, typer.Option("--watch", help="Print it again whenever it changes, until Ctrl-C.")]
Interval = Annotated[
    float, typer.Option("--interval", callback=finite, min=0.2, help="Seconds between two looks of --watch.")
]


@dataclass(slots=True)
class _Noted:
    answers: list[Any] = field(default_factory=list)
    printed: bool = False


_noted: ContextVar[_Noted | None] = ContextVar("_noted", default=None)


def answered(value: Any) -> None:
    """Notes what ``--json`` prints if the command prints no JSON itself; the last one counts."""
    noted = _noted.get()
    if noted is not None:
        noted.answers.append(value)


def told() -> Console:
    """Where a command says what its user has to do meanwhile: on standard error if ``--json`` is given."""
    return console if _noted.get() is None else errors


def print_json(value: Any) -> None:
    """Prints a value as JSON, whether ``--json`` is given or not."""
    echo_json(json.dumps(value, indent=2, ensure_ascii=False))


def echo_json(text: str) -> None:
    """Prints a text that is JSON, as `print_json` prints a value."""
    noted = _noted.get()
    if noted is not None:
        noted.printed = True
    typer.echo(text)


def finish(app: typer.Typer, *path: str) -> None:
    """Adds the options to every command of a group and of the groups in it."""
    for info in app.registered_commands:
        callback = info.callback
        assert callback is not None
        name = info.name or callback.__name__.replace("_", "-")
        info.callback = _finished(callback, (*path, name))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        finish(group.typer_instance, *path, group.name or "")


def _finished(callback: Callable[..., Any], path: tuple[str, ...]) -> Callable[..., Any]:
    has_json = "as_json" in inspect.signature(callback).parameters
    if not has_json and path not in WITHOUT_JSON:
        callback = _with_options(callback, _with_json(callback), as_json=(JsonFlag, False))
    if path[-1] in READING and path not in WITHOUT_WATCH:
        options = {"watch": (WatchFlag, False), "interval": (Interval, LOOK_S)}
        callback = _with_options(callback, _watched(callback), **options)
    return callback


def _with_options(
    before: Callable[..., Any], after: Callable[..., Any], **options: tuple[Any, object]
) -> Callable[..., Any]:
    """``after``, declared to typer as ``before`` with more options."""
    signature = inspect.signature(before, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    declared = functools.wraps(before)(after)
    declared.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])  # type: ignore[attr-defined]
    return declared


def _with_json(callback: Callable[..., Any]) -> Callable[..., Any]:
    def command(*, as_json: bool, **given: Any) -> None:
        if not as_json:
            callback(**given)
            return
        noted = _Noted()
        token = _noted.set(noted)
        try:
            with _captured() as output:
                ended = _ended(callback, given)
        finally:
            _noted.reset(token)
        if noted.printed:
            sys.stdout.write(output.getvalue())
        else:
            print_json(noted.answers[-1] if noted.answers else {})
        if ended is not None:
            raise ended

    return command


def _ended(callback: Callable[..., Any], given: Mapping[str, Any]) -> typer.Exit | None:
    """Runs a command; the exit code that it ends with, if it does, is for after its output."""
    try:
        callback(**given)
    except typer.Exit as ended:
        return ended
    return None


class _Captured(io.StringIO):
    """Output that is looked at before it is printed, and looks as it would at once."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@contextlib.contextmanager
def _captured() -> Iterator[_Captured]:
    output = _Captured(sys.stdout.isatty())
    with contextlib.redirect_stdout(output):
        yield output


# --- watching ---------------------------------------------------------------------------------------------------------


def _watched(callback: Callable[..., Any]) -> Callable[..., Any]:
    def command(*, watch: bool, interval: float, **given: Any) -> None:
        if watch:
            _watch(callback, given, interval)
        else:
            callback(**given)

    return command


def _watch(callback: Callable[..., Any], given: Mapping[str, Any], interval_s: float) -> None:
    """Prints what a command prints, again whenever it differs. What cannot be asked now is asked again; what is refused ends the
    watch. Polling was chosen over the stream of events: not every list has events, and a stream takes its own permission."""
    shown: str | None = None
    problem = ""
    tick = threading.Event()
    while True:
        try:
            with _captured() as output:
                _ended(callback, given)
            problem, text = "", output.getvalue()
        except TryLater as error:
            if error.message != problem:
                problem = error.message
                errors.print(f"[yellow]waiting:[/] {plain(problem)}")
        else:
            if text != shown:
                _show(text, first=shown is None, as_json=bool(given.get("as_json")))
                shown = text
        tick.wait(interval_s)


def _show(text: str, *, first: bool, as_json: bool) -> None:
    if as_json:
        text = json.dumps(json.loads(text), ensure_ascii=False) + "\n"  # a line for each change, for a reader of lines
    elif console.is_terminal:
        console.clear()
        text = _of_the_height(text)
    elif not first:
        text = "\n" + text
    sys.stdout.write(text)
    sys.stdout.flush()


def _of_the_height(text: str) -> str:
    """The first lines of a text, as many as the terminal shows: the rest would push them out."""
    width, height = shutil.get_terminal_size()
    lines: list[str] = []
    left = height - 2
    for number, line in enumerate(text.splitlines()):
        left -= max(1, -(-len(line) // max(1, width)))
        if left < 0:
            return "\n".join([*lines, f"… {len(text.splitlines()) - number} more lines"]) + "\n"
        lines.append(line)
    return text
