"""Wakes the log's followers by publish and subscribe. A notification that is lost costs a follower one slow poll."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Collection, Sequence

import redis.asyncio as redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from cluster.ports.wake_ups import WakeTopic
from cluster.process.traces import untraced

_logger = logging.getLogger(__name__)
_RETRY_S = 1.0


class _Waiter:
    """A task that waits again and again. A notification between two of its waits counts."""

    def __init__(self) -> None:
        self.topics: Collection[WakeTopic] = ()
        self.notified = asyncio.Event()
        self.notified.set()  # there may have been one before the first wait


class RedisDoorbell:
    """Any number of tasks may `wait`; one subscription per process serves them all. It covers only the topics that a task
    waits for, because receiving a message costs a process about as much as the work that the message tells of."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._channels = {topic: f"{prefix}:doorbell:{topic.value}" for topic in WakeTopic}
        self._topics = {channel: topic for topic, channel in self._channels.items()}
        #: Waiting task → what it waits for. `wait` adds a task at its first wait; it vanishes with the task.
        self._waiters: weakref.WeakKeyDictionary[asyncio.Task[object], _Waiter] = weakref.WeakKeyDictionary()
        #: Topics to subscribe to. `wait` adds them; one that no task waits for any more is removed when it is notified.
        self._heard: set[WakeTopic] = set()
        #: The subscription while it is open, and the task that opens it again and again. The first `wait` starts the task.
        self._subscription: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._closing = False
        #: Whether a `notify` is publishing now, and the topics that came meanwhile, which it publishes next.
        self._notifying = False
        self._pending_topics: set[WakeTopic] = set()

    async def notify(self, *topics: WakeTopic) -> None:
        """Publishes the topics. Those that are notified while this is under way are published together afterwards."""
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
        """Waits for one of the topics. A notification since this task's last wait counts, so none is lost in between."""
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
            self._listener = asyncio.create_task(self._listen(), context=untraced())
        elif self._subscription is not None:
            try:
                await self._subscription.subscribe(*(self._channels[topic] for topic in new))
            except (RedisError, OSError, TimeoutError) as error:
                waiting = asyncio.current_task()
                if waiting is not None and waiting.cancelling():
                    raise asyncio.CancelledError from error  # redis-py has made a time-out of it
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
            first = set(self._heard)
            if first:
                await subscription.subscribe(*(self._channels[topic] for topic in first))
            self._subscription = subscription
            try:
                # From now on `_hear` subscribes by itself. Topics that came meanwhile would be heard at the next connection only.
                if late := self._heard - first:
                    await subscription.subscribe(*(self._channels[topic] for topic in late))
                while not self._closing:
                    message = await subscription.get_message(timeout=30)
                    # The begin of a subscription counts as a notification, since those before it were not received.
                    if message is not None and message["type"] in ("message", "subscribe"):
                        await self._notified(subscription, self._topics[_text(message["channel"])])
            finally:
                self._subscription = None

    async def _notified(self, subscription: PubSub, topic: WakeTopic) -> None:
        waiters = list(self._waiters.items())
        concerned = [waiter for task, waiter in waiters if topic in waiter.topics and not task.done()]
        for waiter in concerned:
            waiter.notified.set()
        if not concerned:  # no task waits for it any more
            self._heard.discard(topic)
            await subscription.unsubscribe(self._channels[topic])

    async def close(self) -> None:
        """Ends the subscription."""
        self._closing = True
        if self._listener is not None:
            # redis-py may turn a cancellation into a time-out of its own, so once is not always enough.
            while not self._listener.done():
                self._listener.cancel()
                await asyncio.wait({self._listener}, timeout=0.2)
            self._listener = None


def _text(data: bytes | str) -> str:
    return data.decode() if isinstance(data, bytes) else data
