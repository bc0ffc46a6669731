"""``aragora-cp queue``: figures of the queue, and the controls of queues, task types and tenants."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.calls import Json, call, given, print_json
from cluster.cli.numbers import amount, finite
from cluster.cli.output import console, listing, plain

app = typer.Typer(no_args_is_help=True, help="Queues: pause, resume, limits.")

Kind = Annotated[str, typer.Option(help="queue, task_type or tenant.")]


@app.command()
def metrics() -> None:
    """Print how many tasks wait, run and have ended lately, as JSON."""
    print_json(call("GET", "/queue/metrics"))


@app.command()
def jobs(limit: Annotated[int, typer.Option(min=1, max=1000)] = 50, as_json: Json = False) -> None:
    """List the oldest tasks that run, then the oldest that wait, by priority."""
    found = call("GET", "/queue", limit=limit)
    if as_json:
        print_json(found)
        return
    rows = (
        (
            *(job[name] for name in ("id", "status_detail", "priority", "type", "created_at")),
            ", ".join(job["agents_assigned"]),
            job.get("name"),
        )
        for job in found["jobs"]
    )
    listing(("task", "status", "priority", "type", "submitted", "agent", "name"), rows)
    console.print(f"{len(found['jobs'])} of {found['total']}")


@app.command()
def controls(as_json: Json = False) -> None:
    """List the controls that are set; everything else has the defaults."""
    found = call("GET", "/queue/controls")
    if as_json:
        print_json(found)
        return
    limits = ("rate_per_second", "burst", "weight", "changed_by")
    rows = (
        (
            control["kind"],
            control["name"],
            "paused" if control["paused"] else "",
            *(control.get(name) for name in limits),
        )
        for control in found["controls"]
    )
    listing(("kind", "name", "paused", "rate per second", "burst", "weight", "by"), rows)


@app.command()
def pause(name: str, kind: Kind = "queue") -> None:
    """Pause a queue, task type or tenant: none of its tasks starts until it is resumed; running tasks go on."""
    call("POST", "/queue/pause", {"kind": kind, "name": name})
    console.print(f"Paused {kind} {plain(name)}.")


@app.command()
def resume(name: str, kind: Kind = "queue") -> None:
    """Resume a queue, task type or tenant."""
    call("POST", "/queue/resume", {"kind": kind, "name": name})
    console.print(f"Resumed {kind} {plain(name)}.")


@app.command()
def limit(
    name: str,
    rate: Annotated[float | None, amount("Tasks that may start per second.")] = None,
    burst: Annotated[
        int | None, typer.Option(min=1, help="Most tasks that may start at once after a quiet time.")
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Lift the limit.")] = False,
) -> None:
    """Limit how fast a queue starts tasks, or lift the limit.

    \f
    Raises: `BadParameter` unless exactly one of --rate and --unlimited is given.
    """
    if unlimited == (rate is not None):
        raise typer.BadParameter("Give --rate or --unlimited.")
    body = {"kind": "queue", "name": name, "rate_per_second": rate} | given(burst=burst)
    print_json(call("PUT", "/queue/controls", body))


@app.command()
def weight(tenant: str, weight: Annotated[float, typer.Argument(callback=finite, min=0.001, max=1000)]) -> None:
    """Set a tenant's weight, which is its share of the dispatches; tenants without one have weight 1."""
    print_json(call("PUT", "/queue/controls", {"kind": "tenant", "name": tenant, "weight": weight}))


@app.command()
def prioritize(
    task_id: str,
    priority: Annotated[str | None, typer.Argument(help="low, normal, high or urgent; unchanged if left out.")] = None,
    position: Annotated[
        int | None,
        typer.Option(min=1, help="Its position in its sub-queue; 1 is the first."),
    ] = None,
) -> None:
    """Change the priority of a waiting task, or its position among the waiting tasks of its priority, tenant and queue.

    \f
    Raises: `BadParameter` if neither a priority nor --position is given.
    """
    if priority is None and position is None:
        raise typer.BadParameter("Give a priority, a --position or both.")
    changed = call("POST", "/queue/prioritize", {"task_id": task_id} | given(priority=priority, position=position))
    position_note = "" if position is None else f", number {position} in its sub-queue"
    console.print(f"{plain(task_id)} has priority {changed['task']['priority']}{position_note}.")
