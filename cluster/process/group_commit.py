"""Group commit without a timer: what arrives while a flush is in flight goes into the next one.

An idle commit queue flushes at once, and the batches of a busy one grow by themselves. So one fsync serves many callers,
and nobody waits for a timer. There is one queue per kind of write and process. The store sorts each batch by id, so
queues never deadlock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from cluster.domain.base.errors import Overloaded, StoreUnavailable, TryLater, Unstorable
from cluster.process import spans
from cluster.process.traces import untraced

T = TypeVar("T")
R = TypeVar("R")


def _store_late() -> TryLater:
    return StoreUnavailable("The store does not answer; try again in a moment.")


class GroupCommit(Generic[T, R]):
    """``flush`` takes a batch and returns one result per item, in order; its error goes to every caller of the batch. If
    the store refuses the data of a batch (`Unstorable`), the groups of its callers are flushed by halves, so that only the
    group that holds the data fails.

    ``max_batch`` bounds a flush (a single larger group is flushed alone), ``max_waiting`` the items that no flush has
    taken yet, ``wait_s`` the wait of each caller, which may span two flushes. ``longest_s``, asked when that time is over, may
    allow more in all; then ``late`` is raised. A caller that is cancelled or waited for too long does not withdraw its item: the
    write may already be on its way, and every item can be repeated.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int = 500,
        max_waiting: int = 20_000,
        wait_s: float | None = None,
        longest_s: Callable[[], float] = lambda: 0.0,
        late: Callable[[], TryLater] = _store_late,
    ) -> None:
        self._flush = flush
        self._wait_s = wait_s
        self._longest_s = longest_s
        self._late = late
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        #: Groups that no flush has taken yet, in order of arrival, each with the future of its caller. `put_many` adds a
        #: group, `_take` takes whole groups only: one caller's items share one transaction.
        self._groups: deque[tuple[Sequence[T], asyncio.Future[Sequence[R]]]] = deque()
        #: How many items are in ``_groups``; never more than ``max_waiting``.
        self._waiting = 0
        #: The only task that flushes, so that flushes never overlap; None while there is nothing to do. `put_many` starts
        #: it, and it ends itself when no group is left.
        self._runner: asyncio.Task[None] | None = None
        #: The ``traceparent`` of the callers that have a span, until their groups are flushed.
        self._headers: dict[asyncio.Future[Sequence[R]], str] = {}

    async def put(self, item: T) -> R:
        """Flushes one item, together with what else waits, and returns its result. Raises: as `put_many`."""
        return (await self.put_many((item,)))[0]

    async def put_many(self, items: Sequence[T]) -> Sequence[R]:
        """Flushes all items at once, hence in one transaction, and returns one result per item.

        Raises: `Overloaded` if too many items wait; ``late`` after ``wait_s``; whatever ``flush`` raised."""
        if not items:
            return ()
        if self._waiting + len(items) > self._max_waiting:
            raise Overloaded("Too many writes are waiting; try again in a moment.")
        future: asyncio.Future[Sequence[R]] = asyncio.get_running_loop().create_future()
        self._groups.append((items, future))
        self._waiting += len(items)
        if spans.tracer is not None and spans.header():
            self._headers[future] = spans.header()
            future.add_done_callback(lambda done: self._headers.pop(done, None))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), context=untraced())
        if self._wait_s is None:
            return await asyncio.shield(future)  # a time-out that never comes costs as much as one that may
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + self._wait_s
        while True:
            try:
                async with asyncio.timeout_at(until):
                    return await asyncio.shield(future)
            except TimeoutError:
                if future.done():  # of the flush itself, or the flush has ended in the same moment
                    return future.result()
                until = began + self._longest_s()
                if until <= loop.time():
                    raise self._late() from None

    async def drain(self) -> None:
        """Returns when nothing waits and no flush is in flight."""
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
        await self._flush_groups(self._take())

    async def _traced_flush(
        self, groups: Sequence[tuple[Sequence[T], asyncio.Future[Sequence[R]]]], batch: Sequence[T]
    ) -> Sequence[R]:
        """Flushes within a span of the first caller that has one. The others get a span of their own that is linked with it: what
        one transaction does for many traces is seen in one of them."""
        tracer, headers = spans.tracer, [self._headers[future] for _, future in groups if future in self._headers]
        if tracer is None or not headers:
            return await self._flush(batch)
        size: dict[str, spans.Value] = {"aragora.batch.size": len(batch)}
        with spans.span("commit", spans.Kind.INTERNAL, size, parent=headers[0]) as shared:
            link = (shared.header,)
            others = [tracer.start("commit", spans.Kind.INTERNAL, size, parent=it, links=link) for it in headers[1:]]
            try:
                return await self._flush(batch)
            finally:
                for other in others:
                    other.end()

    async def _flush_groups(self, groups: Sequence[tuple[Sequence[T], asyncio.Future[Sequence[R]]]]) -> None:
        batch = [item for items, _ in groups for item in items]
        try:
            results = await (self._flush(batch) if not self._headers else self._traced_flush(groups, batch))
            assert len(results) == len(batch), "a flush answers one result per item"
        except BaseException as error:
            if isinstance(error, Unstorable) and len(groups) > 1:
                half = len(groups) // 2
                await self._flush_groups(groups[:half])
                await self._flush_groups(groups[half:])
                return
            for _, future in groups:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # marks it as retrieved: a cancelled caller never reads it
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for items, future in groups:
            if not future.done():
                future.set_result(results[start : start + len(items)])
            start += len(items)
