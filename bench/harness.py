"""The harness of the benches: their registry, rows with medians and ratios, the machine, the table and the JSON.

A bench is a function from a ``Stand`` to rows. Peers and ours run in turns within one call, because the speed of the machine
varies: only ratios of one run can be compared.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.stand import Stand

OUT = Path(".bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on the row's median, or on its ratio to the peer: an upper bound if ``at_most``, else a lower one."""

    bound: float
    of: str = "ratio"
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:g}{'x' if self.of == 'ratio' else ''}"

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. ``ratio`` is our median over the peer's; ``note`` says what a reader must know."""

    name: str
    unit: str
    runs: tuple[float, ...]
    peer: str | None = None
    ratio: float | None = None
    goal: Goal | None = None
    note: str = ""
    bench: str = ""
    machine: str = ""
    median: float = field(init=False)

    def __post_init__(self) -> None:
        assert self.runs, "a row has at least one run"
        object.__setattr__(self, "median", statistics.median(self.runs))

    @property
    def failed(self) -> bool:
        return math.isnan(self.median)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        value = self.ratio if self.goal.of == "ratio" else self.median
        return value is not None and self.goal.met(value)

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        row["goal"] = str(self.goal) if self.goal else None
        row["met"] = self.met
        if self.failed:  # JSON has no NaN
            row.update(median=None, runs=[])
        return row


def against(ours: Row, peer: Row, goal: Goal | None = None) -> Row:
    """Our row with its ratio to a peer's row of the same run."""
    return replace(ours, peer=peer.name, ratio=ours.median / peer.median, goal=goal)


Measure = Callable[[Stand], Iterator[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """``name`` is ``group.part``; ``ONLY`` selects groups or parts. ``peers``: whether it needs the peers' packages. ``alone``:
    it takes so long that only its own name selects it, but for quick runs."""

    name: str
    about: str
    measure: Measure
    peers: bool = False
    ray: bool = False
    alone: bool = False


_BENCHES: dict[str, Bench] = {}


def bench(
    name: str, about: str, *, peers: bool = False, ray: bool = False, alone: bool = False
) -> Callable[[Measure], Measure]:
    """Registers a bench; they run in the order in which they are registered."""

    def register(measure: Measure) -> Measure:
        assert name not in _BENCHES, name
        _BENCHES[name] = Bench(name=name, about=about, measure=measure, peers=peers, ray=ray, alone=alone)
        return measure

    return register


def selected(only: Sequence[str], *, quick: bool = False) -> list[Bench]:
    """Benches whose name is, or begins with, one of ``only``; all benches if it is empty. One that is ``alone`` has to be named
    itself, unless the run is ``quick``.

    Raises: `SystemExit` if a pattern fits no bench.
    """
    unknown = [pattern for pattern in only if not any(_covers(pattern, name) for name in _BENCHES)]
    if unknown:
        raise SystemExit(f"There is no bench {', '.join(unknown)}; there are {', '.join(_BENCHES)}.")
    return [
        found
        for name, found in _BENCHES.items()
        if (name in only if found.alone and not quick else not only or any(_covers(pattern, name) for pattern in only))
    ]


def _covers(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.")


def machine() -> str:
    """The machine on which the figures were measured, in one line."""
    model = platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def measure(
    benches: Sequence[Bench],
    stand: Stand,
    console: Console,
    save: Callable[[Sequence[Row]], object] = lambda rows: None,
) -> list[Row]:
    """Runs the benches one after another. A bench that fails is reported, and the others still run.

    ``save`` gets all rows so far after each bench, so that a run that is ended early keeps them.
    """
    rows: list[Row] = []
    where = machine()
    for current in benches:
        started = time.monotonic()
        console.print(f"[bold]{current.name}[/bold]: {current.about}")
        try:
            for row in current.measure(stand):
                rows.append(replace(row, bench=current.name, machine=where))
                console.print(f"  {row.name}: {number(row.median)} {row.unit}{_ratio(row)}", highlight=False)
        except Exception:  # noqa: BLE001 - the other rows are still measured
            console.print_exception(max_frames=8)
            rows.append(Row(name="failed", unit="", runs=(float("nan"),), bench=current.name, machine=where))
        console.print(f"  {time.monotonic() - started:.0f} s", style="dim")
        save(rows)
    return rows


def _ratio(row: Row) -> str:
    text = f" = {row.ratio:.2f}x {row.peer}" if row.ratio is not None else ""
    if row.goal is not None:
        text += f" (goal {row.goal}: {'met' if row.met else 'not met'})"
    return text


def number(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    if math.isnan(value):
        return "failed"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: Sequence[Row]) -> Table:
    shown = Table(title="Medians; ratios are of the same run")
    for title, justify in (("bench", "left"), ("what", "left"), ("median", "right"), ("unit", "left")):
        shown.add_column(title, justify=justify)  # type: ignore[arg-type]
    for title in ("runs", "peer", "ratio", "goal", "met", "note"):
        shown.add_column(title)
    for row in rows:
        met = {None: "", True: "[green]yes[/green]", False: "[red]no[/red]"}[row.met]
        shown.add_row(
            row.bench,
            row.name,
            number(row.median),
            row.unit,
            str(len(row.runs)),
            row.peer or "",
            "" if row.ratio is None else f"{row.ratio:.2f}x",
            "" if row.goal is None else str(row.goal),
            met,
            row.note,
        )
    return shown


def write(rows: Sequence[Row], path: Path) -> list[dict[str, Any]]:
    """Writes the rows into the file, beside its rows of benches that did not run now; returns all of them."""
    ran = {row.bench for row in rows}
    kept = [row for row in (json.loads(path.read_text()) if path.exists() else []) if row["bench"] not in ran]
    order = {name: index for index, name in enumerate(_BENCHES)}
    merged = sorted([*kept, *(row.to_json() for row in rows)], key=lambda row: order.get(row["bench"], len(order)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return merged


BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/performance.md."""
    lines = [f"Measured on {row}." for row in dict.fromkeys(row["machine"] for row in rows)]
    lines += ["", "| what | median | goal | runs |", "|---|---|---|---|"]
    for row in rows:
        if row["median"] is None:
            lines.append(f"| {row['bench']} | failed | | |")
            continue
        median = f"{number(row['median'])} {row['unit']}"
        if row["ratio"] is not None:
            median += f" = {row['ratio']:.2f}x {row['peer']}"
        goal = "" if row["goal"] is None else f"{row['goal']}: {'met' if row['met'] else '**not met**'}"
        what = row["name"] + (f" ({row['note']})" if row["note"] else "")
        lines.append(f"| {what} | {median} | {goal} | {', '.join(number(run) for run in row['runs'])} |")
    return "\n".join(lines)


def write_page(rows: Sequence[Mapping[str, Any]], page: Path) -> None:
    """Writes the table between the page's two marks and keeps the text around them."""
    text = page.read_text()
    head, rest = text.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n\n{markdown(rows)}\n\n{END}{rest.split(END)[1]}")
