"""A sealer in a process of its own, which a test kills: ``python -m tests.support.sealer_process URL SCHEMA REGION``."""

from __future__ import annotations

import asyncio
import sys

from cluster.postgres.stores import open_stores
from tests.actors.test_sealer import sealer


async def main(url: str, schema: str, region: str) -> None:
    stores = await open_stores(url, schema, region, max_connections=2)
    actor = sealer(stores, batch=3)
    while True:
        await actor.seal_once()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
