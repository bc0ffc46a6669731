"""``python -m bench [--quick] [--runs N] [--list] [NAME…]``"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import (
    age,
    agents,
    cluster,
    deliberation,
    harness,
    learning,
    page,
    regions,
    retention,
    scheduler,
    search,
    security,
    streams,
    workflows,
)
from bench.stand import install_peers, standing

PARTS = (
    *(scheduler, cluster, agents, deliberation, age, search, retention, workflows, security, regions),
    *(streams, page, learning),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the control plane and its peers.")
    parser.add_argument("only", nargs="*", help="groups or parts, like scheduler or scheduler.claim")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: proves that it works, measures nothing")
    parser.add_argument("--runs", type=int, default=5, help="runs per figure")
    parser.add_argument("--out", type=Path, default=harness.OUT / "results.json", help="where the rows go as JSON")
    parser.add_argument("--page", type=Path, help="write the table of rows into this page (docs/performance.md)")
    parser.add_argument("--list", action="store_true", help="only print the names")
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(143)
    )  # so that `with` blocks stop what they have started
    console = Console(width=180, soft_wrap=False)
    benches = harness.selected(arguments.only, quick=arguments.quick or arguments.list)
    if arguments.list:
        for bench in benches:
            note = " (only by this name)" if bench.alone else ""
            console.print(f"{bench.name}: {bench.about}{note}", highlight=False)
        return
    if any(bench.peers for bench in benches):
        install_peers()
    console.print(harness.machine(), highlight=False)
    with standing(quick=arguments.quick, runs=arguments.runs) as stand:
        rows = harness.measure(benches, stand, console, lambda some: harness.write(some, arguments.out))
    everything = harness.write(rows, arguments.out)
    if arguments.page is not None:
        harness.write_page(everything, arguments.page)
    console.print(harness.table(rows))
    console.print(f"Rows as JSON: {arguments.out}", highlight=False)
    if any(row.failed for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
