"""``aragora-cp audit list``, ``entry``, ``stats`` and ``check``: the workspace's audit, by the API."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from cluster.cli.calls import Json, call, path_segment, print_json
from cluster.cli.exit_codes import REFUSED
from cluster.cli.output import console, listing, plain

#: A call checks up to 20,000 rows. One that checks fewer than these has reached the end of the log, which may grow meanwhile.
_FEW: Final = 1000


def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most entries.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Newer entries to pass over.")] = 0,
    actions: Annotated[str | None, typer.Option(help="Only these, separated by commas, such as task.failed.")] = None,
    actors: Annotated[str | None, typer.Option(help="Only of these principals, separated by commas.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from this time on, as ISO 8601.")] = None,
    as_json: Json = False,
) -> None:
    """List the entries of the workspace's audit, newest first."""
    asked = {"limit": limit, "offset": offset, "actions": actions, "actor_ids": actors, "start_time": since}
    page = call("GET", "/audit", **{name: value for name, value in asked.items() if value is not None})
    if as_json:
        print_json(page)
        return
    rows = (
        (
            entry["sequence_number"],
            entry["timestamp"],
            entry["action"],
            entry["resource_id"],
            entry["actor"]["id"],
            (entry["entry_hash"] or "not sealed")[:12],
        )
        for entry in page["entries"]
    )
    listing(("seq", "time", "action", "of", "by", "entry hash"), rows)


def entry(entry_id: str) -> None:
    """Print one entry of the workspace's audit as JSON."""
    print_json(call("GET", f"/audit-logs/{path_segment(entry_id)}"))


def stats() -> None:
    """Print how many entries the workspace has, and the last sealed row of the log, as JSON."""
    print_json(call("GET", "/audit/stats"))


def check(
    start: Annotated[int, typer.Option(min=0, help="From this row on.")] = 0,
    as_json: Json = False,
) -> None:
    """Let the control plane check its log against the checkpoints in its database, from anywhere. Exits 1 if it is not what was
    sealed. `audit verify` proves more: it does not trust the control plane.

    \f
    Raises: `Exit` if a row is not what was sealed.
    """
    found, begin = call("GET", "/audit/verify", start_seq=start), start
    while found["valid"] and (found["end_seq"] or 0) - begin >= _FEW:
        begin = found["end_seq"] + 1
        found = call("GET", "/audit/verify", start_seq=begin)
    shown = {**found, "start_seq": start}
    if as_json:
        print_json(shown)
    elif found["valid"]:
        console.print(f"Rows {start} to {found['end_seq']} are what was sealed.")
    else:
        console.print(f"[red]Not what was sealed:[/] {plain(found['message'])}")
    if not found["valid"]:
        raise typer.Exit(REFUSED)
