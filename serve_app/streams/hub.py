"""The stream hub: the log as server-sent events and WebSocket frames.

An event's ``id`` is its row's ``seq``: a client that reconnects sends the last id it saw and misses nothing. While there
are subscribers, the hub follows the log and keeps its newest rows in memory. A subscriber that is further behind reads
from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.domain.audit.erasure import erases, is_erasure
from cluster.domain.base.errors import CursorLost, StoreUnavailable
from cluster.domain.base.log import LogRow
from cluster.domain.tasks.tally import ENDS
from cluster.log.follower import LogFollower
from cluster.ports.clock import Clock
from cluster.ports.log import Log, LogFilter
from cluster.ports.wake_ups import Doorbell
from cluster.process.loops import ended
from serve_app.auth.words import data_of

#: What tells whoever waits for it that a run of a workflow, or a deliberation, has ended.
_OTHER_ENDS = ("workflow.run_ended", "deliberation.completed", "deliberation.failed", "deliberation.cancelled")
KEEP_ROWS = 10_000
#: How late an event may be if no doorbell tells of it.
LATE_S = 0.1
APART_S = 0.02
PAGE = 500
READ_RETRY_S = 1.0

#: Log kind → frame type, for kinds whose frame type is not the kind with underscores.
FRAME_TYPES = {"task.retried": "task_retrying"}


def frame_type(kind: str) -> str:
    return FRAME_TYPES.get(kind) or kind.replace(".", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFilter:
    """Which rows a subscriber gets: all given fields must match. ``words``: whether it gets their private words too;
    ``without``: prefixes of kinds that it does not get."""

    workspace: str
    words: bool = False
    without: tuple[str, ...] = ()
    task_id: str | None = None
    agent_id: str | None = None
    deliberation_id: str | None = None

    def matches(self, row: LogRow) -> bool:
        if row.workspace != self.workspace or row.kind.startswith(self.without):
            return False
        if self.task_id is not None and row.entity != self.task_id:
            return False
        if self.deliberation_id is not None and row.entity != self.deliberation_id:
            return False
        return self.agent_id is None or self._is_about(self.agent_id, row)

    @staticmethod
    def _is_about(agent_id: str, row: LogRow) -> bool:
        """Whether the agent takes part in what the row says: alone, or as one of several (a panel, turns that were cut)."""
        several = row.data.get("agents")
        return agent_id in (row.entity, row.data.get("agent_id"), row.data.get("agent")) or (
            isinstance(several, list) and agent_id in several
        )

    def log_filter(self) -> LogFilter:
        """The part of this filter that the store applies."""
        entity = self.task_id or self.deliberation_id
        return LogFilter(workspace=self.workspace, entities=(entity,) if entity else ())


_ID_FIELD = {"task": "task_id", "agent": "agent_id", "deliberation": "request_id"}


def frame(row: LogRow, *, words: bool) -> dict[str, Any]:
    """The frame of a row, with its private words or without them. A WebSocket client resumes by ``seq``; SSE carries the same
    number as the event's id."""
    subject = row.kind.partition(".")[0]
    data = data_of(row, words)
    if subject in _ID_FIELD:
        data.setdefault(_ID_FIELD[subject], row.entity)
    if subject == "deliberation":
        data.setdefault("task_id", row.entity)
        data.setdefault("deliberation_event", row.kind)
    if row.attempt is not None:
        data.setdefault("attempt", row.attempt)
    return {"type": frame_type(row.kind), "timestamp": row.at, "seq": row.seq, "data": data}


