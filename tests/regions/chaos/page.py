"""``python -m tests.regions.chaos.page PAGE RUN.json…``: the table of some runs together, into their page."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.page import spread

BEGIN, END = "<!-- runs: written by tests.regions.chaos.page -->", "<!-- end of runs -->"
_HEAD = (
    "| fault | faults | RTO p50 | p95 | max | RPO p50 | p95 | max | whole after p50 | max |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


def faults_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Seconds. RTO: the longest time in which no write was answered, from the beginning of the fault until all is whole. RPO:
    acknowledged writes that a fault cost; runs before it was counted have none of it."""
    lines = []
    for row in rows:
        times, whole = spread(row["rto_s"]), spread(row["whole_s"]) if row["whole_s"] else {}
        cells = [row["name"], len(row["rto_s"]), *(f"{value:.1f}" for value in times.values())]
        cells += [f"{value:g}" for value in spread(row["lost"]).values()] if row["lost"] else ["-"] * 3
        cells += [f"{whole[name]:.1f}" if whole else "never" for name in ("p50", "max")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return [*_HEAD, *lines]


def with_runs(page: str, runs: Sequence[Mapping[str, Any]]) -> str:
    together: dict[str, dict[str, Any]] = defaultdict(lambda: {"rto_s": [], "whole_s": [], "lost": []})
    for run in runs:
        for row in run["rows"]:
            for field in ("rto_s", "whole_s", "lost"):
                together[row["name"]][field] += row.get(field, [])
    counts = {
        name: sum(run[name] for run in runs) for name in ("faults", "acknowledged", "lost", "rows_read", "surplus")
    }
    violations = sum(len(run["violations"]) for run in runs)
    lines = [
        BEGIN,
        f"Seed {', '.join(str(run['seed']) for run in runs)}, {runs[0]['machine']}: {counts['faults']} faults, "
        f"{counts['acknowledged']:,} acknowledged writes, {counts['lost']} lost, {counts['rows_read']:,} rows read, "
        f"{counts['surplus']} surplus rows kept, {violations} violations.",
        "",
        *faults_table([{"name": name, **found} for name, found in together.items()]),
        END,
    ]
    text = "\n".join(lines)
    new, found = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: text, page, flags=re.DOTALL)
    assert found == 1, f"the page has no place for the runs: {BEGIN}"
    return new


if __name__ == "__main__":
    target, *sources = (Path(path) for path in sys.argv[1:])
    target.write_text(with_runs(target.read_text(), [json.loads(source.read_text()) for source in sources]))
