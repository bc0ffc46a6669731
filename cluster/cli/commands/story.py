"""``aragora-cp story``: the log's rows about a task, a deliberation, an agent or a request, with their causes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import typer

from cluster.cli.calls import Json, call, path_segment, print_json
from cluster.cli.output import console, on_one_line, plain, progress_words

#: Fields of ``data`` that a line shows already.
_REPEATED = {"task_id", "agent_id", "request_id", "attempt"}
WORDS_CHARS = 200


def story(
    subject_id: str = typer.Argument(metavar="ID", help="Id of a task, a deliberation or an agent, or a trace id."),
    as_json: Json = False,
) -> None:
    """Show what happened to a task, a deliberation, an agent or a request, in order, and what caused it."""
    pages = list(_pages(subject_id))
    events = [event for page in pages for event in page["events"]]
    progress = pages[-1].get("progress")
    if as_json:
        print_json({"id": subject_id, "events": events} | ({"progress": progress} if progress else {}))
        return
    for line in story_lines(events):
        console.print(plain(line))
    if progress:
        at = f"attempt {progress['attempt']}, {_time(progress['reported_at'])}"
        console.print(plain(on_one_line(f"last report of progress ({at}): {progress_words(progress)}")))


def story_lines(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each row of a story."""
    return [on_one_line(_line(event)) for event in events]


def _line(event: Mapping[str, Any]) -> str:
    """One line for a row. A table was rejected: it folds ids at the width of the terminal, and a pipe has none."""
    attempt = "" if event["attempt"] is None else f" (attempt {event['attempt']})"
    cause = f"because of {event['cause']}" if event["cause"] else ""
    parts = (
        f"{event['seq']:>8}",
        _time(event["timestamp"]),
        f"{event['type']} {event['entity']}{attempt}",
        f"by {event['principal']}",
        cause,
        _words(event["data"]),
    )
    return "  ".join(part for part in parts if part)


def _pages(subject_id: str) -> Iterator[dict[str, Any]]:
    after, more = 0, True
    while more:
        page = call("GET", f"/story/{path_segment(subject_id)}", after=after)
        yield page
        more = page["has_more"]
        after = page["events"][-1]["seq"] if page["events"] else after


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")


def _words(data: dict[str, Any]) -> str:
    """Names and values of the fields that the rest of the line does not show."""
    return ", ".join(f"{name}={_shortened(_plain(value))}" for name, value in data.items() if _tells(name, value))


def _shortened(text: str) -> str:
    """A text on one line, cut if it is long prose. Ids hold no space; a list of them stays whole."""
    shown = on_one_line(text)
    is_prose = " " in shown and not shown.startswith(("[", "{"))
    return f"{shown[: WORDS_CHARS - 1]}…" if is_prose and len(shown) > WORDS_CHARS else shown


def _tells(name: str, value: Any) -> bool:
    return name not in _REPEATED and value not in (None, "", [], {})


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
