"""``aragora-cp region``: asks the leader of this region, over its socket on this machine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.calls import Json, print_json
from cluster.cli.connection import client, settings
from cluster.cli.exit_codes import MACHINE, REFUSED
from cluster.cli.numbers import amount
from cluster.cli.output import console, counted, errors, listing, on_one_line, plain
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.replication.quorum import ReplicationMode
from cluster.embedded.layout import Layout
from cluster.rpc.control import ask_leader
from cluster.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Several regions: who is primary, and how to change it.")

#: How long a change may take: an election of the longest sensible timeout.
CHANGE_S = 120.0
STATUS_S = 5.0


def _socket(ours: Settings) -> Path:
    return ours.region_socket or Layout.of(ours.data_dir).region_socket


#: The zone that a command is for.
Zone = Annotated[
    str | None, typer.Option(help="The zone, of those that have a primary of their own. Default: that of all regions.")
]


def _ask(command: str, timeout_s: float = CHANGE_S, *, zone: str | None = None, **arguments: Any) -> Any:
    if zone is not None:  # a leader of an earlier release knows no zones
        arguments["zone"] = zone
    return asyncio.run(ask_leader(_socket(settings()), command, timeout_s=timeout_s, **arguments))


@app.command()
def status(zone: Zone = None, as_json: Json = False) -> None:
    """Show zone, role, epoch, trust, in-sync set, lag, and the files of surplus rows; and who is primary of each other zone."""
    found = _ask("status", STATUS_S, zone=zone)
    if as_json:
        print_json(found)
        return
    listing(("", ""), _rows(found))
    for sentence in (*found["contradictions"], found.get("no_automatic_failover")):
        if sentence:
            console.print(plain(sentence))


def _rows(found: dict[str, Any]) -> list[tuple[str, object]]:
    trust = found["trusted_until"]
    if trust is not None:
        trust = datetime.fromtimestamp(trust, UTC).isoformat(timespec="milliseconds")
    rows: list[tuple[str, object]] = [
        ("region", found["region"]),
        ("zone", found["zone"]),
        ("role", f"{found['role']} ({found['phase']})"),
        ("primary", found.get("primary")),
        ("epoch", found["epoch"]),
        ("trusted until", trust),
        ("in-sync set", ", ".join(found.get("in_sync", ()))),
        ("copies of payloads", found.get("payload_copies")),
        ("mode", found.get("mode")),
        ("last row", found["head"]),
        ("leader of etcd", found["etcd_leader"]),
        ("refuses writes", found["no_writes"]),
        ("problem", found["problem"]),
    ]
    rows += [
        (f"lag of {region}", ", ".join(f"{name} {value}" for name, value in lag.items()))
        for region, lag in found["lag"].items()
    ]
    rows += [
        (f"zone {other['zone']}", f"primary {other.get('primary')}, epoch {other.get('epoch')}, here {other['phase']}")
        for other in found.get("zones", ())
        if other["zone"] != found["zone"]
    ]
    return rows + [("surplus", f"{file['name']} ({file['rows']} rows)") for file in found["surplus"]]


def _changed(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        in_sync = ", ".join(found["in_sync"])
        console.print(f"Primary is {plain(found['primary'])}, epoch {found['epoch']}, in-sync set: {plain(in_sync)}.")
    if not found.get("audited", True):
        errors.print("No row of the log says so, because it could not be stored; the region's process log does.")


@app.command()
def failover(
    to: Annotated[str | None, typer.Option(help="The region that takes the zone; given at the primary.")] = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Make this region primary although it may lack acknowledged rows.")
    ] = False,
    zone: Zone = None,
    as_json: Json = False,
) -> None:
    """Hand the zone to another region, which catches up first: nothing is lost. Or take it with --accept-loss.

    \f
    Raises: `BadParameter` unless one of both is given.
    """
    if (to is None) != accept_loss:
        raise typer.BadParameter(
            "Name the region that takes the zone with --to, or give --accept-loss at the one that shall."
        )
    _changed(_ask("accept_loss", zone=zone) if to is None else _ask("failover", zone=zone, to=to), as_json)


@app.command()
def failback(zone: Zone = None, as_json: Json = False) -> None:
    """Hand the zone back to the region that founded it (ARAGORA_PRIMARY_REGION); given at the primary. Nothing is lost."""
    _changed(_ask("failback", zone=zone), as_json)


@app.command()
def mode(
    replication_mode: Annotated[ReplicationMode, typer.Argument(metavar="MODE")],
    zone: Zone = None,
    as_json: Json = False,
) -> None:
    """Set whether answers wait for the in-sync set (sync) or for no other region (async); given at the primary.

    In async mode the loss of the primary loses what was acknowledged last. Back in sync mode, writes are refused until another
    region has caught up."""
    _changed(_ask("set_mode", zone=zone, mode=replication_mode.value), as_json)


@app.command()
def drill(
    to: Annotated[
        str | None, typer.Option(help="The region that takes the zone meanwhile. Default: one of the in-sync set.")
    ] = None,
    most_closed: Annotated[float, amount("Seconds for which the zone may be closed for writes each time.")] = 15.0,
    report: Annotated[
        Path, typer.Option(help="The folder that gets the report, in Markdown and JSON.", file_okay=False)
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Hand the zone over, planned, and take it back, while a client writes; given at the primary. Exits 1 if anything is lost.

    \f
    Raises: `Exit` if something is lost or differs, or takes longer than it may; `Conflict` if this region is not the primary.
    """
    from cluster.cli import region_drill

    ours, at = settings(), datetime.now(UTC)
    path = _socket(ours)

    async def ask(command: str, **arguments: Any) -> Any:
        return await ask_leader(path, command, timeout_s=CHANGE_S, **arguments)

    async def work() -> region_drill.Drill:
        async with client(ours) as api:
            return await region_drill.drill(ask, api, to, f"{at:%Y%m%dT%H%M%S%f}")

    found = asyncio.run(work())
    problems = found.problems(most_closed)
    text = found.markdown(at.isoformat(timespec="seconds"), most_closed)
    values = {"at": at.isoformat(), "most_closed_s": most_closed, "problems": problems, **asdict(found)}
    report.mkdir(parents=True, exist_ok=True)
    file = report / f"region-drill-{at:%Y%m%dT%H%M%SZ}.md"
    file.write_text(text)
    file.with_suffix(".json").write_text(json.dumps(values, indent=2) + "\n")
    if as_json:
        print_json(values)
    else:
        console.print(plain(text) + f"Report: {plain(str(file))}")
    if problems:
        raise typer.Exit(REFUSED)


