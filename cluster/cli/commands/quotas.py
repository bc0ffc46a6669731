"""``aragora-cp quotas``: how much of the system the workspace may use."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from cluster.cli.calls import Json, call, print_json
from cluster.cli.output import console, listing, plain

app = typer.Typer(no_args_is_help=True, help="Quotas: how much of the system the workspace may use.")

#: Field → what it bounds, for people.
_KINDS: Final = (
    ("agents", "registered agents"),
    ("queued_tasks", "tasks that wait"),
    ("running_tasks", "tasks that run"),
    ("submits_per_minute", "tasks submitted in a minute"),
)


@app.command()
def show(as_json: Json = False) -> None:
    """Show the workspace's quotas, and how much of them is used."""
    _print(call("GET", "/quotas"), as_json)


@app.command("set")
def set_quotas(
    agents: Annotated[int | None, typer.Option(min=0, help="So many agents may be registered; 0: any number.")] = None,
    queued_tasks: Annotated[int | None, typer.Option(min=0, help="So many tasks may wait; 0: any number.")] = None,
    running_tasks: Annotated[int | None, typer.Option(min=0, help="So many tasks may run; 0: any number.")] = None,
    submits_per_minute: Annotated[
        int | None, typer.Option(min=0, help="So many tasks may be submitted in a minute; 0: any number.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change the workspace's quotas. What you do not name stays as it is."""
    named = {
        "agents": agents,
        "queued_tasks": queued_tasks,
        "running_tasks": running_tasks,
        "submits_per_minute": submits_per_minute,
    }
    body = {name: value or None for name, value in named.items() if value is not None}
    if not body:
        raise typer.BadParameter("Name at least one of the options; --help lists them.")
    _print(call("PUT", "/quotas", body), as_json)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows = (
        (name, what, str(found["quotas"][name] or "none"), str(found["used"].get(name, ""))) for name, what in _KINDS
    )
    listing(("quota", "bounds", "at most", "used"), rows)
    if found["updated_by"] is not None:
        console.print(plain(f"They were set by {found['updated_by']} at {found['updated_at']}."))
