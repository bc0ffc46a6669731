"""Wakes those who follow the log, by publish and subscribe. A ring that is lost costs a follower one slow poll."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Collection, Sequence

import redis.asyncio as redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from cluster.ports.wake_ups import WakeTopic

_logger = logging.getLogger(__name__)
_RETRY_S = 1.0


class _Waiter:
    """One who waits again and again. A ring between two waits counts."""

    def __init__(self) -> None:
        self.topics: Collection[WakeTopic] = ()
        self.notified = asyncio.Event()
        self.notified.set()  # whatever was rung before the first wait


class RedisDoorbell:
    """``wait`` may have any number of waiters, each a task; one subscription per process serves them all. It hears only
    what one of them waits for, because a message costs each process that gets it about as much as the work it tells of."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._channels = {topic: f"{prefix}:doorbell:{topic.value}" for topic in WakeTopic}
        self._topics = {channel: topic for topic, channel in self._channels.items()}
        self._waiters: weakref.WeakKeyDictionary[asyncio.Task[object], _Waiter] = weakref.WeakKeyDictionary()
        self._heard: set[WakeTopic] = set()
        self._subscription: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._closing = False
        self._notifying = False
        self._pending_topics: set[WakeTopic] = set()

    async def notify(self, *topics: WakeTopic) -> None:
        """Rings that come while one is on its way become one more after it."""
        self._pending_topics.update(topics)
        if self._notifying:
            return
        self._notifying = True
        try:
            while self._pending_topics:
                now, self._pending_topics = self._pending_topics, set()
                await self._publish(sorted(now))
        except (RedisError, OSError, TimeoutError) as error:
            _logger.debug("the doorbell did not ring: %s", error)
        finally:
            self._notifying = False

    async def _publish(self, topics: Sequence[WakeTopic]) -> None:
        if len(topics) == 1:
            await self._client.publish(self._channels[topics[0]], "")
            return
        async with self._client.pipeline(transaction=False) as pipe:
            for topic in topics:
                pipe.publish(self._channels[topic], "")
            await pipe.execute()

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = tuple(WakeTopic)) -> bool:
        """A ring since this waiter's last wait counts, so that none is lost between two waits."""
        task = asyncio.current_task()
        assert task is not None
        waiter = self._waiters.get(task)
        if waiter is None:
            waiter = self._waiters[task] = _Waiter()
        waiter.topics = topics
        new = [topic for topic in topics if topic not in self._heard]
        if new:
            await self._hear(new)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.notified.wait()
        except TimeoutError:
            return False
        waiter.notified.clear()
        return True

    async def _hear(self, new: Sequence[WakeTopic]) -> None:
        self._heard.update(new)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        elif self._subscription is not None:
            try:
                await self._subscription.subscribe(*(self._channels[topic] for topic in new))
            except (RedisError, OSError, TimeoutError) as error:
                _logger.debug("the listener will subscribe when it is back: %s", error)

    async def _listen(self) -> None:
        while not self._closing:
            try:
                await self._subscribed()
            except (RedisError, OSError, TimeoutError) as error:
                _logger.debug("the doorbell is away, followers poll: %s", error)
            await asyncio.sleep(_RETRY_S)

    async def _subscribed(self) -> None:
        async with self._client.pubsub() as subscription:
            if self._heard:
                await subscription.subscribe(*(self._channels[topic] for topic in self._heard))
            self._subscription = subscription
            try:
                while not self._closing:
                    message = await subscription.get_message(timeout=30)
                    # A subscription that has begun counts as a ring: what was rung before it was not heard.
                    if message is not None and message["type"] in ("message", "subscribe"):
                        await self._notified(subscription, self._topics[_text(message["channel"])])
            finally:
                self._subscription = None

    async def _notified(self, subscription: PubSub, topic: WakeTopic) -> None:
        concerned = [one for task, one in list(self._waiters.items()) if topic in one.topics and not task.done()]
        for waiter in concerned:
            waiter.notified.set()
        if not concerned:  # whoever waited for it is gone
            self._heard.discard(topic)
            await subscription.unsubscribe(self._channels[topic])

    async def close(self) -> None:
        self._closing = True
        if self._listener is not None:
            # redis-py may turn a cancellation into a time-out of its own, so once is not always enough.
            while not self._listener.done():
                self._listener.cancel()
                await asyncio.wait({self._listener}, timeout=0.2)
            self._listener = None


def _text(data: bytes | str) -> str:
    return data.decode() if isinstance(data, bytes) else data
