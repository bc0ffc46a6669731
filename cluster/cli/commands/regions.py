"""``aragora-cp regions demo``: three regions on one machine, of which one is lost, and what that has cost."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cluster.cli.connection import settings
from cluster.cli.exit_codes import REFUSED, USAGE
from cluster.cli.output import console, errors, plain
from cluster.client.acknowledged import Judgement, judge
from cluster.client.region_calls import RegionCalls
from cluster.domain.base.errors import TryLater
from cluster.embedded.etcd import etcd_binary
from cluster.embedded.layout import EmbeddedError

if TYPE_CHECKING:  # the other commands load no driver of a store
    from cluster.cli.region_group import Region, RegionGroup

app = typer.Typer(no_args_is_help=True, help="Several regions on one machine, to try them out.")

T = TypeVar("T")
#: How long one step may take.
STEP_S = 120.0
#: How much longer for each task.
TASK_S = 1.0
LOOK_S = 0.1
WRITERS = 3
NO_ETCD = "etcd is not on this machine, and regions elect their primary in it; install it (Debian: apt-get install etcd-server)."


@app.callback()
def regions() -> None:
    """Several regions on one machine, to try them out."""


@app.command()
def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="An empty folder for the regions, which is kept. Default: a temporary one."),
    ] = None,
    tasks: Annotated[int, typer.Option(min=1, max=10_000, help="Tasks that are acknowledged before the kill.")] = 100,
    hold: Annotated[
        bool,
        typer.Option(
            "--hold",
            help="Then start the lost region again, print a JSON line for each region, and leave all running until Ctrl-C.",
        ),
    ] = False,
) -> None:
    """Start three regions, submit tasks, kill the primary, and show that nothing acknowledged is lost. Exits 1 if something is.

    \f
    Raises: `Exit` if etcd is not installed, or something that was acknowledged is missing or there twice; `EmbeddedError` if a
    step does not end in time.
    """
    binary = etcd_binary()
    if binary is None:
        errors.print(f"[red]error:[/] {NO_ETCD}")
        raise typer.Exit(USAGE)
    from cluster.cli.region_group import RegionGroup

    most_log_bytes = settings().log_max_bytes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _folder(data_dir) as folder:
        console.print(f"Folder: {plain(str(folder))}  (if this command is killed: aragora-cp down --data-dir {folder})")
        sys.stdout.flush()
        group = RegionGroup(folder, most_log_bytes)
        try:
            group.begin(binary)
            found = asyncio.run(_run(group, tasks, again=hold))
            if hold:
                console.print("All regions run. Ctrl-C ends them.")
                sys.stdout.flush()
                with suppress(KeyboardInterrupt):
                    threading.Event().wait()
        finally:
            group.stop()
        console.print("Stopped.")
        if not found.holds:
            raise typer.Exit(REFUSED)


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """The folder of the regions. A temporary one is deleted at the end, unless somebody has to look at it."""
    if given is not None:
        yield given.expanduser().resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="aragora-regions-"))
    try:
        yield folder
    except Exception:
        errors.print(f"Logs and data are kept in {plain(str(folder))}.")
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Steps:
    """Prints each step with its seconds, and the seconds since the beginning."""

    began: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)

    def done(self, what: str) -> None:
        """The step has ended now."""
        now = time.monotonic()
        console.print(f"{plain(what)}: {now - self.last:.1f} s (at {now - self.began:.1f} s)")
        sys.stdout.flush()
        self.last = now


@dataclass
class Submits:
    """What clients were answered, by key. ``killed_at``: when the primary was gone, ``first_at``: when the first call was
    answered that began later, both by the machine's steady clock."""

    calls: RegionCalls
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    killed_at: float = math.inf
    first_at: float | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def submit(self, key: str) -> None:
        """One task under its key, as often as it takes."""
        began = time.monotonic()
        task_id = await self.calls.submit(key, {"task_type": "regions-demo", "payload": {"key": key}})
        self.acknowledged.setdefault(key, set()).add(task_id)
        # An earlier call may have an answer of the lost region, which was on its way.
        if self.first_at is None and began > self.killed_at:
            self.first_at = time.monotonic()

    async def write_until(self, enough: Callable[[], bool]) -> None:
        """One new task after the other."""
        while not enough():
            await self.submit(f"demo-{next(self._numbers)}")

    async def repeat_all(self) -> None:
        """Each submit once more: its answer has to be the first one's."""
        for key in list(self.acknowledged):
            await self.submit(key)


async def _run(group: RegionGroup, count: int, *, again: bool) -> Judgement:
    """All steps. ``again``: starts the lost region again, and says how to reach each."""
    steps = Steps()
    await _until(group, "an answer of each region's leader", lambda: _all_answer(group.regions))
    steps.done("processes ready, the leader of each region answers")
    first = await _until(group, "the zone's founding", lambda: _primary(group.regions))
    steps.done(f"zone founded, primary {first.name}")
    await _until(group, "a whole in-sync set", lambda: _in_sync(first, group.regions))
    steps.done(f"in-sync set whole: {', '.join(region.name for region in group.regions)}")
    submits = Submits(RegionCalls([region.url for region in group.regions]))
    try:
        found = await _lose(group, first, submits, count, steps)
    finally:
        await submits.calls.close()
    if again:
        group.start(first)
        primary = await _until(group, "a primary", lambda: _primary(group.regions))
        await _until(group, "a whole in-sync set", lambda: _in_sync(primary, group.regions))
        steps.done(f"{first.name} started again, in-sync set whole")
        for region in group.regions:
            role = (await region.status())["role"]
            line = {"region": region.name, "role": role, "url": region.url, "pids": region.pids()}
            typer.echo(json.dumps(line))
    return found


