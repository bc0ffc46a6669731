"""Tickets of WebSockets in Redis, which ends them by itself and gives each out once (GETDEL)."""

from __future__ import annotations

import math

import redis.asyncio as redis

from cluster.redis.pool import in_time


class RedisTickets:
    """The tickets of one deployment, under its key prefix. ``client`` may repeat a command: a GETDEL whose answer was lost finds
    nothing when it is repeated, so the ticket counts for nobody."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._prefix = f"{prefix}:ticket"

    async def keep(self, name: str, text: str, life_s: float) -> None:
        async with in_time():
            await self._client.set(f"{self._prefix}:{name}", text, px=max(1, math.ceil(life_s * 1000)))

    async def take(self, name: str) -> str | None:
        async with in_time():
            found = await self._client.getdel(f"{self._prefix}:{name}")
        return None if found is None else str(found)
