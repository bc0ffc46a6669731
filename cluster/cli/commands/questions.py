"""``aragora-cp questions``: what tasks ask people, and the answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, json_fields, path_segment, print_json
from cluster.cli.output import console, listing, on_one_line, plain, total_words
from cluster.domain.base.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Questions: what tasks ask people, and the answers.")

Attempt = Annotated[
    int | None, typer.Option(min=0, help="Which question is meant: the attempt that asked it, as `show` prints it.")
]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before printed.")] = None,
    as_json: Json = False,
) -> None:
    """List the tasks that wait for people, newest first."""
    found = call("GET", "/questions", limit=limit, **given(cursor=cursor))
    if as_json:
        print_json(found)
        return
    rows = (
        (
            question["task_id"],
            question["task_type"],
            _utc(question["asked_at"]),
            _utc(question["due_at"]),
            ", ".join(question["answerers"]) or "-",
            on_one_line(question.get("question", "")),
        )
        for question in found["questions"]
    )
    listing(("task", "type", "asked (UTC)", "due (UTC)", "for", "question"), rows)
    console.print(f"{len(found['questions'])} of {total_words(found)}")
    if found["next_cursor"]:
        console.print(f"Read on with --cursor {found['next_cursor']}")


@app.command()
def show(task_id: str) -> None:
    """Print the last question of a task, with its answer, as JSON.

    \f
    Raises: `NotFound` if the task has asked nothing.
    """
    task = call("GET", f"/tasks/{path_segment(task_id)}")
    if "question" not in task:
        raise NotFound(f"Task {task_id} has no question; see `aragora-cp questions list`.", "question_not_found")
    print_json({"task_id": task_id, **task["question"]})


@app.command()
def answer(
    task_id: str,
    value: Annotated[str, typer.Argument(help="The answer, as JSON; a text needs its quotes: '\"yes\"'.")],
    attempt: Attempt = None,
) -> None:
    """Answer the open question of a task."""
    _answer(task_id, {"verdict": "answer", **json_fields(answer=("VALUE", value))} | given(attempt=attempt))


@app.command()
def approve(
    task_id: str,
    value: Annotated[str | None, typer.Option("--answer", help="An answer, as JSON; true if it is left out.")] = None,
    attempt: Attempt = None,
) -> None:
    """Approve what a task asks."""
    _answer(task_id, {"verdict": "approve", **json_fields(answer=("--answer", value))} | given(attempt=attempt))


@app.command()
def reject(
    task_id: str, reason: Annotated[str | None, typer.Option(help="Why.")] = None, attempt: Attempt = None
) -> None:
    """Reject what a task asks."""
    _answer(task_id, {"verdict": "reject"} | given(reason=reason, attempt=attempt))


def _answer(task_id: str, body: dict[str, Any]) -> None:
    answered = call("POST", f"/tasks/{path_segment(task_id)}/answer", body)
    console.print(plain(f"{task_id}: {answered['verdict']} by {answered['answered_by']}."))


def _utc(at: float | None) -> str:
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
