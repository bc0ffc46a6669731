"""The doorbell on Redis."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis
from redis.asyncio.client import PubSub

from cluster.domain.base.errors import StoreUnavailable
from cluster.ports.wake_ups import WakeTopic
from cluster.redis.pool import connect, ping
from cluster.redis.wake_ups import RedisDoorbell
from tests.support.probes import eventually
from tests.support.stores import StoreUrls, fresh_name


@pytest.fixture
async def client(store_urls: StoreUrls) -> AsyncIterator[redis.Redis]:
    opened = connect(store_urls.redis)
    yield opened
    await opened.aclose()


async def test_the_doorbell_wakes_every_waiter_and_keeps_notifications_between_waits(client: redis.Redis) -> None:
    name = fresh_name()
    bell = RedisDoorbell(client, name)

    async def waits_twice(ready: asyncio.Event, rung: asyncio.Event) -> list[bool]:
        first = await bell.wait(10.0)
        ready.set()
        await rung.wait()
        return [first, await bell.wait(10.0)]

    ready, rung = asyncio.Event(), asyncio.Event()
    waiter = asyncio.create_task(waits_twice(ready, rung))
    await ready.wait()
    await bell.notify(WakeTopic.TASKS)
    await RedisDoorbell(client, name).notify(WakeTopic.AGENTS)
    rung.set()
    assert await waiter == [True, True]
    await bell.close()


async def test_a_notification_wakes_waiters_of_its_topic_only(client: redis.Redis) -> None:
    """Rings under way are merged."""
    bell = RedisDoorbell(client, fresh_name())
    woken: list[str] = []
    told: list[WakeTopic] = []
    tell = bell._notified

    async def noted(subscription: PubSub, topic: WakeTopic) -> None:
        await tell(subscription, topic)
        told.append(topic)

    bell._notified = noted  # type: ignore[method-assign]
    topics = {
        "shard": (WakeTopic.TASKS, WakeTopic.AGENTS),
        "worker": (WakeTopic.DELIBERATIONS,),
        "stream": tuple(WakeTopic),
    }

    async def waits(name: str) -> None:
        while await bell.wait(3600.0, topics[name]):
            woken.append(name)

    def all_wait() -> bool:
        """The first waits ended at once, and each subscription has rung."""
        return sorted(told) == sorted(WakeTopic) and not any(
            waiter.notified.is_set() for waiter in bell._waiters.values()
        )

    waiters = [asyncio.create_task(waits(name)) for name in topics]
    await eventually(all_wait)
    for rung, heard in (
        ((WakeTopic.PULL_CALLS,), {"stream"}),
        ((WakeTopic.TASKS,), {"shard", "stream"}),
        ((WakeTopic.AGENTS, WakeTopic.DELIBERATIONS), {"shard", "worker", "stream"}),
        ((), set()),
    ):
        woken.clear()
        await bell.notify(*rung)
        await eventually(lambda heard=heard: set(woken) == heard)
    await asyncio.gather(
        bell.notify(WakeTopic.PULL_CALLS), bell.notify(WakeTopic.AGENTS), bell.notify(WakeTopic.DELIBERATIONS)
    )
    await eventually(lambda: set(woken) == {"shard", "worker", "stream"})
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    await bell.close()


async def test_a_process_subscribes_only_to_topics_that_it_waits_for(client: redis.Redis) -> None:
    name = fresh_name()
    bell = RedisDoorbell(client, name)

    async def heard() -> set[str]:
        channels = await client.pubsub_channels(f"{name}:*")
        return {
            str(channel.decode() if isinstance(channel, bytes) else channel).rpartition(":")[2] for channel in channels
        }

    async def waits(*topics: WakeTopic) -> None:
        while True:
            await bell.wait(10.0, topics)

    first, second = (
        asyncio.create_task(waits(WakeTopic.AGENTS)),
        asyncio.create_task(waits(WakeTopic.TASKS, WakeTopic.AGENTS)),
    )

    async def hears(*topics: WakeTopic) -> bool:
        await bell.notify(WakeTopic.TASKS)
        return await heard() == set(topics)

    await eventually(lambda: hears(WakeTopic.AGENTS, WakeTopic.TASKS))
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await eventually(lambda: hears(WakeTopic.AGENTS))
    third = asyncio.create_task(waits(WakeTopic.TASKS))
    await eventually(lambda: hears(WakeTopic.AGENTS, WakeTopic.TASKS))
    for waiter in (first, third):
        waiter.cancel()
    await asyncio.gather(first, third, return_exceptions=True)
    await bell.close()


async def test_an_unreachable_store_is_named_and_the_doorbell_stays_silent() -> None:
    away = connect(f"unix://{os.devnull}/nothing.sock")
    with pytest.raises(StoreUnavailable):
        await ping(away)
    bell = RedisDoorbell(away, "p")
    await bell.notify(*WakeTopic)
    assert await bell.wait(0.01) in (True, False)
    assert await bell.wait(0.01) is False
    await bell.close()
    await away.aclose()


async def test_a_wait_that_begins_while_another_subscribes_is_heard(client: redis.Redis) -> None:
    """At one of the moments between the first wait and the end of its subscription, one for each bell."""
    names = [fresh_name() for _ in range(12)]
    bells = [RedisDoorbell(client, name) for name in names]
    waits = [asyncio.create_task(_waits_on(bell, WakeTopic.TASKS)) for bell in bells]
    channels = [f"{name}:doorbell:{topic.value}" for name in names for topic in (WakeTopic.TASKS, WakeTopic.ACCESS)]

    async def all_are_subscribed() -> bool:
        return all(count == 1 for _, count in await client.pubsub_numsub(*channels))

    try:
        for bell in bells:
            await asyncio.sleep(0)
            waits.append(asyncio.create_task(_waits_on(bell, WakeTopic.ACCESS)))
        await eventually(all_are_subscribed, what="each topic has its subscription")
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        for bell in bells:
            await bell.close()


async def _waits_on(bell: RedisDoorbell, topic: WakeTopic) -> None:
    while True:
        await bell.wait(3600.0, (topic,))
