"""Limits of callers' rates that all replicas share: one script, which Redis runs as a whole, with Redis's own time.

A key lives as long as its caller has used up a part of its burst. The replicas that have asked lately are a sorted set, so that
each knows its share for the time when Redis is away.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import redis.asyncio as redis

from cluster.domain.access.rate_limits import Grant, Rate
from cluster.redis.pool import in_time

#: A replica that has not asked for so long shares no limit.
SHARES_S: Final = 60

#: ``take`` of ``cluster.domain.access.rate_limits``; a conformance test compares the two.
TAKE: Final = """
local function take(used_up_to, now, interval, burst, calls, least)
  local begins = math.min(math.max(used_up_to, now), now + burst * interval)
  local room = math.floor(burst - (begins - now) / interval + 1e-6)
  local granted = math.min(calls, room)
  if granted < least then granted = 0 end
  local ends = begins + granted * interval
  return ends, granted, math.max(0, ends + least * interval - now - burst * interval)
end
"""

_SCRIPT: Final = (
    TAKE
    + """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local ends, granted, after = take(
  tonumber(redis.call('GET', KEYS[1]) or now), now, tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]),
  tonumber(ARGV[6]))
if granted > 0 then
  redis.call('SET', KEYS[1], string.format('%.6f', ends), 'PX', math.ceil((ends - now) * 1000))
end
redis.call('ZADD', KEYS[2], now, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[5]))
redis.call('EXPIRE', KEYS[2], ARGV[5])
return {granted, string.format('%.6f', after), redis.call('ZCARD', KEYS[2])}
"""
)


class RedisRateLimits:
    """The limits of one deployment, under its key prefix. ``client`` repeats nothing by itself: a script that was run twice would
    count calls twice; ``close`` closes it. ``replica`` names this process. ``at_once``: questions that may be under way, since a
    client without a free connection fails instead of waiting for one."""

    def __init__(self, client: redis.Redis, prefix: str, replica: str, at_once: int) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(at_once)
        self._script = client.register_script(_SCRIPT)
        self._prefix = f"{prefix}:rate"
        self._replica = replica

    async def take(self, caller: str, rate: Rate, calls: int, least: int = 1) -> Grant:
        # Callers are names of people too, and of any length.
        key = hashlib.sha256(caller.encode()).hexdigest()[:32]
        async with self._turns, in_time():
            granted, after, sharers = await self._script(
                keys=[f"{self._prefix}:{key}", f"{self._prefix}:replicas"],
                args=[repr(rate.interval_s), rate.burst, calls, self._replica, SHARES_S, least],
            )
        return Grant(int(granted), float(after), int(sharers))

    async def close(self) -> None:
        await self._client.aclose()
