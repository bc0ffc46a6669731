"""The follower of the log: every row once, in order, whatever becomes of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.base.log import LogRow
from cluster.log.follower import LogFollower
from cluster.ports.log import LogFilter, LogPage
from cluster.ports.wake_ups import WakeTopic
from cluster.process.clock import ManualClock
from tests.support.probes import eventually


class Rows:
    """A log of numbered rows that can be away."""

    def __init__(self) -> None:
        self.count = 0
        self.away = False

    async def read(self, after: int, limit: int, only: LogFilter | None = None) -> list[LogRow]:
        if self.away:
            raise StoreUnavailable("away")
        return [_row(seq) for seq in range(after + 1, min(after + limit, self.count) + 1)]

    async def page(self, after: int, limit: int, only: LogFilter | None = None) -> LogPage:
        rows = await self.read(after, limit, only)
        return LogPage(rows=rows, cursor=rows[-1].seq if rows else after)


def _row(seq: int) -> LogRow:
    return LogRow(
        seq=seq, at=0.0, workspace="w", kind="k", entity="e", attempt=None, principal="p", data={}, digest=b""
    )  # fmt: skip


class Bell:
    def __init__(self) -> None:
        self.rung = asyncio.Event()

    async def notify(self, *topics: WakeTopic) -> None:
        self.rung.set()

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = ()) -> bool:
        await self.rung.wait()
        self.rung.clear()
        return True


async def test_a_follower_applies_every_row_once_in_order_over_an_absent_store() -> None:
    rows, bell, clock, applied = Rows(), Bell(), ManualClock(), []

    async def apply(batch: Sequence[LogRow]) -> None:
        applied.extend(row.seq for row in batch)

    follower = LogFollower(rows, bell, clock, after=2, apply=apply, batch=3)  # type: ignore[arg-type]
    running = asyncio.create_task(follower.run())
    reached = asyncio.create_task(follower.reached(20))
    rows.count = 12
    await bell.notify()
    await eventually(lambda: follower.cursor == 12)
    rows.away = True
    rows.count = 20
    await bell.notify()
    await asyncio.sleep(0)
    assert not reached.done()
    rows.away = False

    async def caught_up() -> bool:
        await clock.advance(1.0)
        return reached.done()

    await eventually(caught_up)
    rows.count = 23
    await follower.catch_up_to(23)
    assert applied == list(range(3, 24))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_unhurried_follower_reads_the_first_row_and_batches_the_rest() -> None:
    rows, bell, clock, applied = Rows(), Bell(), ManualClock(), []

    async def apply(batch: Sequence[LogRow]) -> None:
        applied.append([row.seq for row in batch])

    follower = LogFollower(rows, bell, clock, after=0, apply=apply, apart_s=3600.0)  # type: ignore[arg-type]
    rows.count = 1
    running = asyncio.create_task(follower.run())
    await eventually(lambda: applied == [[1]])
    for rows.count in range(2, 6):
        await bell.notify()
        await asyncio.sleep(0)
    assert applied == [[1]]
    await follower.catch_up_to(5)
    assert applied == [[1], [2, 3, 4, 5]], "whoever must know now reads at once"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_error_of_apply_ends_the_follower_without_moving_its_cursor() -> None:
    rows = Rows()
    rows.count = 1

    async def apply(batch: Sequence[LogRow]) -> None:
        raise ValueError("broken")

    follower = LogFollower(rows, Bell(), ManualClock(), after=0, apply=apply)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="broken"):
        await follower.run()
    assert follower.cursor == 0
