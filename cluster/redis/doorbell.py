"""Wakes those who follow the log, by publish and subscribe. A ring that is lost costs a follower one slow poll."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

_logger = logging.getLogger(__name__)
_RETRY_S = 1.0
_ANY = "*"


class _Waiter:
    """One who waits again and again. A ring between two waits counts."""

    def __init__(self) -> None:
        self.kinds: Sequence[str] = ()
        self.rung = asyncio.Event()
        self.rung.set()  # whatever was rung before the first wait

    def hear(self, rung: Sequence[str]) -> None:
        if not self.kinds or _ANY in rung or any(map(self._concerned, rung)):
            self.rung.set()

    def _concerned(self, kind: str) -> bool:
        return any(kind.startswith(mine) or mine.startswith(kind) for mine in self.kinds)


class RedisDoorbell:
    """``wait`` may have any number of waiters, each a task; one subscription per process serves them all."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._channel = f"{prefix}:doorbell"
        self._waiters: weakref.WeakKeyDictionary[asyncio.Task[object], _Waiter] = weakref.WeakKeyDictionary()
        self._listener: asyncio.Task[None] | None = None
        self._closing = False
        self._ringing = False
        self._ring_for: set[str] = set()

    async def ring(self, *kinds: str) -> None:
        """Rings that come while one is on its way become one more after it."""
        self._ring_for.update(kinds or (_ANY,))
        if self._ringing:
            return
        self._ringing = True
        try:
            while self._ring_for:
                message = " ".join(sorted(self._ring_for))
                self._ring_for.clear()
                await self._client.publish(self._channel, message)
        except (RedisError, OSError, TimeoutError) as error:
            _logger.debug("the doorbell did not ring: %s", error)
        finally:
            self._ringing = False

    async def wait(self, timeout_s: float, kinds: Sequence[str] = ()) -> bool:
        """A ring since this waiter's last wait counts, so that none is lost between two waits."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        task = asyncio.current_task()
        assert task is not None
        waiter = self._waiters.get(task)
        if waiter is None:
            waiter = self._waiters[task] = _Waiter()
        waiter.kinds = kinds
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.rung.wait()
        except TimeoutError:
            return False
        waiter.rung.clear()
        return True

    def _wake(self, rung: Sequence[str]) -> None:
        for waiter in list(self._waiters.values()):
            waiter.hear(rung)

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
            self._wake((_ANY,))  # whatever was rung before the subscription
            while not self._closing:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=30)
                if message is not None:
                    self._wake(_text(message["data"]).split())

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
