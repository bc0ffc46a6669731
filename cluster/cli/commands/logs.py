"""``aragora-cp logs``: what the processes of a system on this machine have logged, also after it has ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Final

import typer

from cluster.cli.connection import settings
from cluster.cli.output import listing
from cluster.domain.base.errors import NotFound
from cluster.embedded.layout import EmbeddedError, Layout
from cluster.embedded.run_logs import Run, runs
from cluster.telemetry.log_files import OWN
from cluster.telemetry.log_lines import LoggedRecord
from cluster.telemetry.log_reader import MergedLogs

LINES: Final = 100
POLL_S: Final = 0.25


def logs(
    trace: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only the records of this request, of all kept runs unless --run names one."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new records until Ctrl-C, also those of the next run.")
    ] = False,
    run: Annotated[int | None, typer.Option(min=0, metavar="N", help="Number of a run; default: the newest.")] = None,
    show_runs: Annotated[bool, typer.Option("--runs", help="List the runs that are kept.")] = False,
    lines: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help=f"Most records, the newest; default: {LINES}, with --trace all."),
    ] = None,
) -> None:
    """Show what the API and the actors of this machine's system have logged, in order of time, also after its end.

    \f
    Raises: `EmbeddedError` if there are no logs; `NotFound` if there is no such run, or no record has the trace id.
    """
    layout = Layout.of(settings().data_dir)
    kept = runs(layout.logs)
    if not kept:
        raise EmbeddedError(f"{layout.logs} holds no logs of a run yet; `aragora-cp up` writes them.")
    if show_runs:
        rows = ((found.number, found.started.isoformat(), found.size(), found.directory) for found in kept)
        listing(("run", "started", "bytes", "directory"), rows)
        return
    with closing(MergedLogs()) as merged:
        for each in _chosen(kept, run, of_all=trace is not None):
            merged.add(each.log(name) for name in OWN)
        records = merged.read(trace)
        if trace is not None and not records and not follow:
            raise NotFound(
                f"No kept record has the trace id {trace}; `aragora-cp logs --runs` lists the runs that are kept."
            )
        most = lines or (LINES if trace is None else len(records))
        _print(records[-most:])
        if follow:
            _follow(merged, trace, layout if run is None else None)


def _chosen(kept: Sequence[Run], number: int | None, *, of_all: bool) -> Sequence[Run]:
    if number is None:
        return kept if of_all else kept[:1]
    found = [run for run in kept if run.number == number]
    if not found:
        numbers = ", ".join(str(run.number) for run in reversed(kept))
        raise NotFound(f"The logs of run {number} are not kept; these are: {numbers}.")
    return found


def _follow(merged: MergedLogs, trace: str | None, layout: Layout | None) -> None:
    """Prints new records for ever; with a layout also those of runs that begin later."""
    while True:
        time.sleep(POLL_S)
        for run in runs(layout.logs)[:1] if layout is not None else ():
            merged.add(run.log(name) for name in OWN)
        _print(merged.read(trace))


def _print(found: Sequence[LoggedRecord]) -> None:
    """Prints whole records. A reader that has enough, like `head`, ends the command without an error."""
    try:
        sys.stdout.buffer.write("".join(f"{record.text}\n" for record in found).encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Else the interpreter would write what is left at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
