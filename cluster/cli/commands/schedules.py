"""``aragora-cp schedules``: tasks, deliberations and workflows that start by the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, call, given, json_fields, print_json
from cluster.cli.numbers import amount
from cluster.cli.output import console, listing, plain, utc

app = typer.Typer(no_args_is_help=True, help="Schedules: tasks, deliberations and workflows that start by the clock.")

Cron = Annotated[str | None, typer.Option(help="Five fields, such as '30 2 * * *', or @daily.")]
Zone = Annotated[str | None, typer.Option("--timezone", help="Of the IANA database, such as Europe/Berlin.")]
Every = Annotated[int | None, typer.Option(min=10, help="Seconds between two runs, instead of --cron.")]
Name = Annotated[str | None, typer.Option(help="What people call it.")]
Task = Annotated[str | None, typer.Option(help="The task that each run is: a body of POST /tasks, as JSON.")]
Question = Annotated[str | None, typer.Option(help="The deliberation that each run is: a body, as JSON.")]
Workflow = Annotated[
    str | None, typer.Option(help="The workflow of which each run is one; `workflows list` names them.")
]
Input = Annotated[str | None, typer.Option(help="What each run of the workflow is given, as JSON.")]
StartsAt = Annotated[datetime | None, typer.Option(help="No run is due before (UTC).")]
EndsAt = Annotated[datetime | None, typer.Option(help="No run is due from then on (UTC).")]
Jitter = Annotated[float | None, amount("Seconds over which the starts are spread.")]
CatchUp = Annotated[str | None, typer.Option(help="Runs that were missed: skip, one or all.")]
Overlap = Annotated[str | None, typer.Option(help="While one has not ended: skip, queue, cancel or allow.")]


@app.command()
def create(
    cron: Cron = None,
    timezone: Zone = None,
    every: Every = None,
    task: Task = None,
    deliberation: Question = None,
    workflow: Workflow = None,
    input: Input = None,
    name: Name = None,
    starts_at: StartsAt = None,
    ends_at: EndsAt = None,
    jitter: Jitter = None,
    catch_up: CatchUp = None,
    overlap: Overlap = None,
    paused: Annotated[bool, typer.Option("--paused", help="Start nothing until it is resumed.")] = False,
    as_json: Json = False,
) -> None:
    """Make a schedule and print its id."""
    body = _body(
        cron,
        timezone,
        every,
        task,
        deliberation,
        (workflow, input),
        name,
        starts_at,
        ends_at,
        jitter,
        catch_up,
        overlap,
    )
    created = call("POST", "/schedules", body | given(paused=paused or None))
    if as_json:
        print_json(created)
    else:
        console.print(plain(created["schedule_id"]))


@app.command("list")
def list_schedules(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """List schedules, newest first."""
    found = call("GET", "/schedules", limit=limit, offset=offset)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            schedule["schedule_id"],
            schedule["state"],
            schedule["cron"] or f"every {schedule['every_seconds']} s",
            schedule["timezone"],
            utc(schedule["next_run_at"]),
            str(schedule["runs_started"]),
            schedule["name"],
        )
        for schedule in found["schedules"]
    )
    listing(("schedule", "state", "when", "time zone", "next (UTC)", "runs", "name"), rows)


@app.command()
def show(schedule_id: str) -> None:
    """Print a schedule as JSON."""
    print_json(call("GET", f"/schedules/{schedule_id}"))


@app.command()
def update(
    schedule_id: str,
    cron: Cron = None,
    timezone: Zone = None,
    every: Every = None,
    task: Task = None,
    deliberation: Question = None,
    workflow: Workflow = None,
    input: Input = None,
    name: Name = None,
    starts_at: StartsAt = None,
    ends_at: EndsAt = None,
    jitter: Jitter = None,
    catch_up: CatchUp = None,
    overlap: Overlap = None,
) -> None:
    """Change what is given of a schedule, and print it as JSON."""
    body = _body(
        cron,
        timezone,
        every,
        task,
        deliberation,
        (workflow, input),
        name,
        starts_at,
        ends_at,
        jitter,
        catch_up,
        overlap,
    )
    print_json(call("PUT", f"/schedules/{schedule_id}", body))


@app.command()
def pause(schedule_id: str) -> None:
    """Pause a schedule: no run starts until it is resumed, and what is due meanwhile is not made up."""
    call("POST", f"/schedules/{schedule_id}/pause")
    console.print(f"Paused {plain(schedule_id)}.")


@app.command()
def resume(schedule_id: str) -> None:
    """Resume a schedule with the next run that is due."""
    resumed = call("POST", f"/schedules/{schedule_id}/resume")
    console.print(f"Resumed {plain(schedule_id)}; its next run starts at {utc(resumed['next_run_at'])} UTC.")


@app.command()
def preview(schedule_id: str, count: Annotated[int, typer.Option(min=1, max=100)] = 10, as_json: Json = False) -> None:
    """Print when the next runs are due."""
    found = call("GET", f"/schedules/{schedule_id}/preview", count=count)
    if as_json:
        print_json(found)
        return
    listing((f"due ({found['timezone']})", "starts (UTC)"), ((run["due"], run["starts"]) for run in found["runs"]))


@app.command()
def run(schedule_id: str) -> None:
    """Start a run at once, and print the id of its task, deliberation or run of a workflow."""
    console.print(plain(call("POST", f"/schedules/{schedule_id}/run")["run_id"]))


@app.command()
def delete(schedule_id: str) -> None:
    """Delete a schedule; runs that have started go on."""
    call("DELETE", f"/schedules/{schedule_id}")
    console.print(f"Deleted {plain(schedule_id)}.")


def _body(
    cron: str | None,
    timezone: str | None,
    every: int | None,
    task: str | None,
    deliberation: str | None,
    workflow: tuple[str | None, str | None],
    name: str | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    jitter: float | None,
    catch_up: str | None,
    overlap: str | None,
) -> dict[str, Any]:
    run, run_input = workflow
    if run is None and run_input is not None:
        raise typer.BadParameter("--input is what a workflow is given; name it with --workflow.")
    started = given(name=run) | json_fields(input=("--input", run_input))
    return given(
        workflow=started or None,
        cron=cron,
        timezone=timezone,
        every_seconds=every,
        name=name,
        starts_at=_epoch(starts_at),
        ends_at=_epoch(ends_at),
        jitter_seconds=jitter,
        catch_up=catch_up,
        overlap=overlap,
    ) | json_fields(task=("--task", task), deliberation=("--deliberation", deliberation))


def _epoch(moment: datetime | None) -> float | None:
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()