class StreamHub:
    """Follows the log (``run``) while there are subscribers (``rows``), and only then: reading every row costs about as
    much as serving the calls that write them."""

    def __init__(self, log: Log, doorbell: Doorbell, clock: Clock) -> None:
        self._log = log
        self._doorbell = doorbell
        self._clock = clock
        #: The newest rows, without a gap and up to ``_cursor``; empty while nobody listens.
        self._rows: deque[LogRow] = deque(maxlen=KEEP_ROWS)
        #: Set, and replaced by a new event, whenever ``_cursor`` moves: it wakes all waiting subscribers.
        self._moved = asyncio.Event()
        #: Subscribers that iterate ``rows``.
        self._listeners = 0
        #: Set while there are subscribers; ``run`` waits for it.
        self._is_needed = asyncio.Event()
        #: Set when the last subscriber leaves, cleared when one comes; ``run`` stops following when it is set.
        self._left = asyncio.Event()
        #: The ``seq`` up to which the log has been followed; 0 while it is not followed.
        self._cursor = 0
        #: Whoever waits for the end of a task, a run or a deliberation, by workspace and id.
        self._ends: dict[tuple[str, str], set[asyncio.Event]] = {}

    async def now(self) -> int:
        """The ``seq`` of the newest row; every later row is new to a subscriber that starts now.

        Raises: `StoreUnavailable` if there is no subscriber yet and the store is away.
        """
        return self._cursor or await self._log.head()

    async def check_cursor(self, cursor: int) -> None:
        """Raises: `CursorLost` if rows after the cursor are not kept any more; `StoreUnavailable`."""
        if self._rows and self._rows[0].seq <= cursor + 1:
            return
        first = await self._log.first()
        if cursor < first - 1:
            raise CursorLost(
                f"The events after {cursor} are not kept any more; read the state anew and resume after {first - 1}."
            )

    async def run(self) -> None:
        while True:
            await self._is_needed.wait()
            following = asyncio.ensure_future(self._follow())
            left = asyncio.ensure_future(self._left.wait())
            try:
                await asyncio.wait({following, left}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()  # raises the error that ended it
            finally:
                left.cancel()
                await ended(following)
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

    @contextlib.contextmanager
    def end_of(self, workspace: str, entity: str) -> Iterator[asyncio.Event]:
        """An event that is set when the task, run or deliberation may have ended: when the log says so, and when the hub begins
        to follow the log, since it may have ended before that. Clear it, look at the entity, then wait: nobody asks the store
        meanwhile."""
        event, key = asyncio.Event(), (workspace, entity)
        with self._listening():
            self._ends.setdefault(key, set()).add(event)
            try:
                yield event
            finally:
                self._ends[key].discard(event)
                if not self._ends[key]:
                    del self._ends[key]

    async def _follow(self) -> None:
        while True:
            try:
                head = await self._log.head()
                break
            except StoreUnavailable:
                await self._clock.sleep(READ_RETRY_S)
        self._move(head)
        for waiting in self._ends.values():
            _set_all(waiting)
        follower = LogFollower(
            self._log, self._doorbell, self._clock, after=head, apply=self._apply, poll_s=LATE_S, apart_s=APART_S
        )
        await follower.run()

    async def _apply(self, rows: Sequence[LogRow]) -> None:
        self._rows.extend(rows)
        for row in rows:
            if is_erasure(row.kind):
                self._forget(row)
            elif row.kind in ENDS or row.kind in _OTHER_ENDS:
                _set_all(self._ends.get((row.workspace, row.entity), ()))
        self._move(rows[-1].seq)

    def _forget(self, erasure: LogRow) -> None:
        """Deletes the words that were erased from the rows that are kept here."""
        kept = [replace(row, private_json=None) if erases(erasure, row) else row for row in self._rows]
        self._rows = deque(kept, maxlen=KEEP_ROWS)

    def _move(self, cursor: int) -> None:
        self._cursor = cursor
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def rows(self, after: int, stream_filter: StreamFilter) -> AsyncGenerator[LogRow, None]:
        """Matching rows after ``after``, then new ones as they come, without end.

        While the store is away the generator waits for it, so that the subscriber keeps its connection. Close the
        generator (``aclosing``): until then its subscriber counts as listening.
        """
        cursor = after
        with self._listening():
            while True:
                moved = self._moved
                if cursor >= self._cursor:
                    await moved.wait()
                    continue
                try:
                    page, cursor = await self._page(cursor, stream_filter)
                except StoreUnavailable:
                    await self._clock.sleep(READ_RETRY_S)
                    continue
                for row in page:
                    yield row

    async def _page(self, cursor: int, stream_filter: StreamFilter) -> tuple[list[LogRow], int]:
        """The next matching rows, and the cursor after them."""
        if self._rows and self._rows[0].seq <= cursor + 1:
            start = cursor + 1 - self._rows[0].seq
            recent = [self._rows[i] for i in range(start, min(start + PAGE, len(self._rows)))]
            return [row for row in recent if stream_filter.matches(row)], recent[-1].seq
        upper = self._cursor
        rows = await self._log.read(cursor, PAGE, stream_filter.log_filter())
        end = rows[-1].seq if len(rows) == PAGE else max(upper, rows[-1].seq if rows else 0)
        return [row for row in rows if stream_filter.matches(row)], end


def _set_all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()
