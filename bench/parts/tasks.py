"""The in-cluster client's two ends: ``python -m bench.parts.tasks client|worker SCHEMA ADDRESS [SLOTS PREFETCH]``.

ADDRESS is the file that a shard without Ray wrote (a client that only submits never opens it), or ``ray`` to join the
running system.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.parts.loop import Countdown, Handlers, in_parallel, run
from bench.parts.task_client import TaskClient
from bench.parts.task_worker import ClusterWorker, Work
from cluster.domain.base.log import Origin
from cluster.postgres.stores import open_stores
from cluster.process.clock import SystemClock
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.channel import Address, Channel
from cluster.rpc.exchange import ExchangeClient, SentCall

REGION = "bench"
ORIGIN = Origin(workspace="bench", principal="user:bench", cause="0123456789abcdef")


async def task_client() -> TaskClient:
    schema, address = sys.argv[2:4]
    if address == "ray":
        from bench.parts import on_ray

        return await on_ray.task_client(ORIGIN)
    stores = await open_stores(os.environ["BENCH_DATABASE_URL"], schema, REGION, max_connections=4)
    clock = SystemClock()
    channel: Channel | None = None

    async def exchange(call: SentCall) -> Any:
        nonlocal channel
        if channel is None:
            channel = await Channel.open(Address.load(Path(address)))
        return await channel.call("exchange", call)

    return TaskClient(
        origin=ORIGIN,
        region=REGION,
        tasks=stores.tasks,
        doorbell=RedisDoorbell(connect(os.environ["BENCH_REDIS_URL"]), schema),
        clock=clock,
        scheduler=ExchangeClient(f"bench:{os.getpid()}", exchange, clock=clock),
    )


async def client() -> Handlers:
    tasks = await task_client()

    async def put(size: int) -> None:
        if size == 1:
            await tasks.submit(tasks.task("noop"))
        else:
            await tasks.submit_many([tasks.task("noop") for _ in range(size)])

    async def submit(total: int, callers: int, each: int) -> dict[str, Any]:
        await in_parallel(callers, total, each, put)
        return {}

    async def steadily(rate: float, seconds: float) -> dict[str, Any]:
        """Submits at a steady rate, however long answers take; each payload has the time at which its task was sent."""
        took: list[float] = []

        async def send() -> None:
            sent = time.time()
            await tasks.submit(tasks.task("noop", {"sent": sent}))
            took.append((time.time() - sent) * 1000)

        start = time.perf_counter()
        running = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            running.append(asyncio.create_task(send()))
        await asyncio.gather(*running)
        return {"p50": statistics.median(took), "p99": statistics.quantiles(took, n=100)[98]}

    return {"submit": submit, "steadily": steadily}


async def worker() -> Handlers:
    tasks = await task_client()
    countdown = Countdown()
    latencies: list[float] = []

    async def handle(work: Work) -> None:
        if work.payload:
            latencies.append((time.time() - work.payload["sent"]) * 1000)
        countdown.done()

    working = ClusterWorker(
        tasks, handle, agent_id=f"bench-{os.getpid()}", slots=int(sys.argv[4]), prefetch=int(sys.argv[5])
    )
    running = asyncio.create_task(working.run())

    async def expect(total: int) -> dict[str, Any]:
        latencies.clear()
        countdown.expect(total)
        finished = asyncio.create_task(countdown.reached())
        await asyncio.wait({finished, running}, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            return {"error": repr(running.exception())}
        await working.settled()
        if not latencies:
            return {}
        return {"p50": statistics.median(latencies), "p99": statistics.quantiles(latencies, n=100)[98]}

    async def close() -> dict[str, Any]:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await tasks.close()
        return {}

    return {"expect": expect, "close": close}


if __name__ == "__main__":
    run(client if sys.argv[1] == "client" else worker)
