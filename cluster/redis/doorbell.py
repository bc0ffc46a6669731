"""Wakes those who follow the log, by publish and subscribe. A ring that is lost costs a follower one slow poll."""

from __future__ import annotations

import asyncio
import logging

import redis.asyncio as redis
from redis.exceptions import RedisError

_logger = logging.getLogger(__name__)
_RETRY_S = 1.0


class RedisDoorbell:
    """``wait`` may have any number of waiters; one subscription per process serves them all."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._channel = f"{prefix}:doorbell"
        self._rung = asyncio.Event()
        self._rings = 0
        self._seen: dict[int, int] = {}
        self._listener: asyncio.Task[None] | None = None
        self._closing = False
        self._ringing = False
        self._ring_again = False

    async def ring(self) -> None:
        """Rings that come while one is on its way become one more after it."""
        self._ring_again = True
        if self._ringing:
            return
        self._ringing = True
        try:
            while self._ring_again:
                self._ring_again = False
                await self._client.publish(self._channel, "1")
        except (RedisError, OSError, TimeoutError) as error:
            _logger.debug("the doorbell did not ring: %s", error)
        finally:
            self._ringing = False

    async def wait(self, timeout_s: float) -> bool:
        """A ring since this waiter's last wait counts, so that none is lost between two waits."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        waiter = id(asyncio.current_task())
        if self._seen.get(waiter) == self._rings:
            rung = self._rung
            try:
                async with asyncio.timeout(timeout_s):
                    await rung.wait()
            except TimeoutError:
                return False
        self._seen[waiter] = self._rings
        return True

    def _wake(self) -> None:
        self._rings += 1
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    async def _listen(self) -> None:
        while not self._closing:
            try:
                await self._subscribed()
            except (RedisError, OSError, TimeoutError) as error:
                _logger.debug("the doorbell is away, followers poll: %s", error)
            await asyncio.sleep(_RETRY_S)

    async def _subscribed(self) -> None:
        async with self._client.pubsub() as subscription:
            await subscription.subscribe(self._channel)
            self._wake()  # whatever was rung before the subscription
            while not self._closing:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=30)
                if message is not None:
                    self._wake()

    async def close(self) -> None:
        self._closing = True
        if self._listener is not None:
            # redis-py may turn a cancellation into a time-out of its own, so once is not always enough.
            while not self._listener.done():
                self._listener.cancel()
                await asyncio.wait({self._listener}, timeout=0.2)
            self._listener = None
