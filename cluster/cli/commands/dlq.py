"""``aragora-cp dlq``: the dead letter, which holds tasks that failed for good."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli.calls import Json, call, given, json_option, print_json
from cluster.cli.output import console

app = typer.Typer(no_args_is_help=True, help="Dead letter: tasks that failed for good.")

Ids = Annotated[list[str] | None, typer.Argument(help="Task ids; without any, the options choose.")]
Type = Annotated[str | None, typer.Option("--type", help="Task type.")]
Queue = Annotated[str | None, typer.Option(help="Queue.")]
Reason = Annotated[str | None, typer.Option(help="dead_lettered or timeout.")]
Error = Annotated[str | None, typer.Option("--error", help="Part of the error, upper or lower case.")]
All = Annotated[bool, typer.Option("--all", help="All dead tasks; needed if neither ids nor options are given.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only list the tasks.")]
Limit = Annotated[int, typer.Option(help="Most tasks to take, newest first.")]


@app.command("list")
def list_(
    task_type: Type = None,
    queue: Queue = None,
    reason: Reason = None,
    error: Error = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Include tasks that were replayed.")] = False,
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the page before printed.")] = None,
    as_json: Json = False,
) -> None:
    """List dead tasks, newest first."""
    filters = given(task_type=task_type, queue=queue, reason=reason, error_contains=error, cursor=cursor)
    found = call("GET", "/dead-letter", limit=limit, replayed=str(replayed).lower(), **filters)
    if as_json:
        print_json(found)
        return
    table = Table("task", "type", "queue", "reason", "attempts", "error", "replayed as")
    for task in found["tasks"]:
        cells = (
            task["id"],
            task["task_type"],
            task["queue"],
            task["reason"],
            str(task["attempt"]),
            task["error"] or "",
        )
        table.add_row(*(escape(cell) for cell in cells), task.get("replayed_as", ""))
    console.print(table)
    console.print(f"{len(found['tasks'])} of {found['total']}")
    if found["next_cursor"]:
        console.print(f"Read on with --cursor {found['next_cursor']}")


@app.command()
def show(task_id: str) -> None:
    """Print one dead task as JSON."""
    print_json(call("GET", f"/dead-letter/{task_id}"))


@app.command()
def replay(
    ids: Ids = None,
    task_type: Type = None,
    queue: Queue = None,
    reason: Reason = None,
    error: Error = None,
    everything: All = False,
    payload: Annotated[str | None, typer.Option(help="JSON that replaces the payload.")] = None,
    patch: Annotated[str | None, typer.Option(help="JSON object whose fields are set in the payload.")] = None,
    dry_run: Dry = False,
    limit: Limit = 1000,
) -> None:
    """Submit dead tasks again as new ones; each is replayed once.

    \f
    Raises: `BadParameter` unless exactly one of ids, options that choose and --all is given, or if JSON is not valid.
    """
    body = _chosen(ids, everything, limit, dry_run, task_type=task_type, queue=queue, reason=reason, error=error)
    body |= given(payload=json_option(payload, "--payload"), payload_patch=json_option(patch, "--patch"))
    found = call("POST", "/dead-letter/replay", body)
    for task in found["would_replay"] if dry_run else found["replayed"]:
        outcome = "would be replayed" if dry_run else f"-> {task['replayed_as']}"
        console.print(f"{task['task_id']} {outcome}")
    console.print(f"{found['remaining']} more match." if found["remaining"] else "Nothing else matches.")


@app.command()
def purge(
    ids: Ids = None,
    task_type: Type = None,
    queue: Queue = None,
    reason: Reason = None,
    error: Error = None,
    everything: All = False,
    dry_run: Dry = False,
    limit: Limit = 1000,
) -> None:
    """Delete dead tasks and their payloads for good.

    \f
    Raises: `BadParameter` unless exactly one of ids, options that choose and --all is given.
    """
    body = _chosen(ids, everything, limit, dry_run, task_type=task_type, queue=queue, reason=reason, error=error)
    found = call("POST", "/dead-letter/purge", body)
    if dry_run:
        for task_id in found["would_purge"]:
            console.print(f"{task_id} would be purged")
    else:
        console.print(f"{found['purged']} purged.")
    console.print(f"{found['remaining']} more match." if found["remaining"] else "Nothing else matches.")


def _chosen(
    ids: list[str] | None, everything: bool, limit: int, dry_run: bool, *, error: str | None, **filters: str | None
) -> dict[str, Any]:
    chosen = given(error_contains=error, **filters)
    if bool(ids) + bool(chosen) + everything != 1:
        raise typer.BadParameter("Give task ids, or options that choose tasks, or --all.")
    choice = {"ids": ids} if ids else {"filter": chosen}
    return {**choice, "limit": limit, "dry_run": dry_run}
