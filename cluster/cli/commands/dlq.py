"""``aragora-cp dlq``: the dead letter, where tasks are that were given up on."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli.calls import Json, call, given, json_option, print_json
from cluster.cli.output import console

app = typer.Typer(no_args_is_help=True, help="Dead letter: tasks that were given up on.")

Ids = Annotated[list[str] | None, typer.Argument(help="Task ids; none: those that the options choose.")]
Type = Annotated[str | None, typer.Option("--type", help="Task type.")]
Queue = Annotated[str | None, typer.Option(help="Queue.")]
Reason = Annotated[str | None, typer.Option(help="dead_lettered or timeout.")]
Error = Annotated[str | None, typer.Option("--error", help="Part of the error, in any case.")]
All = Annotated[bool, typer.Option("--all", help="Without ids and options: really all of them.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Only say which.")]
Limit = Annotated[int, typer.Option(help="At most so many, newest first.")]


@app.command("list")
def list_(
    task_type: Type = None,
    queue: Queue = None,
    reason: Reason = None,
    error: Error = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Also those that were replayed.")] = False,
    limit: Limit = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the last page said to read on.")] = None,
    as_json: Json = False,
) -> None:
    """Dead tasks, newest first."""
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
    """One dead task as JSON."""
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
    """Submit dead tasks again as new ones; each is replayed once."""
    body = _chosen(ids, everything, limit, dry_run, task_type=task_type, queue=queue, reason=reason, error=error)
    body |= given(payload=json_option(payload, "--payload"), payload_patch=json_option(patch, "--patch"))
    found = call("POST", "/dead-letter/replay", body)
    for one in found["would_replay"] if dry_run else found["replayed"]:
        console.print(f"{one['task_id']} would be replayed" if dry_run else f"{one['task_id']} -> {one['replayed_as']}")
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
    """Throw dead tasks and their payloads away for good."""
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
        raise typer.BadParameter("Give task ids, or options that choose, or --all.")
    choice = {"ids": ids} if ids else {"filter": chosen}
    return {**choice, "limit": limit, "dry_run": dry_run}
