"""``aragora-cp queue``: what waits, and what operators set for queues, task types and tenants."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cluster.cli.calls import Json, call, given, print_json
from cluster.cli.output import console

app = typer.Typer(no_args_is_help=True, help="Queues: pause, resume, limits.")

Kind = Annotated[str, typer.Option(help="queue, task_type or tenant.")]


@app.command()
def metrics() -> None:
    """What waits and runs, and how it went lately, as JSON."""
    print_json(call("GET", "/queue/metrics"))


@app.command()
def controls(as_json: Json = False) -> None:
    """What is set; everything else has the defaults."""
    found = call("GET", "/queue/controls")
    if as_json:
        print_json(found)
        return
    table = Table("kind", "name", "paused", "rate per second", "burst", "weight", "by")
    for control in found["controls"]:
        cells = (control["kind"], control["name"], "paused" if control["paused"] else "")
        limits = (str(control.get(name, "")) for name in ("rate_per_second", "burst", "weight"))
        table.add_row(*(escape(cell) for cell in (*cells, *limits, control["changed_by"])))
    console.print(table)


@app.command()
def pause(name: str, kind: Kind = "queue") -> None:
    """Nothing of it starts until it is resumed; what runs goes on."""
    call("POST", "/queue/pause", {"kind": kind, "name": name})
    console.print(f"Paused {kind} {escape(name)}.")


@app.command()
def resume(name: str, kind: Kind = "queue") -> None:
    """Let it start tasks again."""
    call("POST", "/queue/resume", {"kind": kind, "name": name})
    console.print(f"Resumed {kind} {escape(name)}.")


@app.command()
def limit(
    name: str,
    rate: Annotated[float | None, typer.Option(help="Tasks that may start per second.")] = None,
    burst: Annotated[int | None, typer.Option(help="How many may start at once after a quiet time.")] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="Lift the limit.")] = False,
) -> None:
    """How fast a queue may start tasks."""
    if unlimited == (rate is not None):
        raise typer.BadParameter("Give --rate or --unlimited.")
    body = {"kind": "queue", "name": name, "rate_per_second": rate} | given(burst=burst)
    print_json(call("PUT", "/queue/controls", body))


@app.command()
def weight(tenant: str, weight: float) -> None:
    """A tenant's share of the dispatches, against 1 of everybody else."""
    print_json(call("PUT", "/queue/controls", {"kind": "tenant", "name": tenant, "weight": weight}))


@app.command()
def prioritize(
    task_id: str,
    priority: Annotated[str | None, typer.Argument(help="low, normal, high or urgent; as it is if left out.")] = None,
    position: Annotated[int | None, typer.Option(min=1, help="Its place in its line: 1 is the next one.")] = None,
) -> None:
    """Change the priority of a waiting task, or its place among those of its priority."""
    if priority is None and position is None:
        raise typer.BadParameter("Give a priority, a --position or both.")
    changed = call("POST", "/queue/prioritize", {"task_id": task_id} | given(priority=priority, position=position))
    position_note = "" if position is None else f", number {position} in its line"
    console.print(f"{escape(task_id)} has priority {changed['task']['priority']}{position_note}.")
