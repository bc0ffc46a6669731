"""Both runs of ``make chaos`` write their tables into the page that keeps them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.page import BEGIN, END, spread, with_runs
from tests.support.docs import ROOT

GAP = spread([0.3, 0.1, 0.2])
TOTALS = {
    "faults": 2,
    "calls": 9,
    "tasks": 4,
    "log_rows": 12,
    "leases": 5,
    "lease_lost": 1,
    "share_error": [0.0125, 80],
}
CHAOS: dict[str, Any] = {
    "seed": 3,
    "machine": "2 cores",
    "totals": TOTALS,
    "rows": [
        {
            "name": "chaos/redis-kill",
            "faults": 2,
            "calls": 9,
            "failed": 0,
            "submit_gap_s": GAP,
            "lease_gap_s": GAP,
            "violations": 1,
        }
    ],
}
KILLS = {"kills": 7, "under_way": 20, "deliberations": 11, "calls": 50, "repeated": 6, "healed_s": GAP}
DELIBERATIONS = {"seed": 4, "machine": "2 cores", "row": {**KILLS, "violations": ["one", "two"]}}


def test_the_tables_replace_those_of_the_runs_before_and_nothing_else() -> None:
    page = (ROOT / "docs" / "robustness.md").read_text()
    written = with_runs(page, CHAOS, DELIBERATIONS)
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    assert written.startswith(before)
    assert written.endswith(after)
    runs = written.removeprefix(before).removesuffix(after)
    assert "| redis-kill | 2 | 9 | 0 | 0.20/0.30/0.30 | 0.20/0.30/0.30 | 1 |" in runs
    assert "| 7 | 20 | 11 | 50 | 6 | 0.20/0.30/0.30 | 2 |" in runs
    assert "seed 3" in runs
    assert "share error: 1.2% over 80 dispatches" in runs
    assert with_runs(written, CHAOS, DELIBERATIONS) == written


def test_a_page_without_a_place_for_them_is_not_written() -> None:
    with pytest.raises(AssertionError, match="no place"):
        with_runs("# Another page", CHAOS, DELIBERATIONS)
