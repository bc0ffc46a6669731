"""Fires schedules in a process of its own, with a clock that runs through many due times, until a test kills it:
``python -m tests.support.schedules_process URL SCHEMA REGION POINT``. At ``POINT`` it stops for ever: ``before`` or ``after`` its
third commit; at ``none`` it goes on."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import ManualClock
from tests.support.schedules import EVERY_S, START, schedule_keeper

AT_COMMIT = 3


class Stopping:
    """The store, which stops its process before or after one commit."""

    def __init__(self, stores: Stores, point: str) -> None:
        self._stores = stores
        self._point = point
        self._commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores.schedules, name)

    async def change(self, changes: Any) -> None:
        self._commits += 1
        stops = self._commits == AT_COMMIT
        if not (stops and self._point == "before"):
            await self._stores.schedules.change(changes)
        if stops and self._point != "none":
            print("stopped", flush=True)
            await asyncio.get_running_loop().create_future()


async def main(url: str, schema: str, region: str, point: str) -> None:
    stores = await open_stores(url, schema, region, max_connections=2)
    clock = ManualClock(START)
    keeper = schedule_keeper(stores, clock, schedules=Stopping(stores, point))
    while True:
        await clock.advance(EVERY_S)
        await keeper.fire_due()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
