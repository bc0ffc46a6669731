"""pgqueuer: ``client`` enqueues over a pool, ``worker`` runs its queue manager with 64 slots (or in batches of 50)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.qm import QueueManager
from pgqueuer.queries import Queries

from bench.parts.loop import Countdown, Handlers, in_parallel, run


async def client() -> Handlers:
    pool = await asyncpg.create_pool(os.environ["BENCH_DATABASE_URL"], min_size=2, max_size=10)
    queries = Queries(AsyncpgPoolDriver(pool))

    async def enqueue(size: int) -> None:
        if size == 1:
            await queries.enqueue("noop", b"{}")
        else:
            await queries.enqueue(["noop"] * size, [b"{}"] * size, [0] * size)

    async def submit(total: int, callers: int, each: int) -> dict[str, Any]:
        await in_parallel(callers, total, each, enqueue)
        return {}

    return {"submit": submit}


async def worker() -> Handlers:
    batch = int(sys.argv[2])
    pool = await asyncpg.create_pool(os.environ["BENCH_DATABASE_URL"], min_size=2, max_size=10)
    queries = Queries(AsyncpgPoolDriver(pool))
    with contextlib.suppress(asyncpg.PostgresError):
        await queries.uninstall()  # the tables of an earlier bench of this run
    await queries.install()
    manager = QueueManager(queries)
    countdown = Countdown()

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        countdown.done()

    slots = 64 if batch == 1 else None
    running = asyncio.create_task(manager.run(batch_size=32 if batch == 1 else batch, max_concurrent_tasks=slots))

    async def expect(total: int) -> dict[str, Any]:
        countdown.expect(total)
        finished = asyncio.create_task(countdown.reached())
        await asyncio.wait({finished, running}, return_when=asyncio.FIRST_COMPLETED)
        return finished.result() if finished.done() else {"error": repr(running.exception())}

    return {"expect": expect}


if __name__ == "__main__":
    run(client if sys.argv[1] == "client" else worker)
