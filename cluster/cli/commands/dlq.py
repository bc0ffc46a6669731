"""``aragora-cp dlq``: the dead letter, which holds tasks that failed for good."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, json_fields, path_segment, print_json
from cluster.cli.output import console, listing, on_one_line, plain, total_words
from cluster.domain.base.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Dead letter: tasks that failed for good.")

Ids = Annotated[list[str] | None, typer.Argument(help="Task ids; without any, the options choose.")]
Type = Annotated[str | None, typer.Option("--type", help="Task type.")]
Queue = Annotated[str | None, typer.Option(help="Queue.")]
Reason = Annotated[str | None, typer.Option(help="dead_lettered or timeout.")]
Error = Annotated[str | None, typer.Option("--error", help="Part of the error, upper or lower case.")]
All = Annotated[bool, typer.Option("--all", help="All dead tasks; needed if neither ids nor options are given.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Change nothing; list the tasks, and what would be submitted.")]
Limit = Annotated[int, typer.Option(min=1, help="Most tasks to take, newest first.")]


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
    names = ("id", "replayed_as", "task_type", "queue", "reason", "attempt", "error")
    rows = ([task.get(name) for name in names] for task in found["tasks"])
    listing(("task", "replayed as", "type", "queue", "reason", "attempts", "error"), rows)
    console.print(f"{len(found['tasks'])} of {total_words(found)}")
    if found["next_cursor"]:
        console.print(f"Read on with --cursor {found['next_cursor']}")


@app.command()
def show(task_id: str) -> None:
    """Print one dead task as JSON."""
    print_json(call("GET", f"/dead-letter/{path_segment(task_id)}"))


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
    Raises: `BadParameter` unless exactly one of ids, options that choose and --all is given, or if JSON is not valid;
    `NotFound` if a task that is named is not there.
    """
    body = _chosen(ids, everything, limit, dry_run, task_type=task_type, queue=queue, reason=reason, error=error)
    body |= json_fields(payload=("--payload", payload), payload_patch=("--patch", patch))
    found = call("POST", "/dead-letter/replay", body)
    tasks = found["would_replay"] if dry_run else found["replayed"]
    for task in tasks:
        outcome = _would(task) if dry_run else f"-> {task['replayed_as']}"
        console.print(plain(f"{task['task_id']} {outcome}"))
    if ids:
        _check_found(ids, {task["task_id"] for task in tasks})
    else:
        _say_rest(found)


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
    Raises: `BadParameter` unless exactly one of ids, options that choose and --all is given, `NotFound` if a task that is
    named is not there.
    """
    body = _chosen(ids, everything, limit, dry_run, task_type=task_type, queue=queue, reason=reason, error=error)
    # A purge answers only how many it took, so what is named is looked up before.
    known = call("POST", "/dead-letter/purge", {**body, "dry_run": True})["would_purge"] if ids else []
    found = call("POST", "/dead-letter/purge", body)
    if dry_run:
        for task_id in found["would_purge"]:
            console.print(f"{task_id} would be purged")
    else:
        console.print(f"{found['purged']} purged.")
    if ids:
        _check_found(ids, set(known))
    else:
        _say_rest(found)


def _would(task: Mapping[str, Any]) -> str:
    """What a replay would submit, on one line. The API shows payloads to those who may read them."""
    if task.get("payload") is None:
        return "would be replayed"
    return on_one_line(f"would be replayed with {json.dumps(task['payload'], ensure_ascii=False)}")


def _say_rest(found: Mapping[str, Any]) -> None:
    console.print(f"{found['remaining']} more match." if found["remaining"] else "Nothing else matches.")


def _check_found(ids: Sequence[str], found: Collection[str]) -> None:
    """Raises: `NotFound` if a task that was named was not found."""
    missing = [task_id for task_id in dict.fromkeys(ids) if task_id not in found]
    if missing:
        raise NotFound(
            f"The dead letter holds no task {', '.join(missing)}, or it was replayed already; see `aragora-cp dlq list`.",
            "task_not_found",
        )


def _chosen(
    ids: list[str] | None, everything: bool, limit: int, dry_run: bool, *, error: str | None, **filters: str | None
) -> dict[str, Any]:
    chosen = given(error_contains=error, **filters)
    if bool(ids) + bool(chosen) + everything != 1:
        raise typer.BadParameter("Give task ids, or options that choose tasks, or --all.")
    choice = {"ids": ids} if ids else {"filter": chosen}
    return {**choice, "limit": limit, "dry_run": dry_run}