@app.command()
def join(as_json: Json = False) -> None:
    """Make this region a member of the group. The primary takes it into the in-sync set when it has caught up."""
    _is_member(_ask("join"), as_json)


@app.command()
def leave(as_json: Json = False) -> None:
    """Take this region out of the group, after it has left the in-sync set."""
    _is_member(_ask("leave"), as_json)


@app.command("scan-residency")
def scan_residency(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", exists=True, readable=False, help="Files and folders to search.")
    ],
    marker: Annotated[
        list[str] | None,
        typer.Option("--marker", help="A text to look for. Lists of processes show it; see --markers."),
    ] = None,
    markers: Annotated[
        Path | None,
        typer.Option(
            "--markers", dir_okay=False, exists=True, help="A file of texts, one a line, or JSON lines (.jsonl)."
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option("--zone", help="Look for texts of tasks that are resident there, from this region's database."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, max=150, help="Of so many tasks, the newest ones, with --zone.")] = 50,
    as_json: Json = False,
) -> None:
    """Search data directories, dumps, logs, backups and captures for payloads that must not be there. Exits 1 if one is found.

    Run it where a region outside of the zone keeps its files. Markers that are found are named by their ids, never shown. Exits 5
    if nothing is found but something could not be read.

    \f
    Raises: `BadParameter` without markers or for one that cannot be looked for; `Exit` if something is found or not read.
    """
    from cluster.cli import region_scan

    try:
        sought = region_scan.given_markers(marker or (), markers)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error)) from None
    if not sought and zone is None:
        raise typer.BadParameter("Say what to look for: --marker, --markers or --zone.")
    if zone is not None:
        sought += asyncio.run(region_scan.sampled_markers(zone, samples))
    try:
        report = region_scan.scanned(sought, paths)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(report)
    else:
        _show_scan(report, len(sought))
    if report["hits"]:
        raise typer.Exit(REFUSED)
    if report["unread_files"]:
        raise typer.Exit(MACHINE)


def _show_scan(report: dict[str, Any], markers: int) -> None:
    for found in report["found"]:
        inside = "" if found["inside"] is None else f" ({found['inside']})"
        what = f"{found['marker']} at byte {found['offset']}, {counted(found['times'], 'time')}"
        console.print(plain(on_one_line(f"{found['file']}{inside}: {what}")))
    for unread in report["unread"]:
        errors.print(f"[yellow]not read:[/] {plain(on_one_line(unread['file'] + ': ' + unread['why']))}")
    searched = f"{counted(report['files'], 'file')}, {report['bytes']:,} bytes, {counted(markers, 'marker')}"
    if report["hits"]:
        verdict = "there are payloads here"
    else:
        verdict = "nothing found, but not all was read" if report["unread_files"] else "nothing found"
    console.print(f"{searched}: {verdict}.")


def _is_member(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console.print(f"{plain(found['region'])} is {'a' if found['member'] else 'no'} member.")
