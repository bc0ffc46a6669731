"""A worker's reports, kept until the control plane has taken or refused them.

A result may have cost minutes and money, so none is given up because an answer did not come. If the lease was lost
meanwhile, the server says so. Reports are sent in batches. A report that cannot be sent (no JSON, too large, refused)
fails its own attempt and delays no other: a batch that fails is halved and goes to the back of the queue, until the report
that causes it is alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aragora_worker.base.json_values import MAX_ERROR_CHARS, compact_json, shown_error, shown_text
from aragora_worker.errors import ApiError, OutcomeUnknown, is_for_later
from aragora_worker.outage import Outage
from aragora_worker.repeating import Patience, RetryDelays
from aragora_worker.tasks import ended, timeout

Report = Mapping[str, Any]
#: A report and its JSON.
EncodedReport = tuple[Report, bytes]
#: What the server answers to one report: ``ok``, and if it is false ``error`` and ``code``.
ReportOutcome = Mapping[str, Any]
#: Sends reports that are JSON already; returns one outcome per report, in order. Raises what the client raises.
Send = Callable[[Sequence[bytes]], Awaitable[Sequence[ReportOutcome]]]

#: The kind of its calls (`aragora_worker.outage`).
REPORT = "a report"
#: The class of failures whose result cannot be stored or read.
MALFORMED = "malformed"
MOST_REPORTS = 500
MOST_BYTES = 500_000
#: Statuses by which the server refuses a whole batch. 404 and the like say nothing about a report: the API is not there.
_REFUSALS = frozenset({400, 409, 413, 422})
#: Codes by which the server refuses one report for good: it would refuse any other report of that attempt too.
LOST = frozenset({"lease_lost", "already_terminal", "task_not_found"})
#: How long a proxy has to call a report too large before this is believed: one that restarts may answer anything for a while.
TOO_LARGE_S = 60.0
#: How long before the end of its attempt a report is tried again, whatever wait the server asked for.
LAST_TRY_S = 5.0


def failure(report: Report, reason: str) -> dict[str, Any]:
    """The report that is sent instead of a result that cannot be sent: it says that the attempt failed."""
    kept = {name: report[name] for name in ("task_id", "agent_id", "lease_token", "cost_usd") if name in report}
    error = shown_text(f"the result cannot be reported: {reason}", MAX_ERROR_CHARS)
    return {**kept, "error": error, "requeue": True, "error_class": MALFORMED}


def encoded(report: Report) -> EncodedReport:
    """A report and its JSON; if it cannot be JSON, the failure instead. Encoded once, when the handler has ended: it may later
    change what it returned."""
    try:
        return report, compact_json(report).encode()
    except BaseException as error:  # noqa: BLE001 - objects of the handler's may raise anything
        return encoded(failure(report, shown_error(error, MAX_ERROR_CHARS)))


class _PendingReport:
    """A report and the future of its caller. ``due`` is when its attempt ends, by the monotonic clock."""

    __slots__ = ("content", "done", "due", "report", "too_large_since")

    def __init__(self, report: EncodedReport, due: float | None) -> None:
        self.report, self.content = report
        self.due = due
        self.done: asyncio.Future[ReportOutcome] = asyncio.get_running_loop().create_future()
        self.too_large_since: float | None = None

    def fail_instead(self, reason: str) -> bool:
        """Replaces the report by a failure. False if it is a failure already, for which there is nothing simpler."""
        if "error" in self.report:
            return False
        self.report, self.content = encoded(failure(self.report, reason))
        return True

    def answer(self, outcome: ReportOutcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)


class ReportQueue:
    """The reports of one worker. Its length is bounded by the callers of `put`: a worker keeps a job's slot until its report is
    answered."""

    def __init__(self, send: Send, patience: Patience, outage: Outage | None = None) -> None:
        self._send = send
        self._outage = outage or Outage()
        self._patience = patience
        self._delays = RetryDelays(patience)
        #: Set by `drain`: from now on the server's longer waits are not respected.
        self._leaving = False
        #: Set by `drain` and by `put`: how long to rest is to be decided again.
        self._news = asyncio.Event()
        #: Reports without an outcome, in the order in which they are sent. `put` adds one; it stays, also while it is being
        #: sent, until it is answered or moves to the back.
        self._waiting: deque[_PendingReport] = deque()
        #: How many reports the next batch may have: halved when a batch fails, doubled when one is taken.
        self._most = MOST_REPORTS
        #: The only task that sends; None while no report waits.
        self._runner: asyncio.Task[None] | None = None

    async def put(self, report: EncodedReport, due: float | None = None) -> ReportOutcome:
        """Queues a report and returns its outcome. A cancelled caller does not withdraw its report. ``due`` is when its attempt
        ends (`time.monotonic`): the server may ask for a longer wait than that, and the result would be lost."""
        pending = _PendingReport(report, due)
        self._waiting.append(pending)
        self._news.set()
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return await asyncio.shield(pending.done)

    async def drain(self, within_s: float) -> Sequence[str]:
        """Waits ``within_s`` for the outcomes, without the longer delays that the server asks for. Gives the rest up, and
        returns the ids of their tasks."""
        self._leaving = True
        self._news.set()
        if self._runner is not None:
            await asyncio.wait({self._runner}, timeout=within_s)
        if self._runner is not None:
            await ended(self._runner)
        left = [str(pending.report["task_id"]) for pending in self._waiting]
        for pending in self._waiting:
            pending.answer({"ok": False, "error": "the worker ended before the control plane answered"})
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
            outcomes = await self._send([pending.content for pending in batch])
            if len(outcomes) != len(batch):
                raise OutcomeUnknown("What answered the reports is not the control plane.")
        except Exception as error:  # noqa: BLE001 - a batch that fails for any reason is sent again in halves
            self._most = max(1, len(batch) // 2)
            if isinstance(error, ApiError) and error.status in _REFUSALS:
                self._refused(batch, error)
            else:
                await self._failed(batch, error)
        else:
            await self._answered(batch, outcomes)

    def _next(self) -> list[_PendingReport]:
        """The batch to send next: the first reports of the queue, which stay there until they have an outcome."""
        batch: list[_PendingReport] = []
        size = 0
        for pending in self._waiting:
            size += len(pending.content)
            if batch and (size > MOST_BYTES or len(batch) == self._most):
                break
            batch.append(pending)
        return batch

    async def _answered(self, batch: Sequence[_PendingReport], outcomes: Sequence[ReportOutcome]) -> None:
        again = 0
        for pending, outcome in zip(batch, outcomes, strict=True):
            self._waiting.popleft()
            later = not outcome["ok"] and is_for_later(outcome.get("code"))
            unfit = not outcome["ok"] and not later and outcome.get("code") not in LOST
            if later or (unfit and pending.fail_instead(str(outcome.get("error")))):
                self._waiting.append(pending)
                again += later
            else:
                pending.answer(outcome)
        if again:
            await self._rest(OutcomeUnknown("The control plane could not take some reports yet."))
            return
        self._most = min(MOST_REPORTS, self._most * 2)
        self._delays.reset()
        self._outage.answered(REPORT)

    def _refused(self, batch: Sequence[_PendingReport], error: ApiError) -> None:
        """Fails the report if it is alone. A longer batch was refused because of one report, which halving finds."""
        if len(batch) > 1:
            return
        (pending,) = batch
        self._waiting.popleft()
        self._outage.answered(REPORT)
        if pending.fail_instead(error.message):
            self._waiting.append(pending)
        else:
            pending.answer({"ok": False, "error": error.message, "code": error.code})

    async def _failed(self, batch: Sequence[_PendingReport], error: Exception) -> None:
        if len(batch) == 1 and isinstance(error, OutcomeUnknown) and error.answered == 413:
            self._too_large(batch[0])
        self._waiting.rotate(-len(batch))
        await self._rest(error)

    async def _rest(self, error: Exception) -> None:
        self._outage.failed(REPORT, error)
        own_s, asked_s = self._delays.next_parts_s(error)
        if self._leaving:
            await asyncio.sleep(min(max(own_s, asked_s), self._patience.most_s))
            return
        begun = time.monotonic()
        with contextlib.suppress(TimeoutError):
            while not self._leaving:
                self._news.clear()
                until = begun + max(own_s, min(asked_s, self._last_try() - begun))
                async with timeout(until - time.monotonic()):
                    await self._news.wait()

    def _last_try(self) -> float:
        """When to try again, whatever the server asks for: before the first attempt ends that still runs. Heartbeats renew the
        leases meanwhile, but they do not lengthen the time that an attempt has."""
        now = time.monotonic()
        ends = (pending.due for pending in self._waiting if pending.due is not None and pending.due > now)
        return min(ends, default=math.inf) - LAST_TRY_S

    def _too_large(self, pending: _PendingReport) -> None:
        now = time.monotonic()
        pending.too_large_since = pending.too_large_since or now
        if now - pending.too_large_since > TOO_LARGE_S:
            pending.fail_instead(f"a proxy does not let {len(pending.content)} bytes through")
