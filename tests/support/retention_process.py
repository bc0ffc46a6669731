"""Removes old tasks in a process of its own, until a test kills it: ``python -m tests.support.retention_process URL SCHEMA REGION
POINT``. At ``POINT`` it stops for ever: ``before`` or ``after`` its second commit."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from cluster.postgres.stores import Stores, open_stores
from tests.support.retention import retention_keeper

AT_COMMIT = 2


class Stopping:
    """The store, which stops its process before or after one commit."""

    def __init__(self, stores: Stores, point: str) -> None:
        self._stores = stores
        self._point = point
        self._commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores.retention, name)

    async def remove(self, kind: str, record: Any) -> int:
        self._commits += 1
        stops = self._commits == AT_COMMIT
        removed = 0 if stops and self._point == "before" else await self._stores.retention.remove(kind, record)
        if stops:
            print("stopped", flush=True)
            await asyncio.get_running_loop().create_future()
        return removed


async def main(url: str, schema: str, region: str, point: str) -> None:
    stores = await open_stores(url, schema, region, max_connections=2)
    await retention_keeper(stores, store=Stopping(stores, point), batch=2).look()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
