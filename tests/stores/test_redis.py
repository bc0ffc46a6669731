from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from cluster.domain.errors import StoreUnavailable
from cluster.ports import Beat
from cluster.redis.doorbell import RedisDoorbell
from cluster.redis.heartbeats import RedisHeartbeats
from cluster.redis.pool import connect, ping
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name


@pytest.fixture
async def client(store_urls: StoreUrls) -> AsyncIterator[redis.Redis]:
    opened = connect(store_urls.redis)
    yield opened
    await opened.aclose()


def _beat(agent_id: str, at: float, workspace: str = "w") -> Beat:
    return Beat(workspace=workspace, agent_id=agent_id, at=at)


async def test_a_beat_never_moves_back_in_time(client: redis.Redis) -> None:
    beats = RedisHeartbeats(client, fresh_name())
    await beats.beat([_beat("a", 10.0), _beat("b", 20.0), _beat("a", 5.0, workspace="other")])
    await beats.beat([_beat("a", 8.0)])
    assert await beats.last("w", ["a", "b", "unknown"]) == {"a": 10.0, "b": 20.0}
    assert await beats.last("other", ["a"]) == {"a": 5.0}


async def test_the_silent_are_those_before_a_time_and_can_be_forgotten(client: redis.Redis) -> None:
    beats = RedisHeartbeats(client, fresh_name())
    await beats.beat([_beat("a", 10.0), _beat("b", 20.0)])
    assert await beats.silent(20.0) == [("w", "a")]
    await beats.forget([("w", "a")])
    assert await beats.silent(20.0) == []


async def test_the_doorbell_wakes_every_waiter_and_keeps_a_ring_between_waits(client: redis.Redis) -> None:
    bell = RedisDoorbell(client, fresh_name())

    async def waits_twice(ready: asyncio.Event, rung: asyncio.Event) -> list[bool]:
        first = await bell.wait(10.0)
        ready.set()
        await rung.wait()
        return [first, await bell.wait(10.0)]

    ready, rung = asyncio.Event(), asyncio.Event()
    waiter = asyncio.create_task(waits_twice(ready, rung))
    await ready.wait()
    await bell.ring()
    other = RedisDoorbell(client, bell._channel.removesuffix(":doorbell"))
    await other.ring()
    rung.set()
    assert await waiter == [True, True]
    await bell.close()


async def test_a_ring_wakes_those_whom_it_may_concern(client: redis.Redis) -> None:
    """Beginnings on either side match, a ring without kinds concerns everybody, and rings under way are merged."""
    bell = RedisDoorbell(client, fresh_name())
    woken: list[str] = []
    ready: set[str] = set()

    async def waits(name: str, *kinds: str) -> None:
        await bell.wait(10.0, kinds)  # the first wait ends at once
        await bell.wait(10.0, kinds)  # the subscription itself rings
        ready.add(name)
        while await bell.wait(10.0, kinds):
            woken.append(name)

    waiters = [
        asyncio.create_task(waits("shard", "task.submitted", "agent.")),
        asyncio.create_task(waits("worker", "deliberation.")),
        asyncio.create_task(waits("stream")),
    ]
    await eventually(lambda: len(ready) == 3)
    for kinds, heard in (
        (("task.completed", "task.failed"), {"stream"}),
        (("task.submitted",), {"shard", "stream"}),
        (("task.",), {"shard", "stream"}),
        (("agent.registered",), {"shard", "stream"}),
        (("deliberation.",), {"worker", "stream"}),
        ((), {"shard", "worker", "stream"}),
    ):
        woken.clear()
        await bell.ring(*kinds)
        await eventually(lambda heard=heard: set(woken) == heard)
    woken.clear()
    await asyncio.gather(bell.ring("task.completed"), bell.ring("agent.x"), bell.ring("deliberation.x"))
    await eventually(lambda: set(woken) == {"shard", "worker", "stream"})
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await bell.close()


async def test_an_unreachable_store_is_named_and_the_doorbell_stays_silent() -> None:
    away = connect(f"unix://{os.devnull}/nothing.sock")
    with pytest.raises(StoreUnavailable):
        await ping(away)
    bell = RedisDoorbell(away, "p")
    await bell.ring()
    assert await bell.wait(0.01) in (True, False)
    assert await bell.wait(0.01) is False
    await bell.close()
    await away.aclose()
