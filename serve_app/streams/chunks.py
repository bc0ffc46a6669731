"""Followers of the output of tasks: chunks as they are written, new attempts, and the end.

The doorbell says that chunks were written, not of which task. So one loop of the replica asks the store how far the tasks are
that somebody follows here, all in one query, and wakes the followers of those that have moved; without a doorbell it asks every
``LATE_S``. A message per task was rejected: most tasks have no follower, and each replica would hear of all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.tasks.chunks import Chunk, ChunkCursor, ChunkPage
from cluster.ports.chunks import Chunks, Mark
from cluster.ports.clock import Clock
from cluster.ports.wake_ups import Doorbell, WakeTopic
from serve_app.streams.hub import READ_RETRY_S, StreamHub

#: How late a chunk or an attempt may be if no doorbell tells of it. (The log tells of the end.)
LATE_S = 1.0
#: Between two looks, so that a burst costs one.
APART_S = 0.05
#: Chunks that are read at once for one follower: all that is kept of what it has not taken yet.
PAGE = 100

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputEvent:
    """``cursor`` is where to go on after it."""

    type: str
    cursor: ChunkCursor
    at: float
    data: dict[str, Any]

    def frame(self) -> dict[str, Any]:
        """As it is sent."""
        return {"type": self.type, "timestamp": self.at, "data": self.data | {"after": self.cursor.encode()}}


class ChunkHub:
    """Wakes the followers of tasks (``run``) while there are any."""

    def __init__(self, chunks: Chunks, doorbell: Doorbell, hub: StreamHub, clock: Clock, *, has_peers: bool) -> None:
        self._chunks = chunks
        self._doorbell = doorbell
        self._hub = hub
        self._clock = clock
        self._has_peers = has_peers
        #: By task: its followers' events, and how far it was at the last look.
        self._followers: dict[Key, set[asyncio.Event]] = {}
        self._marks: dict[Key, Mark] = {}
        self._is_needed = asyncio.Event()

    async def run(self) -> None:
        while True:
            await self._is_needed.wait()
            await self._doorbell.wait(LATE_S, (WakeTopic.CHUNKS,))
            try:
                marks = await self._chunks.marks(list(self._followers))
            except StoreUnavailable:
                await self._clock.sleep(READ_RETRY_S)
                continue
            for key, mark in marks.items():
                if self._marks.get(key) != mark:
                    for moved in self._followers.get(key, ()):
                        moved.set()
            self._marks = {key: mark for key, mark in marks.items() if key in self._followers}
            await self._clock.sleep(APART_S)

    @contextlib.contextmanager
    def _following(self, key: Key) -> Iterator[asyncio.Event]:
        moved = asyncio.Event()
        self._followers.setdefault(key, set()).add(moved)
        self._is_needed.set()
        try:
            yield moved
        finally:
            self._followers[key].discard(moved)
            if not self._followers[key]:
                del self._followers[key]
                self._marks.pop(key, None)
            if not self._followers:
                self._is_needed.clear()

    async def output(self, workspace: str, task_id: str, after: ChunkCursor) -> AsyncGenerator[OutputEvent, None]:
        """What a task that exists tells after a cursor, until it has ended. While the store is away the generator waits for it.

        Close the generator (``aclosing``)."""
        seen = _Seen(task_id, after)
        with self._following((workspace, task_id)) as moved, self._hub.end_of(workspace, task_id) as may_have_ended:
            while True:
                moved.clear()
                may_have_ended.clear()
                try:
                    page = await self._chunks.read(workspace, task_id, seen.cursor, PAGE, has_peers=self._has_peers)
                except StoreUnavailable:
                    await self._clock.sleep(READ_RETRY_S)
                    continue
                if page is None:  # retention has removed it, long after its end
                    return
                for event in seen.events(page, self._clock.now()):
                    yield event
                if page.last > seen.cursor:
                    continue
                if page.status.terminal:
                    return
                await _first_of(moved, may_have_ended)


class _Seen:
    """What one follower was told."""

    def __init__(self, task_id: str, cursor: ChunkCursor) -> None:
        self._task_id = task_id
        self.cursor = cursor
        self._told_elsewhere = False

    def events(self, page: ChunkPage, now: float) -> Iterator[OutputEvent]:
        if page.elsewhere and not self._told_elsewhere:
            self._told_elsewhere = True
            yield self._event("task_chunks_elsewhere", now)
        for chunk in page.chunks:
            yield from self._begin(chunk.cursor.attempt, now)
            yield from self._chunk(chunk)
        if page.last <= self.cursor:
            yield from self._begin(page.attempt, now)
            if page.status.terminal:
                yield self._event("task_ended", now, status=page.status.value)

    def _begin(self, attempt: int, now: float) -> Iterator[OutputEvent]:
        if attempt > self.cursor.attempt:
            self.cursor = ChunkCursor(attempt, 0)
            yield self._event("task_attempt", now)

    def _chunk(self, chunk: Chunk) -> Iterator[OutputEvent]:
        expected, found = self.cursor.n + 1, chunk.cursor.n
        if found > expected:
            self.cursor = ChunkCursor(chunk.cursor.attempt, found - 1)
            yield self._event("task_chunks_missing", chunk.at, first=expected, last=found - 1)
        self.cursor = chunk.cursor
        yield self._event("task_chunk", chunk.at, n=found, content=chunk.content)

    def _event(self, kind: str, at: float, **data: Any) -> OutputEvent:
        shown = {"task_id": self._task_id, "attempt": self.cursor.attempt, **data}
        return OutputEvent(type=kind, cursor=self.cursor, at=at, data=shown)


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
