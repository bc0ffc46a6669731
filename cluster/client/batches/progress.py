"""The progress of a batch: a bar on a terminal, a line now and then in a pipe, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster.client.batches.output import Summary

LINE_EVERY_S = 5.0
#: Statuses of items whose deliberation came to an end of its own; any other counts as failed.
ENDED = frozenset({"decided", "no_consensus", "quorum_lost", "budget_exhausted", "deadline_exceeded", "cancelled"})


class Shown(Protocol):
    def __call__(self, status: str) -> None: ...


class Pace:
    """Counts items, and tells the rate since the start and the time that the rest will take at that rate."""

    def __init__(self, total: int, already: int) -> None:
        self.total, self.done, self.new, self.failed = total, already, 0, 0
        self._started = time.monotonic()

    def add(self, status: str) -> None:
        self.done += 1
        self.new += 1
        self.failed += status not in ENDED

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        return self.new / self.seconds if self.new else 0.0

    def words(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        if not self.rate:
            return f"no estimate yet{failed}"
        return f"{self.rate:.1f}/s, {_time((self.total - self.done) / self.rate)} left{failed}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress(console: Console, pace: Pace) -> Iterator[Shown]:
    if console.is_terminal:
        yield from _bar(console, pace)
    else:
        yield from _lines(console, pace)


def _bar(console: Console, pace: Pace) -> Iterator[Shown]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(pace.words(), total=pace.total, completed=pace.done)

        def shown(status: str) -> None:
            pace.add(status)
            bar.update(task, completed=pace.done, description=pace.words())

        yield shown


def _lines(console: Console, pace: Pace) -> Iterator[Shown]:
    def line() -> None:
        console.print(f"{pace.done} of {pace.total} items, {pace.words()}")
        console.file.flush()

    last = time.monotonic()

    def shown(status: str) -> None:
        nonlocal last
        pace.add(status)
        if time.monotonic() - last >= LINE_EVERY_S and pace.done < pace.total:
            last = time.monotonic()
            line()

    line()
    yield shown
    line()


def summary_table(summary: Summary, pace: Pace) -> Table:
    table = Table("outcome", "items", title="Batch")
    for status, items in sorted(summary.by_status.items(), key=lambda pair: (-pair[1], pair[0])):
        table.add_row(status, str(items))
    table.add_section()
    table.add_row("all", str(summary.items))
    table.add_row("agent calls", str(summary.calls))
    table.add_row("tokens", str(summary.tokens))
    table.add_row("seconds (this run)", f"{pace.seconds:.1f}")
    table.add_row("items per second (this run)", f"{pace.rate:.2f}")
    return table


def summary_json(summary: Summary, pace: Pace) -> Mapping[str, Any]:
    return {
        "items": summary.items,
        "by_status": dict(sorted(summary.by_status.items())),
        "agent_calls": summary.calls,
        "tokens": summary.tokens,
        "new_items": pace.new,
        "seconds": round(pace.seconds, 3),
        "items_per_second": round(pace.rate, 3),
    }
