"""Events as they are committed: server-sent events and WebSocket frames over the log.

``id`` is the log's ``seq``: whoever reconnects says the last one it saw and misses nothing. While somebody listens, the
hub follows the log and keeps its newest rows in memory; a subscriber that is further behind reads from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.base.log import LogRow
from cluster.log.follower import LogFollower
from cluster.ports.clock import Clock
from cluster.ports.log import Log, LogFilter
from cluster.ports.wake_ups import Doorbell

KEEP_ROWS = 10_000
#: How late an event may be that nobody rings for.
LATE_S = 0.1
APART_S = 0.02
PAGE = 500
READ_RETRY_S = 1.0

#: Log kind → frame type where the wire's name is not the kind with an underscore.
FRAME_TYPES = {
    "task.retried": "task_retrying",
    "deliberation.admitted": "deliberation_admitted",
}


def frame_type(kind: str) -> str:
    return FRAME_TYPES.get(kind) or kind.replace(".", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a subscriber wants to see: all given fields must match."""

    workspace: str
    task_id: str | None = None
    agent_id: str | None = None
    deliberation_id: str | None = None

    def matches(self, row: LogRow) -> bool:
        if row.workspace != self.workspace:
            return False
        if self.task_id is not None and row.entity != self.task_id:
            return False
        if self.deliberation_id is not None and row.entity != self.deliberation_id:
            return False
        return self.agent_id is None or self.agent_id in (row.entity, row.data.get("agent_id"), row.data.get("agent"))

    def filter(self) -> LogFilter:
        """The part of the selection that the store can do by itself."""
        entity = self.task_id or self.deliberation_id
        return LogFilter(workspace=self.workspace, entities=(entity,) if entity else ())


_ID_FIELD = {"task": "task_id", "agent": "agent_id", "deliberation": "request_id"}


def frame(row: LogRow) -> dict[str, Any]:
    """The wire's frame. ``seq`` lets a WebSocket client resume; SSE carries it as the event's id."""
    subject = row.kind.partition(".")[0]
    data = row.whole_data()
    if subject in _ID_FIELD:
        data.setdefault(_ID_FIELD[subject], row.entity)
    if subject == "deliberation":
        data.setdefault("task_id", row.entity)
        data.setdefault("deliberation_event", row.kind)
    if row.attempt is not None:
        data.setdefault("attempt", row.attempt)
    return {"type": frame_type(row.kind), "timestamp": row.at, "seq": row.seq, "data": data}


class StreamHub:
    """``run`` follows the log for those that listen, and not for nobody: to read every row costs about as much as to serve
    the calls that write them."""

    def __init__(self, log: Log, doorbell: Doorbell, clock: Clock) -> None:
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        self._rows: deque[LogRow] = deque(maxlen=KEEP_ROWS)
        self._moved = asyncio.Event()
        self._listeners = 0
        self._is_needed = asyncio.Event()
        self._left = asyncio.Event()
        self._cursor = 0

    async def now(self) -> int:
        """The ``seq`` after which everything is new. StoreUnavailable where nobody listens and the store is away."""
        return self._cursor or await self._log.head()

    async def run(self) -> None:
        while True:
            await self._is_needed.wait()
            following = asyncio.ensure_future(self._follow())
            left = asyncio.ensure_future(self._left.wait())
            try:
                await asyncio.wait({following, left}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()  # its error
            finally:
                left.cancel()
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                self._cursor = 0
                self._rows.clear()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        self._listeners += 1
        self._left.clear()
        self._is_needed.set()
        try:
            yield
        finally:
            self._listeners -= 1
            if self._listeners == 0:
                self._is_needed.clear()
                self._left.set()

    async def _follow(self) -> None:
        while True:
            try:
                head = await self._log.head()
                break
            except StoreUnavailable:
                await asyncio.sleep(READ_RETRY_S)
        self._move(head)
        follower = LogFollower(
            self._log, self._doorbell, self._clock, after=head, apply=self._apply, poll_s=LATE_S, apart_s=APART_S
        )
        await follower.run()

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        self._rows.extend(rows)
        self._move(rows[-1].seq)

    def _move(self, cursor: int) -> None:
        self._cursor = cursor
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def rows(self, after: int, selection: Selection) -> AsyncGenerator[LogRow, None]:
        """Matching rows after ``after``, then those to come, for as long as it is iterated. A store that is away is
        waited for: the subscriber's connection outlives it. Close it when it is left."""
        cursor = after
        with self._listening():
            while True:
                moved = self._moved
                if cursor >= self._cursor:
                    await moved.wait()
                    continue
                try:
                    page, cursor = await self._page(cursor, selection)
                except StoreUnavailable:
                    await asyncio.sleep(READ_RETRY_S)
                    continue
                for row in page:
                    yield row

    async def _page(self, cursor: int, selection: Selection) -> tuple[list[LogRow], int]:
        """(matching rows, cursor after them)."""
        if self._rows and self._rows[0].seq <= cursor + 1:
            start = cursor + 1 - self._rows[0].seq
            recent = [self._rows[i] for i in range(start, min(start + PAGE, len(self._rows)))]
            return [row for row in recent if selection.matches(row)], recent[-1].seq
        upper = self._cursor
        rows = await self._log.read(cursor, PAGE, selection.filter())
        end = rows[-1].seq if len(rows) == PAGE else max(upper, rows[-1].seq if rows else 0)
        return [row for row in rows if selection.matches(row)], end


def sse(row: LogRow) -> bytes:
    content = frame(row)
    return f"id: {row.seq}\nevent: {content['type']}\ndata: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
