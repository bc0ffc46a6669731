"""A scheduler shard in a process of its own, without Ray: ``python -m bench.parts.shard SCHEMA ADDRESS``.

The shard writes the address of its actor channel into the file ADDRESS.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil

from actors.scheduler.shard import SchedulerShard
from bench.parts.loop import Handlers, run
from cluster.postgres.stores import open_stores
from cluster.process.clock import SystemClock
from cluster.process.memory import settle_memory
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.channel import ChannelServer

REGION = "bench"


async def make() -> Handlers:
    schema, address = sys.argv[1], Path(sys.argv[2])
    stores = await open_stores(os.environ["BENCH_DATABASE_URL"], schema, REGION, max_connections=4)
    shard = SchedulerShard(
        shard="scheduler-0",
        owner="bench",
        tasks=stores.tasks,
        controls=stores.controls,
        workspaces=stores.access,
        agents=stores.agents,
        budgets=stores.budgets,
        quotas=stores.quotas,
        log=stores.log,
        region=stores.region,
        doorbell=RedisDoorbell(connect(os.environ["BENCH_REDIS_URL"]), schema),
        clock=SystemClock(),
        lease_ttl_s=30.0,
    )
    await shard.start()
    settle_memory()

    async def call(method: str, *arguments: Any) -> Any:
        return await getattr(shard, method)(*arguments)

    server = ChannelServer(call)
    (await server.start("127.0.0.1")).save(address)

    async def status() -> dict[str, Any]:
        return {**await shard.status(), "rss": psutil.Process().memory_info().rss}

    return {"status": status}


if __name__ == "__main__":
    run(make)
