"""``aragora-cp story``: the log's rows about a task, a deliberation, an agent or a request, with their causes.

It tells what the timeline of the web page tells: each row with its agent, its attempt, how long after the row before it came and
what it holds, and for an open task why it is not running.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from cluster.cli.calls import Json, call, path_segment, print_json
from cluster.cli.output import console, duration, on_one_line, plain, progress_words
from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.domain.tasks.task import Priority

#: Fields of ``data`` that a line shows already.
_REPEATED: Final = {"task_id", "agent_id", "agent", "request_id", "attempt"}
WORDS_CHARS: Final = 200
#: What a row is to its reader, by its type; the words say it without the colour.
_TONES: Final = (
    (re.compile("completed|answered|resumed|unblocked"), "green"),
    (re.compile("failed|dead_lettered|timeout|error|offline"), "red"),
    (re.compile("retried|requeued|cancel|asked|parked|paused|violat|warning"), "yellow"),
    (re.compile("claimed|started|vote|proposal|revision"), "cyan"),
)
#: A shorter time between two rows is none, as on the page.
_AT_ONCE_S: Final = 0.0005
#: What is later than this is a time and no duration (September 2001).
_EPOCH_S: Final = 1e9


def story(
    subject_id: str = typer.Argument(metavar="ID", help="Id of a task, a deliberation or an agent, or a trace id."),
    archived: Annotated[
        bool, typer.Option("--archived", help="Search the archives of the log too, which takes a while.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what happened to a task, a deliberation, an agent or a request, in order, and what caused it; of a task that waits
    also why."""
    pages = list(_pages(subject_id, archived))
    events = [event for page in pages for event in page["events"]]
    progress = pages[-1].get("progress")
    if as_json:
        print_json({"id": subject_id, "events": events} | ({"progress": progress} if progress else {}))
        return
    for event, line in zip(events, story_lines(events, subject_id), strict=True):
        colour = _colour(event["type"])
        console.print(f"[{colour}]{plain(line)}[/]" if colour else plain(line))
    if progress:
        at = f"attempt {progress['attempt']}, {_time(progress['reported_at'])}"
        console.print(plain(on_one_line(f"last report of progress ({at}): {progress_words(progress)}")))
    if (begin := pages[0].get("searched_from", 1)) > 1:
        console.print(plain(f"The rows before {begin} are in no archive that is there, and were not searched."))
    for line in _why_it_waits(subject_id, events):
        console.print(plain(on_one_line(line)))


def story_lines(events: Sequence[Mapping[str, Any]], about: str) -> list[str]:
    """A line for each row of the story of ``about``, oldest first."""
    before = [None, *(event["timestamp"] for event in events)]
    return [on_one_line(_line(event, since, about)) for event, since in zip(events, before, strict=False)]


def explanation_lines(found: Mapping[str, Any]) -> list[str]:
    """Why a task is not running, and what would change that."""
    return [
        f"{found['status_detail']}: {found['summary']}",
        *(f"- {reason['message']} What would change it: {reason['unblock']}" for reason in found["reasons"]),
    ]


def _why_it_waits(subject_id: str, events: Sequence[Mapping[str, Any]]) -> list[str]:
    """The explanation of a task that waits; nothing of anything else, or for a caller who may not see it."""
    if not any(event["entity"] == subject_id and event["type"].startswith("task.") for event in events):
        return []
    try:
        found = call("GET", f"/tasks/{path_segment(subject_id)}/explain")
    except TryLater:
        raise
    except ControlPlaneError:  # removed meanwhile, or not this caller's to see: its story is told all the same
        return []
    return explanation_lines(found) if found["reasons"] else []


def _line(event: Mapping[str, Any], since: float | None, about: str) -> str:
    """One line for a row. A table was rejected: it folds ids at the width of the terminal, and a pipe has none."""
    elapsed = 0.0 if since is None else event["timestamp"] - since
    data = event["data"]
    agent = next((each for each in (data.get("agent_id"), data.get("agent")) if isinstance(each, str)), None)
    attempt = "" if event["attempt"] is None else f" (attempt {event['attempt']})"
    parts = (
        f"{event['seq']:>8}",
        _time(event["timestamp"]),
        f"+{duration(elapsed)}" if elapsed >= _AT_ONCE_S else "",
        f"{event['type']} {event['entity']}{attempt}",
        f"agent {agent}" if agent is not None and agent not in (about, event["entity"]) else "",
        f"by {event['principal']}",
        f"because of {event['cause']}" if event["cause"] else "",
        _words(data),
    )
    return "  ".join(part for part in parts if part)


def _colour(kind: str) -> str | None:
    return next((colour for words, colour in _TONES if words.search(kind)), None)


def _pages(subject_id: str, archived: bool) -> Iterator[dict[str, Any]]:
    after, more = 0, True
    while more:
        page = call("GET", f"/story/{path_segment(subject_id)}", after=after, archived=archived or None)
        yield page
        more = page["has_more"]
        after = page["events"][-1]["seq"] if page["events"] else after


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")


def _words(data: Mapping[str, Any]) -> str:
    """Names and values of the fields that the rest of the line does not show."""
    shown = {name: value for name, value in data.items() if _tells(name, value)}
    return ", ".join(f"{name}={_shortened(_plain(name, value))}" for name, value in shown.items())


def _shortened(text: str) -> str:
    """A text on one line, cut if it is long prose. Ids hold no space; a list of them stays whole."""
    shown = on_one_line(text)
    is_prose = " " in shown and not shown.startswith(("[", "{"))
    return f"{shown[: WORDS_CHARS - 1]}…" if is_prose and len(shown) > WORDS_CHARS else shown


def _tells(name: str, value: Any) -> bool:
    return name not in _REPEATED and value not in (None, "", [], {})


def _plain(name: str, value: Any) -> str:
    """A value in the form in which people read it, by its field's name: in the log, times, spans and priorities are numbers."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name.endswith("_at") and value > _EPOCH_S:
            return _time(value)
        if name.endswith("_seconds"):
            return duration(value)
        if name == "priority" and value in {each.value for each in Priority}:
            return Priority(int(value)).wire_name
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
