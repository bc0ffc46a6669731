"""Queues and sends notifications in a process of its own, until a test kills it:
``python -m tests.support.notifications_process URL SCHEMA``."""

from __future__ import annotations

import asyncio
import sys

from cluster.postgres.stores import open_stores
from tests.support.notifications import keeping


async def main(url: str, schema: str) -> None:
    stores = await open_stores(url, schema, "test-region", max_connections=4)
    async with keeping(stores) as keeper:
        while True:
            await keeper.follow()
            await keeper.send_due()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
