"""Removes segments in a process of its own, until a test kills it: ``python -m tests.support.log_keeper_process URL SCHEMA REGION
DIRECTORY POINT``. At ``POINT`` it stops for ever: ``before`` or ``after`` its second commit."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from cluster.postgres.stores import Stores, open_stores
from tests.support.log_segments import log_keeper

AT_COMMIT = 2


class Stopping:
    """The store, which stops its process before or after one commit."""

    def __init__(self, stores: Stores, point: str) -> None:
        self._stores = stores
        self._point = point
        self._commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores.log_segments, name)

    async def remove(self, *archived: Any) -> bool:
        self._commits += 1
        stops = self._commits == AT_COMMIT
        removed = False if stops and self._point == "before" else await self._stores.log_segments.remove(*archived)
        if stops:
            print("stopped", flush=True)
            await asyncio.get_running_loop().create_future()
        return removed


async def main(url: str, schema: str, region: str, directory: str, point: str) -> None:
    stores = await open_stores(url, schema, region, max_connections=2)
    await log_keeper(stores, Path(directory), segments=Stopping(stores, point)).look()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
