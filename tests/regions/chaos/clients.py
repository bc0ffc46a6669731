"""Clients of three regions: some write under keys, some follow the log. They try the regions in turn."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from cluster.domain.base.errors import ControlPlaneError
from cluster.process.loops import ended
from tests.regions.chaos.history import Acknowledged, History, Read
from tests.support.region_processes import NAMES, RegionBench

#: Longer than any answer of a region that lives: a member that is late leaves the in-sync set within a second.
ANSWER_S = 2.5
PAUSE_S = 0.05
#: So many reads at one region, then at the next.
READS = 20


class ChaosClients:
    def __init__(self, bench: RegionBench, history: History) -> None:
        self._bench = bench
        self._history = history

    @asynccontextmanager
    async def running(self, writers: int = 3, readers: int = 2) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write(f"w{number}", _turns(number))) for number in range(writers)]
        tasks += [asyncio.create_task(self._read(_turns(number))) for number in range(readers)]
        try:
            yield
        finally:
            failed = [task for task in tasks if task.done()]
            await ended(*tasks)
            for task in failed:
                task.result()

    def acknowledged_since(self, moment: float, besides: str | None = None) -> bool:
        """Whether a write has been answered that was sent after a moment, by another region than ``besides``."""
        last = itertools.islice(reversed(self._history.acknowledged), 20)
        return any(write.sent > moment and write.region != besides for write in last)

    async def stubborn(self, region: str) -> None:
        """A write by a process that asks nobody whether it may: only its region's database may refuse it."""
        key = f"stubborn-{region}-{time.time():.3f}"
        await self._try(region, key, key, stubborn=True)

    async def _try(self, region: str, key: str, task_id: str, *, stubborn: bool = False) -> bool:
        sent = time.time()
        try:
            found = await self._bench.regions[region].work(
                "submit", ANSWER_S, ids=[task_id], key=key, stubborn=stubborn
            )
        except ControlPlaneError as error:
            self._history.refused[error.code] = self._history.refused.get(error.code, 0) + 1
            return False
        (answered_id,) = found["ids"]
        write = Acknowledged(
            key=key, task_id=answered_id, region=region, epoch=found["epoch"], sent=sent, answered=time.time()
        )
        self._history.acknowledged.append(write)
        return True

    async def _write(self, name: str, regions: Iterator[str]) -> None:
        """Each key until it is answered. A key that was answered is repeated now and then: its answer is the first one's."""
        region = next(regions)
        for number in itertools.count():
            again = number % 5 == 0 and number > 0
            key = f"{name}-{number - 1 if again else number}"
            for attempt in itertools.count():
                if await self._try(region, key, f"{name}-{number}.{attempt}"):
                    break
                region = next(regions)
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(PAUSE_S)

    async def _read(self, regions: Iterator[str]) -> None:
        after = 0
        for region in regions:
            for _ in range(READS):
                try:
                    rows = await self._bench.regions[region].work("follow", ANSWER_S + 1, after=after)
                except ControlPlaneError:
                    break
                if rows:
                    read = Read(region=region, after=after, at=time.time(), rows=tuple((*row,) for row in rows))
                    self._history.reads.append(read)
                    after = rows[-1][0]
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(PAUSE_S)


def _turns(first: int) -> Iterator[str]:
    return itertools.islice(itertools.cycle(NAMES), first, None)
