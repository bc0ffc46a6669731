"""``aragora-cp deliberations``: list, show and cancel deliberations, read what was said, and record what was right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, json_option, path_segment, print_json
from cluster.cli.commands import receipts
from cluster.cli.commands.deliberate import WITHHELD, show_result
from cluster.cli.listings import WHERE, listed
from cluster.cli.output import console, listing, on_one_line, plain, total_words

app = typer.Typer(no_args_is_help=True, help="Deliberations that were asked.")

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the deliberation.")]
QUESTION_CHARS, WORDS_CHARS = 80, 200


def _path(request_id: str, part: str = "") -> str:
    return f"/deliberations/{path_segment(request_id)}{part}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


@app.command("list")
def list_(
    status: Annotated[
        str | None, typer.Option(help="pending, in_progress, consensus_reached, no_consensus, timeout, ...")
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help=WHERE)] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before printed.")] = None,
    as_json: Json = False,
) -> None:
    """List deliberations, newest first. Conditions with --where all hold for what is listed; metadata are the context's."""
    filters = given(status=status, offset=offset or None)
    found = listed("/deliberations", "deliberations", limit, cursor, where, filters)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            record["request_id"],
            record["deliberation_status"],
            record["created_at"],
            _shortened(record.get("question", WITHHELD) or "", QUESTION_CHARS),
        )
        for record in found["deliberations"]
    )
    listing(("deliberation", "status", "asked", "question"), rows)
    console.print(f"{len(found['deliberations'])} of {total_words(found)}")
    if found.get("next_cursor"):
        console.print(f"Read on with --cursor {found['next_cursor']}")


@app.command()
def show(request_id: Id, as_json: Json = False) -> None:
    """Show a deliberation's question, its status and, once it has ended, its result with the reason."""
    record = call("GET", _path(request_id))
    if as_json:
        print_json(record)
        return
    console.print(f"[bold]Question:[/] {plain(str(record.get('question', WITHHELD)))}")
    console.print(f"Status: {record['deliberation_status']}")
    if record["result"] is None:
        if record.get("question_task_id"):  # of an earlier control plane there is none
            console.print(f"Waits for a person: aragora-cp questions show {record['question_task_id']}")
        console.print(f"Deliberation: {plain(record['request_id'])}")
    else:
        show_result(record)


@app.command()
def cancel(request_id: Id) -> None:
    """Cancel a deliberation; its best answer so far is kept."""
    call("POST", _path(request_id, "/cancel"))
    console.print("Cancelled.")


@app.command()
def transcript(request_id: Id, as_json: Json = False) -> None:
    """Show every step of a deliberation with the agents' answers; --json shows them whole."""
    found = call("GET", _path(request_id, "/transcript"))
    if as_json:
        print_json(found)
        return
    rows = (
        (event["n"], event["at"], event["kind"], _data(event).get("agent"), _what(event)) for event in found["events"]
    )
    listing(("n", "time", "event", "agent", "what"), rows)


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a step holds; nothing for a caller who may not read transcripts."""
    data: Mapping[str, Any] = event.get("data", {})
    return data


def _what(event: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in _data(event).items() if name != "agent" and value not in (None, "", [], {})}
    return _shortened(on_one_line(json.dumps(shown, ensure_ascii=False)), WORDS_CHARS)


@app.command()
def outcome(
    request_id: Id,
    correct: Annotated[str, typer.Argument(help="The right answer, in the form of the agents' answers.")],
    parse: Annotated[
        bool, typer.Option("--parse", help="Read it as JSON: a number, true, a list; null if no answer was right.")
    ] = False,
) -> None:
    """Record which answer was right, so that weights are learned from it; prints the votes with it, as JSON."""
    right = json_option(correct, "CORRECT") if parse else correct
    print_json(call("POST", _path(request_id, "/outcome"), {"correct": right}))


@app.command()
def receipt(
    request_id: Id, out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None
) -> None:
    """Fetch the signed receipt of an ended deliberation, as `receipts get` does."""
    receipts.get(request_id, out)
