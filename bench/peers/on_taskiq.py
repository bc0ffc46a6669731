"""taskiq on Redis streams: ``client`` kicks, ``worker`` runs its receiver with 64 slots and prefetch."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from bench.parts.loop import Countdown, Handlers, in_parallel, run

broker = RedisStreamBroker(os.environ["BENCH_REDIS_URL"], queue_name=sys.argv[3], max_connection_pool_size=64)
countdown = Countdown()


@broker.task(task_name="noop")
async def noop() -> None:
    countdown.done()


async def client() -> Handlers:
    await broker.startup()

    async def kick(size: int) -> None:
        await noop.kiq()

    async def submit(total: int, callers: int, each: int) -> dict[str, Any]:
        await in_parallel(callers, total, each, kick)
        return {}

    return {"submit": submit}


async def worker() -> Handlers:
    await broker.startup()
    running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=64, max_prefetch=64))

    async def expect(total: int) -> dict[str, Any]:
        countdown.expect(total)
        finished = asyncio.create_task(countdown.reached())
        await asyncio.wait({finished, running}, return_when=asyncio.FIRST_COMPLETED)
        return finished.result() if finished.done() else {"error": "the receiver has ended"}

    return {"expect": expect}


if __name__ == "__main__":
    run(client if sys.argv[1] == "client" else worker)
