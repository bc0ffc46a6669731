"""``aragora-cp retention``: for how long what has ended is kept."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, agreed, call, given, print_json
from cluster.cli.database import opened
from cluster.cli.numbers import amount
from cluster.cli.output import console, counted, listing, plain

app = typer.Typer(
    no_args_is_help=True, help="Retention: for how long tasks, deliberations and runs that have ended are kept."
)

#: What fields of a rule begin with → what they are about.
_KINDS = (("task", "tasks"), ("deliberation", "deliberations"), ("workflow_run", "runs of workflows"))


@app.command()
def show(as_json: Json = False) -> None:
    """Show what the workspace keeps, and what the last pass removed."""
    _print(call("GET", "/retention"), as_json)


@app.command("set")
def set_rule(
    task_days: Annotated[float | None, amount("Tasks go so many days after their end; 0: never for their age.")] = None,
    task_count: Annotated[
        int | None, typer.Option(min=0, help="So many tasks are kept, the newest; 0: any number.")
    ] = None,
    deliberation_days: Annotated[float | None, amount("The same of deliberations.")] = None,
    deliberation_count: Annotated[int | None, typer.Option(min=0, help="The same of deliberations.")] = None,
    workflow_run_days: Annotated[float | None, amount("The same of runs of workflows.")] = None,
    workflow_run_count: Annotated[int | None, typer.Option(min=0, help="The same of runs of workflows.")] = None,
    spending_days: Annotated[float | None, amount("What a day has cost goes so many days later; 0: never.")] = None,
    violation_days: Annotated[float | None, amount("Violations of policies go so many days later; 0: never.")] = None,
    policy_version_days: Annotated[
        float | None, amount("Versions of policies go so many days after they were replaced or deleted; 0: never.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what the workspace keeps. What you do not name stays as it is."""
    body = given(
        task_days=task_days,
        task_count=task_count,
        deliberation_days=deliberation_days,
        deliberation_count=deliberation_count,
        workflow_run_days=workflow_run_days,
        workflow_run_count=workflow_run_count,
        spending_days=spending_days,
        violation_days=violation_days,
        policy_version_days=policy_version_days,
    )
    if not body:
        raise typer.BadParameter("Name at least one of the options; --help lists them.")
    _print(call("PUT", "/retention", body), as_json)


@app.command()
def run(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove now what the workspace does not keep, instead of within a quarter of an hour.

    \f
    Raises: `Abort` if you do not agree, `BadParameter` in a pipe without --yes.
    """
    if not (dry_run or yes):
        agreed("This removes for good what the workspace does not keep.")
    answer = call("POST", "/retention/run", {"dry_run": dry_run})
    if as_json:
        print_json(answer)
    elif dry_run:
        at_least = "" if answer["complete"] else "at least "
        console.print(
            f"Would be removed: {at_least}{counted(answer['tasks'], 'task')}, "
            f"{at_least}{counted(answer['deliberations'], 'deliberation')}, "
            f"{at_least}{counted(answer['workflow_runs'], 'run')} of workflows."
        )
    else:
        console.print("The pass begins within seconds; `aragora-cp retention show` tells when it has ended.")


@app.command("log")
def show_log(as_json: Json = False) -> None:
    """Show the oldest rows of the log, what holds them, and the archives. It reads the database: run it where the settings are.

    \f
    Raises: `StoreUnavailable` if the database does not answer.
    """
    shown = asyncio.run(_log())
    if as_json:
        print_json(shown)
        return
    directory = shown["archive_dir"]
    console.print(
        f"Archives go to {plain(directory)}."
        if directory
        else "ARAGORA_LOG_ARCHIVE_DIR is not set: nothing of the log goes."
    )
    oldest = shown["oldest"]
    if oldest is None:
        console.print("The log is empty.")
    else:
        why = f"stays: it {oldest['held']}" if oldest["held"] else "goes within a quarter of an hour"
        console.print(f"The oldest segment, rows {oldest['first_seq']} to {oldest['last_seq']}, {why}.")
    listing(
        ("rows", "went", "file", "is there"),
        (
            (f"{a['first_seq']}-{a['last_seq']}", _utc(a["removed_at"]), a["name"], "yes" if a["present"] else "no")
            for a in shown["archives"]
        ),
    )


async def _log() -> dict[str, Any]:
    from cluster.domain.audit.log_retention import followed_holder, holder

    async with opened() as database:
        ours, segments = database.settings, database.segments
        directory, segment, oldest = ours.log_archive_dir, await segments.oldest(), None
        went = await segments.archives()
        if segment is not None:
            archived = max((found.archive.last_seq for found in went), default=0)
            holds, now, days = await segments.holds(), time.time(), ours.log_retention_days
            # Only a region that follows another one has rows that are in an archive.
            follows = archived >= segment.last_seq
            held = (
                followed_holder(segment, archived, holds, now, days) if follows else holder(segment, holds, now, days)
            )
            if not held and directory is None:
                held = "has no archive to go to"
            oldest = {
                "first_seq": segment.first_seq,
                "last_seq": segment.last_seq,
                "last_at": segment.last_at,
                "held": held,
            }
        archives = [
            {
                "first_seq": found.archive.first_seq,
                "last_seq": found.archive.last_seq,
                "removed_at": found.at,
                "name": found.archive.name,
                "sha256": found.archive.digest.hex(),
                "present": directory is not None and (directory / found.archive.name).is_file(),
            }
            for found in went
        ]
    return {"archive_dir": None if directory is None else str(directory), "oldest": oldest, "archives": archives}


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, what in _KINDS:
        days, count = found[f"{name}_days"], found[f"{name}_count"]
        age = f"for {days:g} days after their end" if days else "at any age"
        number = f"at most {count}" if count else "any number"
        console.print(f"Keeps {what} {age}, {number} of them.")
    for name, what in (
        ("spending_days", "what days have cost"),
        ("violation_days", "violations of policies"),
        ("policy_version_days", "versions of policies that were replaced or deleted"),
    ):
        age = f"for {found[name]:g} days" if found[name] else "at any age"
        console.print(f"Keeps {what} {age}.")
    if found["is_default"]:
        console.print("This is the deployment's default; the workspace has set nothing itself.")
    last = found["last_run"]
    if last is None:
        console.print("There was no pass in this region yet.")
    else:
        ended = _utc(last["ended_at"])
        console.print(
            f"The last pass ended at {ended} and removed {counted(last['tasks'], 'task')}, "
            f"{counted(last['deliberations'], 'deliberation')}, {counted(last['workflow_runs'], 'run')} of workflows."
        )
    if found["run_requested"]:
        console.print("A run was asked for and has not ended yet.")
