"""``aragora-cp metrics``: the control plane's numbers, as JSON. Prometheus reads ``/metrics`` at the root instead."""

from __future__ import annotations

import typer

from cluster.cli.calls import call, print_json

app = typer.Typer(no_args_is_help=True, help="Numbers of the fleet, the tasks, the machine and the day.")


@app.command()
def fleet() -> None:
    """Print numbers of the fleet, its health and the scheduler, as JSON."""
    print_json(call("GET", "/stats"))


@app.command()
def today() -> None:
    """Print the numbers of a dashboard, of this day (UTC), as JSON."""
    print_json(call("GET", "/metrics"))


@app.command()
def system() -> None:
    """Print what the tasks do now and how the machine of the replica that answers is, as JSON."""
    print_json(call("GET", "/metrics/system"))


@app.command()
def tasks() -> None:
    """Print how tasks have ended, and the means of the last hour, as JSON."""
    print_json(call("GET", "/metrics/tasks"))
