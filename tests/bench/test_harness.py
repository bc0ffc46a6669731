"""Rows, ratios and goals; and a tiny run through real stores and processes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench import harness, scheduler
from bench import page as page_benches
from bench.harness import Goal, Row, against
from bench.stand import standing


def test_a_ratio_is_of_the_medians_and_meets_its_goal_or_not() -> None:
    ours = Row(name="ours", unit="tasks/s", runs=(900.0, 1000.0, 5000.0))
    peer = Row(name="peer", unit="tasks/s", runs=(200.0, 250.0, 300.0))
    row = against(ours, peer, Goal(bound=4))
    assert (row.median, row.ratio, row.met) == (1000.0, 4.0, True)
    assert against(ours, peer, Goal(bound=4.1)).met is False
    assert against(ours, peer).met is None


@pytest.mark.parametrize(("median", "met"), [(14.9, True), (15.0, True), (15.1, False)])
def test_a_goal_may_bound_the_median_from_above(median: float, met: bool) -> None:
    row = Row(name="start", unit="s", runs=(median,), goal=Goal(bound=15, of="median", at_most=True))
    assert row.met is met


def test_benches_are_selected_by_group_and_by_name() -> None:
    everything = [bench.name for bench in harness.selected([])]
    assert [bench.name for bench in harness.selected(["scheduler.claim"])] == ["scheduler.claim"]
    assert [bench.name for bench in harness.selected(["scheduler"])] == [
        name for name in everything if name.startswith("scheduler.")
    ]
    with pytest.raises(SystemExit, match=r"no bench scheduler\.clai;"):
        harness.selected(["scheduler.clai"])


def test_a_long_bench_is_selected_by_its_own_name_alone() -> None:
    for only in ([], ["page"]):
        assert "page.memory" not in [bench.name for bench in harness.selected(only)]
    assert [bench.measure for bench in harness.selected(["page.memory"])] == [page_benches.memory]
    assert "page.memory" in [bench.name for bench in harness.selected([], quick=True)]


def test_rows_of_other_benches_stay_in_the_file_and_on_the_page(tmp_path: Path) -> None:
    file, page = tmp_path / "rows.json", tmp_path / "page.md"
    page.write_text(f"before\n{harness.BEGIN}\nold\n{harness.END}\nafter\n")
    goal = Goal(bound=2, of="median", at_most=True)
    harness.write([Row(name="old claim", unit="s", runs=(1.0,), bench="scheduler.claim")], file)
    harness.write([Row(name="a start", unit="s", runs=(3.0,), bench="scheduler.start", goal=goal)], file)
    rows = harness.write([Row(name="new claim", unit="s", runs=(2.0,), bench="scheduler.claim")], file)
    assert [row["name"] for row in rows] == ["new claim", "a start"]
    harness.write_page(rows, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| a start | 3 s | ≤ 2: **not met** | 3 |" in text
    assert "old" not in text


def test_a_bench_that_fails_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    def broken(stand: object) -> object:
        yield Row(name="before", unit="s", runs=(1.0,))
        raise RuntimeError("on purpose")

    console = Console(file=io.StringIO())
    failing = harness.Bench(name="x.broken", about="", measure=broken)  # type: ignore[arg-type]
    rows = harness.measure([failing], None, console)  # type: ignore[arg-type]
    assert [(row.name, row.failed) for row in rows] == [("before", False), ("failed", True)]
    harness.write(rows, tmp_path / "rows.json")
    assert [row["median"] for row in json.loads((tmp_path / "rows.json").read_text())] == [1.0, None]


def test_a_tiny_run_gives_rows_that_can_be_read_again(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    with standing(quick=True, runs=2) as stand:
        rows = harness.measure(harness.selected(["scheduler.claim", "scheduler.start"]), stand, console)
        with scheduler.without_ray(stand, 60) as ours:
            scheduler.in_turns(stand, [ours])
        rate, cpu = ours.rows()
    console.print(harness.table([*rows, rate, cpu]))
    harness.write(rows, tmp_path / "rows.json")
    read = json.loads((tmp_path / "rows.json").read_text())
    assert {"name", "unit", "median", "runs", "peer", "ratio", "machine"} <= read[0].keys()
    assert [row["name"] for row in read] == [row.name for row in rows]
    assert all(row.median > 0 for row in (*rows, rate, cpu))
    assert all(len(row.runs) == 2 for row in rows)


def test_every_bench_can_be_imported() -> None:
    """The stale name of a class in one of them would else be found by whoever runs that bench."""
    names = [f"bench.{path.stem}" for path in Path("bench").glob("*.py") if path.stem not in ("__init__", "__main__")]
    code = f"import importlib\nfor name in {sorted(names)}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
