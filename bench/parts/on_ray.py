"""The in-cluster client, in a process that joins the Ray cluster at RAY_ADDRESS."""

from __future__ import annotations

import os
from typing import Any

from actors.composition.resources import load_process_settings, urls
from actors.roles import SCHEDULER, Role
from actors.runtime import join, resolve
from bench.parts.task_client import TaskClient
from cluster.domain.base.log import Origin
from cluster.postgres.stores import open_stores
from cluster.process.clock import SystemClock
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.exchange import ExchangeClient, SentCall


async def task_client(origin: Origin) -> TaskClient:
    settings = load_process_settings()
    join(os.environ["RAY_ADDRESS"])
    database, redis = urls(settings)
    stores = await open_stores(database, settings.database_schema, settings.region, max_connections=4)
    shard = resolve(Role(kind=SCHEDULER), stores.names)

    async def exchange(call: SentCall) -> Any:
        return await shard("exchange", call)

    clock = SystemClock()
    return TaskClient(
        origin=origin,
        region=settings.region,
        tasks=stores.tasks,
        doorbell=RedisDoorbell(connect(redis), settings.redis_prefix),
        clock=clock,
        scheduler=ExchangeClient(f"bench:{os.getpid()}", exchange, clock=clock),
    )
