"""``python -m tests.chaos.page PAGE CHAOS.json DELIBERATIONS.json``: the tables of both runs, into their page.

The runs print the same tables.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
BEGIN, END = "<!-- runs: written by `make chaos` -->", "<!-- end of runs -->"
_FAULTS = (
    "| fault | faults | calls | failed | submit gap p50/p95/max s | lease gap p50/p95/max s | violations |",
    "|---|---|---|---|---|---|---|",
)
_KILLS = (
    "| kills | deliberations under way at kills | deliberations | calls at agents | repeated in flight | "
    "next worker p50/p95/max s | violations |",
    "|---|---|---|---|---|---|---|",
)


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def spread(values: list[float]) -> dict[str, float]:
    ranked = sorted(values)
    p95 = ranked[min(len(ranked) - 1, round(0.95 * (len(ranked) - 1)))]
    return {"p50": round(statistics.median(ranked), 2), "p95": round(p95, 2), "max": round(ranked[-1], 2)}


def longest_gap(times: Sequence[float], start: float, end: float) -> float:
    """The longest time between two of these moments, or the start and one of them; all of it if none is between."""
    marks = [start, *sorted(at for at in times if start <= at <= end)]
    return max((b - a for a, b in itertools.pairwise(marks)), default=end - start)


def faults_table(rows: Sequence[Row]) -> list[str]:
    cells = (
        (
            row["name"].removeprefix("chaos/"),
            row["faults"],
            row["calls"],
            row["failed"],
            _spread(row["submit_gap_s"]),
            _spread(row["lease_gap_s"]),
            row["violations"],
        )
        for row in rows
    )
    return [*_FAULTS, *(_line(cell) for cell in cells)]


def kills_table(row: Row) -> list[str]:
    numbers = [row[name] for name in ("kills", "under_way", "deliberations", "calls", "repeated")]
    return [*_KILLS, _line((*numbers, _spread(row["healed_s"]), len(row["violations"])))]


def totals_line(totals: Row) -> str:
    share = totals["share_error"]
    fair = "not measured" if share is None else f"{share[0]:.1%} over {share[1]} dispatches"
    return (
        f"{totals['faults']} faults, {totals['calls']} calls, {totals['tasks']} acknowledged tasks, "
        f"{totals['log_rows']} log rows, {totals['leases']} leases; reports refused to holders that had lost their lease: "
        f"{totals['lease_lost']}; share error: {fair}"
    )


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _spread(values: Mapping[str, float]) -> str:
    return "/".join(f"{value:.2f}" for value in values.values())


def with_runs(page: str, chaos: Row, deliberations: Row) -> str:
    lines = [
        BEGIN,
        f"Everything, seed {chaos['seed']}, {chaos['machine']}: {totals_line(chaos['totals'])}.",
        "",
        *faults_table(chaos["rows"]),
        "",
        f"Kills of the deliberation worker alone, seed {deliberations['seed']}, {deliberations['machine']}:",
        "",
        *kills_table(deliberations["row"]),
        END,
    ]
    text = "\n".join(lines)
    new, found = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: text, page, flags=re.DOTALL)
    assert found == 1, f"the page has no place for the runs: {BEGIN}"
    return new


if __name__ == "__main__":
    target, *sources = (Path(path) for path in sys.argv[1:])
    target.write_text(with_runs(target.read_text(), *(json.loads(source.read_text()) for source in sources)))