async def _lose(group: RegionGroup, first: Region, submits: Submits, count: int, steps: Steps) -> Judgement:
    """Submits, kills the primary while clients write on, and compares what they were told with what the next primary has."""
    enough = _write(submits, lambda: len(submits.acknowledged) >= count)
    await _within(group, f"{count} tasks", enough, STEP_S + count * TASK_S)
    steps.done(f"{len(submits.acknowledged)} tasks acknowledged")
    stop = asyncio.Event()
    writing = asyncio.create_task(_write(submits, stop.is_set))
    try:
        before = len(submits.acknowledged)
        await _until(group, "more tasks", lambda: _when(len(submits.acknowledged) >= before + WRITERS))
        began, killed = time.monotonic(), first.pids()
        await asyncio.to_thread(first.kill)
        submits.killed_at = time.monotonic()
        steps.done(f"{first.name} killed while clients write: {', '.join(killed)}")
        left = [region for region in group.regions if region is not first]
        second = await _until(group, "the election", lambda: _primary(left), first)
        steps.done(f"new primary elected: {second.name}")
        first_at = await _until(group, "a write", lambda: _first_answer(submits, writing), first)
        steps.done("first acknowledged write")
        stop.set()
        await _within(group, "open submits", writing)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    await _within(group, "repeats", submits.repeat_all(), STEP_S + count * TASK_S)
    steps.done(f"{len(submits.acknowledged)} submits repeated under their keys")
    rows = await _within(group, "the list of tasks", submits.calls.tasks(second.url))
    found = judge(submits.acknowledged, [(row["id"], row["payload"]["key"]) for row in rows])
    steps.done(f"all tasks read at {second.name}")
    _report(found, first_at - began)
    return found


async def _write(submits: Submits, enough: Callable[[], bool]) -> None:
    await asyncio.gather(*(submits.write_until(enough) for _ in range(WRITERS)))


def _report(found: Judgement, rto_s: float) -> None:
    console.print(
        f"Acknowledged: {found.acknowledged}. There: {found.there}, {len(found.unacknowledged)} of which nobody was told. "
        f"Missing: {len(found.missing)}. Doubled: {len(found.doubled)}. RTO: {rto_s:.1f} s."
    )
    for task_id in found.missing:
        console.print(f"missing: {plain(task_id)}")
    for key, ids in found.doubled.items():
        console.print(f"doubled: {plain(key)}: {plain(', '.join(ids))}")
    sys.stdout.flush()


async def _until(
    group: RegionGroup, what: str, look: Callable[[], Awaitable[T | None]], lost: Region | None = None
) -> T:
    """What ``look`` finds. ``lost``: the region that is meant to be gone.

    Raises: `EmbeddedError` if it finds nothing in time, or another region ends."""
    deadline = time.monotonic() + STEP_S
    while time.monotonic() < deadline:
        for region in group.regions:
            if region is not lost:
                region.check()
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(LOOK_S)
    raise _too_late(group, what, STEP_S)


async def _within(group: RegionGroup, what: str, work: Awaitable[T], most_s: float = STEP_S) -> T:
    """The result of work. Raises: `EmbeddedError` if it takes too long."""
    try:
        async with asyncio.timeout(most_s):
            return await work
    except TimeoutError:
        raise _too_late(group, what, most_s) from None


def _too_late(group: RegionGroup, what: str, most_s: float) -> EmbeddedError:
    logs = ", ".join(str(region.layout.logs) for region in group.regions)
    return EmbeddedError(f"Clients of the regions waited {most_s:g} s for {what}; see their logs: {logs}.")


async def _first_answer(submits: Submits, writing: asyncio.Task[None]) -> float | None:
    """When the next primary has answered its first write. Raises: `ApiError` if it refused one."""
    if writing.done():
        writing.result()
    return submits.first_at


async def _when(value: T | None) -> T | None:
    """The value, unless it is None or False."""
    return None if value is None or value is False else value


async def _all_answer(regions: Sequence[Region]) -> bool | None:
    found = [await _status(region) for region in regions]
    return None if None in found else True


async def _primary(regions: Sequence[Region]) -> Region | None:
    for region in regions:
        found = await _status(region)
        if found is not None and found["phase"] == "primary":
            return region
    return None


async def _in_sync(primary: Region, regions: Sequence[Region]) -> bool | None:
    found = await _status(primary)
    names = {region.name for region in regions}
    return True if found is not None and names <= set(found.get("in_sync", ())) else None


async def _status(region: Region) -> dict[str, Any] | None:
    """What the leader says; None if it does not answer."""
    try:
        return await region.status()
    except TryLater:
        return None
