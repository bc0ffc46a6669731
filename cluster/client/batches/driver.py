"""Asks the items of a batch, many at once, and hands over each outcome as it comes.

A call without an answer is repeated for up to ``patience_s``: its key makes it the same question. The stream of events
tells early that a deliberation has ended. In case the event is lost, the deliberation is also read, less and less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from aragora_worker.api import ControlPlaneClient
from aragora_worker.errors import ApiError
from aragora_worker.repeating import Patience, RetryDelays, until_taken
from cluster.client.batches.items import Item
from cluster.domain.base.errors import CallerError, ControlPlaneError, TryLater
from cluster.domain.base.ids import path_segment
from cluster.process.loops import ended

T = TypeVar("T")

LOOK_FIRST_S, LOOK_MOST_S = 0.5, 15.0
LISTEN_AGAIN_S = 5.0
_ENDS = ("deliberation_completed", "deliberation_failed", "deliberation_cancelled")

Entry = dict[str, Any]
Finished = Callable[[Entry], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """``concurrency``: how many items are asked at once. ``patience_s``: how long one call is repeated before the batch gives
    up."""

    concurrency: int = 32
    patience_s: float = 300.0


class Driver:
    """Asks items. ``finished`` is called with the entry of each item that has come to an end."""

    def __init__(self, client: ControlPlaneClient, limits: BatchLimits, finished: Finished) -> None:
        self._client = client
        self._limits = limits
        self._finished = finished
        #: Request id → events of the items that wait for its end; several if an item occurs twice. `_ask` adds and removes.
        self._ends: dict[str, set[asyncio.Event]] = {}

    async def run(self, items: Iterator[Item]) -> None:
        """Asks all items. Raises: `TryLater` if the control plane stays away; `ApiError` if it refuses the key. Items that have
        finished by then have been handed over."""
        first = asyncio.create_task(self._insist(lambda: self._client.get("/stream")))
        try:
            await asyncio.wait([first])
        finally:
            await ended(first)
        cursor = int(first.result()["last_event_id"])
        listening = asyncio.create_task(self._listen(cursor))
        workers = [asyncio.create_task(self._work(items)) for _ in range(self._limits.concurrency)]
        try:
            # Not gather: when it is cancelled it waits for the workers, and one may have taken the cancellation for a time-out.
            done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            await ended(*workers, listening)

    async def _work(self, items: Iterator[Item]) -> None:
        for item in items:
            self._finished(await self._ask(item))

    async def _ask(self, item: Item) -> Entry:
        body = {**item.body, "request_id": item.request_id, "async": True}
        over = asyncio.Event()
        waiting = self._ends.setdefault(item.request_id, set())
        waiting.add(over)
        try:
            await self._insist(lambda: self._client.post("/deliberations", body, idempotency_key=item.key))
            return _outcome(item, await self._until_ended(item.request_id, over))
        except CallerError as error:
            if isinstance(error, ApiError) and error.status in (401, 403):
                raise  # no item is to blame
            return {**_head(item), "status": "refused", "error": error.message, "code": error.code, "result": None}
        finally:
            waiting.discard(over)
            if not waiting:
                self._ends.pop(item.request_id, None)

    async def _until_ended(self, request_id: str, over: asyncio.Event) -> Mapping[str, Any]:
        pause = LOOK_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await over.wait()
            record: Mapping[str, Any] = await self._insist(
                lambda: self._client.get(f"/deliberations/{path_segment(request_id)}")
            )
            if record["terminal"] is not None:
                return record
            over.clear()
            pause = min(LOOK_MOST_S, pause * 2)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call until it is done or refused. Raises: `TryLater` after ``patience_s``."""
        give_up = time.monotonic() + self._limits.patience_s

        def failed(error: Exception, pause_s: float) -> None:
            if time.monotonic() + pause_s > give_up:
                raise TryLater(f"{error} What is finished is written; --resume goes on.") from error

        return await until_taken(call, RetryDelays(Patience()), failed=failed, over=ControlPlaneError)

    async def _listen(self, cursor: int) -> None:
        while True:
            with contextlib.suppress(ControlPlaneError):
                async for event in self._client.events(after=cursor):
                    cursor = event.seq
                    if event.type in _ENDS:
                        for over in self._ends.get(str(event.data.get("request_id")), ()):
                            over.set()
            await asyncio.sleep(LISTEN_AGAIN_S)


def _head(item: Item) -> Entry:
    return {"line": item.line, "id": item.id, "key": item.key, "request_id": item.request_id}


def _outcome(item: Item, record: Mapping[str, Any]) -> Entry:
    result = record["result"]
    return {
        **_head(item),
        "status": str(record["terminal"]).lower(),
        "answer": result.get("answer"),
        "confidence": result["confidence"],
        "consensus_reached": result["consensus_reached"],
        "error": result.get("error"),
        "result": result,
    }
