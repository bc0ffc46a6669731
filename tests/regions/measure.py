"""Kills the primary's process again and again while clients write, and prints what was lost and how long nobody answered.

``python -m tests.regions.measure --kills 10 --seed 1``: in the fast profile (a lease of 2 s), with one etcd of three members, of
which ``--with-etcd`` kills the primary's as well. RTO: from kill -9 to the next answer to a write, by a client that tries the
regions in turn.

``python -m tests.regions.measure --counts FOLDER``: the issue's counts, that is 50 losses of the primary's region and 15 of each
other fault (`tests.regions.counts`); it takes hours, and goes on where it was broken off. ``--losses 1 --others 0`` is the
shortest run of it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path
from statistics import quantiles

from cluster.process.loops import ended
from tests.regions import counts
from tests.support.region_processes import NAMES, RegionBench, region_bench

WRITERS = 3


async def measure(kills: int, seed: int, *, with_etcd: bool) -> int:
    """Returns the number of acknowledged writes that were lost."""
    chance = random.Random(seed)
    times: list[float] = []
    lost: set[str] = set()
    async with region_bench() as bench:
        writers = [asyncio.create_task(_write_forever(bench)) for _ in range(WRITERS)]
        for number in range(1, kills + 1):
            primary = await bench.primary()
            before = len(bench.acknowledged)
            await asyncio.sleep(chance.uniform(0.0, 2.0))
            times.append(await bench.killed(primary, with_etcd=with_etcd))
            second = await bench.primary([name for name in NAMES if name != primary])
            missing = await bench.lost(second) - lost
            lost |= missing
            written = len(bench.acknowledged) - before
            print(
                f"kill {number}: {primary} -> {second}, RTO {times[-1]:.2f} s, {written} written, {len(missing)} lost",
                flush=True,
            )
            if with_etcd:
                bench.etcd_of(primary).start()
            bench.regions[primary].start()
        await bench.primary()
        await ended(*writers)
        surplus = 0
        for name in NAMES:
            lost |= await bench.lost(name)
            surplus += sum(file["rows"] for file in (await bench.status(name))["surplus"])
        cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
        print(
            f"seed {seed}: {kills} kills, {len(bench.acknowledged)} acknowledged, {len(lost)} lost, {surplus} surplus rows kept"
        )
        print(f"RTO p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, max {max(times):.2f} s")
    return len(lost)


async def _write_forever(bench: RegionBench) -> None:
    while True:
        await bench.write()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--with-etcd", action="store_true")
    parser.add_argument(
        "--counts", type=Path, metavar="FOLDER", help="play the issue's counts; a file for each session"
    )
    parser.add_argument("--losses", type=int, default=50, help="of the primary's whole region, with --counts")
    parser.add_argument("--others", type=int, default=15, help="of each other fault, with --counts")
    parser.add_argument("--only", nargs="*", default=(), help="no other faults than these, with --counts")
    parser.add_argument("--guide-timers", action="store_true", help="a lease of 10 s, with --counts")
    parser.add_argument("--page", type=Path, help="the page that gets the table, with --counts")
    arguments = parser.parse_args()
    if arguments.counts is not None:
        timers = counts.GUIDE_TIMERS if arguments.guide_timers else {}
        often = counts.wanted(arguments.losses, arguments.others, arguments.only)
        raise SystemExit(1 if counts.count(arguments.counts, often, arguments.seed, timers, arguments.page) else 0)
    missing = asyncio.run(measure(arguments.kills, arguments.seed, with_etcd=arguments.with_etcd))
    raise SystemExit(1 if missing else 0)
