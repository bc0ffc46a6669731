"""Asks the items of a batch, so many at once, and hands over each outcome as it comes.

An answer that does not come is asked for again, for as long as ``patience_s``: the key makes it the same question. The
stream of events says early that a deliberation has ended; that it did not is found out by looking, less and less often.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.client.api import ApiError, Backoff, ControlPlaneClient, Patience
from cluster.client.batches.items import Item
from cluster.domain.base.errors import CallerError, ControlPlaneError, TryLater
from cluster.process.loops import ended

T = TypeVar("T")

LOOK_FIRST_S, LOOK_MOST_S = 0.5, 15.0
LISTEN_AGAIN_S = 5.0
_ENDS = ("deliberation_completed", "deliberation_failed", "deliberation_cancelled")

Entry = dict[str, Any]
Finished = Callable[[Entry], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``patience_s``: how long one call is repeated before the batch gives up."""

    concurrency: int = 32
    patience_s: float = 300.0


class Driver:
    def __init__(self, client: ControlPlaneClient, limits: Limits, finished: Finished) -> None:
        self._client = client
        self._limits = limits
        self._finished = finished
        self._ends: dict[str, set[asyncio.Event]] = {}

    async def run(self, items: Iterator[Item]) -> None:
        """TryLater when the control plane cannot be had; what is finished by then is written."""
        first = asyncio.create_task(self._insist(lambda: self._client.get("/stream")))
        try:
            await asyncio.wait([first])
        finally:
            await ended(first)
        cursor = int(first.result()["last_event_id"])
        listening = asyncio.create_task(self._listen(cursor))
        workers = [asyncio.create_task(self._work(items)) for _ in range(self._limits.concurrency)]
        try:
            # Not gather: cancelled, it waits for workers of which one may have taken the cancellation for a time-out.
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
            record: Mapping[str, Any] = await self._insist(lambda: self._client.get(f"/deliberations/{request_id}"))
            if record["terminal"] is not None:
                return record
            over.clear()
            pause = min(LOOK_MOST_S, pause * 2)

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeats a call that failed by no fault of its own."""
        give_up = time.monotonic() + self._limits.patience_s
        backoff = Backoff(Patience())
        while True:
            try:
                return await call()
            except CallerError:
                raise
            except ControlPlaneError as error:
                pause = backoff.next_s(error)
                if time.monotonic() + pause > give_up:
                    raise TryLater(f"{error.message} What is finished is written; --resume goes on.") from error
            await asyncio.sleep(pause)

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
        "answer": result["answer"],
        "confidence": result["confidence"],
        "consensus_reached": result["consensus_reached"],
        "error": result["error"],
        "result": result,
    }
