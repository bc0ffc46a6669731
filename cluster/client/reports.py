"""What a worker has to say about its jobs, kept until the control plane has taken it or refused it.

A result may have cost minutes and money, so nothing here gives one up because an answer did not come: whoever lost the
lease meanwhile is told so by the server. Reports go in batches. One that cannot be sent (no JSON, too large, refused)
fails its own attempt and holds up no other: a batch that fails is halved and goes to the back, so what cannot pass
ends up alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from cluster.client.api import ApiError, Backoff, OutcomeUnknown, Patience, is_for_later
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.base.json_values import MAX_ERROR_CHARS, shown_error, shown_text
from cluster.domain.tasks.retries import ErrorClass
from cluster.process.loops import ended

_logger = logging.getLogger(__name__)

Report = Mapping[str, Any]
#: What the server says of one report: ``ok``, else ``error`` and ``code``.
Word = Mapping[str, Any]
#: Sends reports that are JSON already; one word per report, in their order. Raises what the client raises.
Send = Callable[[Sequence[bytes]], Awaitable[Sequence[Word]]]

MOST_REPORTS = 500
MOST_BYTES = 500_000
#: Of the whole batch by the server. 404 and the like are no word about a report: there is nothing of ours at this address.
_REFUSALS = frozenset({400, 409, 413, 422})
#: Of one report: nothing else that is said about the task would be taken either.
_LOST = frozenset({"lease_lost", "already_terminal", "task_not_found"})
#: A proxy that finds a result too large will find it so for ever, but one that restarts may say anything for a while.
TOO_LARGE_S = 60.0


def failure(report: Report, reason: str) -> dict[str, Any]:
    """What is said instead of a result that cannot be sent: the attempt failed."""
    kept = {name: report[name] for name in ("task_id", "agent_id", "lease_token") if name in report}
    error = shown_text(f"the result cannot be reported: {reason}", MAX_ERROR_CHARS)
    return {**kept, "error": error, "requeue": True, "error_class": ErrorClass.MALFORMED.value}


def encoded(report: Report) -> tuple[Report, bytes]:
    """As it is sent, once and for all: a handler may change later what it returned. Or its failure in its place."""
    try:
        return report, json.dumps(report, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except Exception as error:  # whatever an object of the handler's raises
        return encoded(failure(report, shown_error(error, MAX_ERROR_CHARS)))


class _Waiting:
    __slots__ = ("content", "done", "report", "too_large_since")

    def __init__(self, report: Report) -> None:
        self.report, self.content = encoded(report)
        self.done: asyncio.Future[Word] = asyncio.get_running_loop().create_future()
        self.too_large_since: float | None = None

    def fail_instead(self, reason: str) -> bool:
        """False if there is nothing simpler to say."""
        if "error" in self.report:
            return False
        self.report, self.content = encoded(failure(self.report, reason))
        return True

    def answer(self, word: Word) -> None:
        if not self.done.done():
            self.done.set_result(word)


class Reports:
    """Bounded by whoever puts: a worker keeps a job's slot until its report is answered."""

    def __init__(self, send: Send, patience: Patience) -> None:
        self._send = send
        self._patience = patience
        self._backoff = Backoff(patience)
        self._leaving = asyncio.Event()
        self._waiting: deque[_Waiting] = deque()
        self._most = MOST_REPORTS
        self._runner: asyncio.Task[None] | None = None

    async def put(self, report: Report) -> Word:
        """The server's word. A caller that is cancelled does not take its report back."""
        one = _Waiting(report)
        self._waiting.append(one)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await asyncio.shield(one.done)

    async def drain(self, within_s: float) -> Sequence[str]:
        """Waits for the server's words, and no longer for what it asks to be left alone. The tasks whose reports it has not
        heard by then, which are given up."""
        self._leaving.set()
        if self._runner is not None:
            await asyncio.wait({self._runner}, timeout=within_s)
        if self._runner is not None:
            await ended(self._runner)
        left = [str(one.report["task_id"]) for one in self._waiting]
        for one in self._waiting:
            one.answer({"ok": False, "error": "the worker ended before the control plane answered"})
        self._waiting.clear()
        return left

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._send_some()
        finally:
            self._runner = None

    async def _send_some(self) -> None:
        batch = self._next()
        try:
            words = await self._send([one.content for one in batch])
            if len(words) != len(batch):
                raise OutcomeUnknown("What answered the reports is not the control plane.")
        except Exception as error:
            self._most = max(1, len(batch) // 2)
            if isinstance(error, ApiError) and error.status in _REFUSALS:
                self._refused(batch, error)
            else:
                await self._failed(batch, error)
        else:
            await self._heard(batch, words)

    def _next(self) -> list[_Waiting]:
        """The first of those that wait. They stay there until there is a word on them."""
        batch: list[_Waiting] = []
        size = 0
        for one in self._waiting:
            size += len(one.content)
            if batch and (size > MOST_BYTES or len(batch) == self._most):
                break
            batch.append(one)
        return batch

    async def _heard(self, batch: Sequence[_Waiting], words: Sequence[Word]) -> None:
        again = 0
        for one, word in zip(batch, words, strict=True):
            self._waiting.popleft()
            later = not word["ok"] and is_for_later(word.get("code"))
            unfit = not word["ok"] and not later and word.get("code") not in _LOST
            if later or (unfit and one.fail_instead(str(word.get("error")))):
                self._waiting.append(one)
                again += later
            else:
                one.answer(word)
        if again:
            await self._rest(OutcomeUnknown("The control plane could not take some reports yet."))
            return
        self._most = min(MOST_REPORTS, self._most * 2)
        self._backoff.reset()

    def _refused(self, batch: Sequence[_Waiting], error: ApiError) -> None:
        """The whole batch for the sake of one, which is found by halving."""
        if len(batch) > 1:
            return
        (one,) = batch
        self._waiting.popleft()
        if one.fail_instead(error.message):
            self._waiting.append(one)
        else:
            one.answer({"ok": False, "error": error.message, "code": error.code})

    async def _failed(self, batch: Sequence[_Waiting], error: Exception) -> None:
        if len(batch) == 1 and isinstance(error, OutcomeUnknown) and error.answered == 413:
            self._too_large(batch[0])
        self._waiting.rotate(-len(batch))
        await self._rest(error)

    async def _rest(self, error: Exception) -> None:
        if isinstance(error, ControlPlaneError):
            _logger.info("%d reports wait, will try again: %s", len(self._waiting), error)
        else:
            _logger.error("reports cannot be sent, will try again", exc_info=error)
        wait_s = self._backoff.next_s(error)
        if self._leaving.is_set():
            await asyncio.sleep(min(wait_s, self._patience.most_s))
        else:
            await asyncio.wait({leaving := asyncio.ensure_future(self._leaving.wait())}, timeout=wait_s)
            leaving.cancel()

    def _too_large(self, one: _Waiting) -> None:
        now = time.monotonic()
        one.too_large_since = one.too_large_since or now
        if now - one.too_large_since > TOO_LARGE_S:
            one.fail_instead(f"a proxy does not let {len(one.content)} bytes through")
