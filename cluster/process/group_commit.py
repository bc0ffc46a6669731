"""Group commit without a timer: what arrives while a flush is in flight goes into the next one.

An idle commit queue flushes at once, a busy one grows its batches by itself, so durability is paid once for many callers and
nobody waits for a clock. One queue per kind of write and process; the store sorts by id, so they never deadlock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from cluster.domain.base.errors import Overloaded

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """``flush`` takes a batch and answers one result per item, in order; its error goes to every caller of the batch.

    ``max_batch`` bounds a flush (a single larger group is flushed alone), ``max_waiting`` the items not yet flushed:
    above it ``put`` raises Overloaded. A caller that is cancelled does not take its item back: the write may already
    be on its way, and all items can be repeated.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int = 500,
        max_waiting: int = 20_000,
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._groups: deque[tuple[Sequence[T], asyncio.Future[Sequence[R]]]] = deque()
        self._waiting = 0
        self._runner: asyncio.Task[None] | None = None

    async def put(self, item: T) -> R:
        return (await self.put_many((item,)))[0]

    async def put_many(self, items: Sequence[T]) -> Sequence[R]:
        """All items in one flush, hence in one transaction."""
        if not items:
            return ()
        if self._waiting + len(items) > self._max_waiting:
            raise Overloaded("Too many writes are waiting; try again in a moment.")
        future: asyncio.Future[Sequence[R]] = asyncio.get_running_loop().create_future()
        self._groups.append((items, future))
        self._waiting += len(items)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await asyncio.shield(future)

    async def drain(self) -> None:
        """Returns when everything put so far has been flushed."""
        while self._runner is not None:
            await asyncio.shield(self._runner)

    async def _run(self) -> None:
        try:
            while self._groups:
                await self._flush_one()
        finally:
            self._runner = None

    def _take(self) -> list[tuple[Sequence[T], asyncio.Future[Sequence[R]]]]:
        groups = [self._groups.popleft()]
        size = len(groups[0][0])
        while self._groups and size + len(self._groups[0][0]) <= self._max_batch:
            groups.append(self._groups.popleft())
            size += len(groups[-1][0])
        self._waiting -= size
        return groups

    async def _flush_one(self) -> None:
        groups = self._take()
        batch = [item for items, _ in groups for item in items]
        try:
            results = await self._flush(batch)
            assert len(results) == len(batch), "a flush answers one result per item"
        except BaseException as error:
            for _, future in groups:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # a cancelled caller never reads it
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for items, future in groups:
            if not future.done():
                future.set_result(results[start : start + len(items)])
            start += len(items)
