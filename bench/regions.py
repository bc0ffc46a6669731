"""What it costs that nothing leaves a region before the others hold it: three regions on this machine, in both modes in turns."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.harness import Goal, Row, against, bench
from bench.stand import Part, Stand
from tests.support.region_processes import WHOLE, RegionBench, region_bench

CALLERS = 16
#: Submits a second, few enough that none waits for another.
STEADY = 25
LOOK_S = 0.1
INTERVAL_S = 5.0
#: The guide's, which are the defaults.
TIMERS = {
    "ARAGORA_LEADER_ELECTION_TIMEOUT": "10",
    "ARAGORA_STALE_LEADER_THRESHOLD": "60",
    "ARAGORA_SYNC_INTERVAL": f"{INTERVAL_S:g}",
    "ARAGORA_REGION_HEARTBEAT": "1",
}


@dataclass(slots=True)
class _Mode:
    """What was measured in one mode. ``rates``: tasks/s, each submitted, claimed and completed by a call; ``submits``: medians in
    ms; ``lags``: the longest of a follower in each run, in seconds."""

    name: str
    rates: list[float] = field(default_factory=list)
    submits: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    @property
    def row(self) -> Row:
        return Row(name=f"API of the primary, {self.name}", unit="tasks/s", runs=tuple(self.rates))


async def _lag(regions: RegionBench, primary: str, working: asyncio.Future[dict[str, Any]]) -> float:
    """The longest time, in seconds, that a follower was behind while the primary worked: its rows by the rate of the log."""
    began, first = time.monotonic(), int((await regions.status(primary))["head"])
    most, last = 0, first
    while not working.done():
        status = await regions.status(primary)
        most = max(most, *(lag["rows"] for lag in status["lag"].values()))
        last = int(status["head"])
        await asyncio.wait({working}, timeout=LOOK_S)
    return most * (time.monotonic() - began) / max(1, last - first)


async def _run(regions: RegionBench, primary: str, client: Part, mode: _Mode, tasks: int, seconds: float) -> None:
    await regions.regions[primary].ask("set_mode", mode=mode.name)
    if mode.name == "sync":
        await regions.primary()  # the others are in the set again
    work = asyncio.to_thread(client.ask, op="batches", total=tasks, callers=CALLERS, each=1, agent_id="bench")
    working = asyncio.ensure_future(work)
    mode.lags.append(await _lag(regions, primary, working))
    mode.rates.append(tasks / (await working)["seconds"])
    steady = await asyncio.to_thread(client.ask, op="submit", rate=STEADY, seconds=seconds, capability="none")
    mode.submits.append(steady["submit_p50"])


async def _measured(stand: Stand) -> tuple[_Mode, _Mode]:
    sync, asynchronous = _Mode("sync"), _Mode("async")
    tasks, seconds = stand.size(2_000, 30), stand.size(8, 1)
    async with region_bench(WHOLE, proxied=False, **TIMERS) as regions:
        primary = await regions.primary()
        url = regions.regions[primary].url.removesuffix("/api/control-plane")
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(stand.part("bench.parts.http", url, "regions"))
            await asyncio.to_thread(client.ask, op="until_serving", path="/api/control-plane/tasks?limit=1")
            for _ in range(stand.runs):
                for mode in (sync, asynchronous):
                    await _run(regions, primary, client, mode, tasks, seconds)
    return sync, asynchronous


@bench("regions.modes", "sync beside async; one task per call, 16 callers, three regions on this machine without Ray")
def modes(stand: Stand) -> Iterator[Row]:
    sync, asynchronous = asyncio.run(_measured(stand))
    yield against(sync.row, asynchronous.row, Goal(bound=0.7))
    yield asynchronous.row
    waits = tuple(ours - theirs for ours, theirs in zip(sync.submits, asynchronous.submits, strict=True))
    yield Row(
        name="what a submit waits for the other regions, p50",
        unit="ms",
        runs=waits,
        goal=Goal(bound=5.0, of="median", at_most=True),
        note=f"the round trip is a loopback's; {median(asynchronous.submits):.1f} ms without",
    )
    yield Row(
        name="how long the slowest follower is behind, async",
        unit="s",
        runs=tuple(asynchronous.lags),
        goal=Goal(bound=INTERVAL_S, of="median", at_most=True),
        note=f"the sync interval is {INTERVAL_S:g} s",
    )
