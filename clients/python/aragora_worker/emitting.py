"""What jobs tell of their work while they run (`Job.emit`): sent as chunks, a few calls per second, in the order of the calls.

A handler on any loop or thread puts values in; the session's loop sends them. Texts that come close together become one chunk.
Chunks are an addition to the result: they delay a report by ``FLUSH_S`` at most, and one that is refused fails no job.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from aragora_worker.base.bounds import CALL_CHUNKS, CHUNK_BYTES
from aragora_worker.base.errors import CallerError, TooLarge
from aragora_worker.base.json_values import check_json, compact_json, plain_json
from aragora_worker.repeating import Patience, RetryDelays, until_taken
from aragora_worker.sending import Sender

_logger = logging.getLogger(__name__)

#: The least time between two calls of one job.
EVERY_S = 0.25
#: Bytes that wait; whoever emits more waits too.
MOST_BYTES = 262_144
#: Texts are joined up to this many bytes.
JOINED_BYTES = 16_384
#: A text that is offered is cut into pieces of so many characters, each of at most six bytes.
OFFERED_CHARS = 10_000
#: How long the report of a job waits for its last chunks.
FLUSH_S = 5.0

#: Sends one call's body; raises what the client raises.
SendChunks = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Emitter:
    """The chunks of one attempt. ``emit`` and ``emit_blocking`` may be called in any thread, the rest on the session's loop."""

    def __init__(self, task_id: str, send: SendChunks, patience: Patience) -> None:
        self._task_id = task_id
        self._send = send
        self._patience = patience
        self._sender = Sender(self._send_all, lambda: bool(self._pending) and not self._over)
        self._lock = threading.Lock()
        #: Values that no call has taken yet, each with its bytes as JSON, and the bytes of all that were not sent yet.
        self._pending: list[tuple[Any, int]] = []
        self._bytes = 0
        #: Emitters that wait for room.
        self._waiting: list[Future[None]] = []
        #: Set by a refusal, and at the end of the job: what comes later is dropped.
        self._over = False
        #: The number of the next chunk. Only the session's loop changes it.
        self._next = 1

    async def emit(self, value: Any) -> None:
        """Puts in a value; waits while too much waits to be sent. Raises: as `_checked`."""
        checked = _checked(value)
        while (room := self._put(checked)) is not None:
            await asyncio.wrap_future(room)

    def emit_blocking(self, value: Any) -> None:
        """The same for a thread without an event loop. Raises: as `_checked`."""
        checked = _checked(value)
        while (room := self._put(checked)) is not None:
            room.result()

    def offer(self, text: str) -> None:
        """Puts in a text without waiting. If there is no room, this and what comes later are dropped."""
        for start in range(0, len(text), OFFERED_CHARS):
            if self._put(_checked(text[start : start + OFFERED_CHARS])) is not None:
                _logger.warning("task %s: its chunks come faster than they can be stored", self._task_id)
                self._end()

    async def flush(self) -> None:
        """Sends what was put in, for ``FLUSH_S`` at most. The last call: what comes later is dropped."""
        if not await self._sender.settle(FLUSH_S):
            _logger.warning("task %s: its last chunks could not be sent in time", self._task_id)
            await self._sender.stop()
        self._end()

    def _put(self, checked: tuple[Any, int]) -> Future[None] | None:
        """None if the value is in, or dropped; else what is done when there may be room."""
        value, size = checked
        with self._lock:
            if self._over:
                return None
            if self._bytes and self._bytes + size > MOST_BYTES:
                room: Future[None] = Future()
                self._waiting.append(room)
                return room
            last = self._pending[-1] if self._pending else None
            if (
                last is not None
                and isinstance(value, str)
                and isinstance(last[0], str)
                and last[1] + size <= JOINED_BYTES
            ):
                self._pending[-1] = (last[0] + value, last[1] + size)
            else:
                self._pending.append(checked)
            self._bytes += size
        if not self._sender.wake():
            self._end()
        return None

    async def _send_all(self) -> None:
        try:
            while batch := self._taken():
                await self._sent([value for value, _ in batch])
                self._make_room(sum(size for _, size in batch))
                await asyncio.sleep(EVERY_S)
        except CallerError as refused:
            _logger.warning("task %s: its chunks are refused: %s", self._task_id, refused)
            self._end()

    def _taken(self) -> Sequence[tuple[Any, int]]:
        with self._lock:
            batch, self._pending = self._pending[:CALL_CHUNKS], self._pending[CALL_CHUNKS:]
        return batch

    async def _sent(self, values: Sequence[Any]) -> None:
        """Repeats a call until it is taken. Raises: `CallerError` if it is refused."""
        body = {"first": self._next, "chunks": values}
        try:
            await until_taken(lambda: self._send(body), RetryDelays(self._patience))
        except CallerError as refused:
            if refused.code != "chunk_gap":
                raise
            # Another region answers now, which has not got the former ones.
            await until_taken(lambda: self._send({**body, "skip": True}), RetryDelays(self._patience))
        self._next += len(values)

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._bytes -= size
            waiting, self._waiting = self._waiting, []
        for room in waiting:
            if room.set_running_or_notify_cancel():
                room.set_result(None)

    def _end(self) -> None:
        self._over = True
        self._make_room(0)


def _checked(value: Any) -> tuple[Any, int]:
    """A value and its bytes as JSON.

    Raises: `InvalidRequest` if it is no JSON, `TooLarge` if it is longer than a chunk may be."""
    check_json(value, "What is emitted")
    plain = plain_json(value)
    size = len(compact_json(plain).encode())
    if size > CHUNK_BYTES:
        raise TooLarge(f"A chunk has at most {CHUNK_BYTES} bytes as JSON; emit it in parts.", "chunk_too_large")
    return plain, size
