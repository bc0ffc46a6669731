"""What a worker does with claimed tasks: it runs their handlers, and turns whatever they do into reports.

Handlers are somebody else's code. A coroutine runs on the loop in which the worker was started, a plain function in a
thread; the worker itself runs on a loop of its own, in a thread of its own (`worker`). So a handler that blocks or stops
its loop stops no heartbeat and no report. Nothing that a handler returns or raises leaves this module but as JSON.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, auto
from typing import Any, NoReturn

from aragora_worker.asking import Answer, Asks, question_of
from aragora_worker.base.errors import InvalidRequest
from aragora_worker.base.json_values import MAX_ERROR_CHARS, check_json, plain_json, shown_error, shown_words
from aragora_worker.base.money import MOST_USD, NANOS, nanos_of, usd
from aragora_worker.base.progress import Progress, checked_progress
from aragora_worker.children import Child, ChildOutcome, Parks, park_of
from aragora_worker.emitting import Emitter
from aragora_worker.job_progress import Acknowledgement, acknowledged
from aragora_worker.reports import MALFORMED, EncodedReport, Report, encoded

_logger = logging.getLogger(__name__)

#: What is reported of a job that ended because its worker drained: its task goes back to the queue and loses no retry.
GIVEN_BACK: Mapping[str, Any] = {
    "error": "the worker was stopped before it was done",
    "requeue": True,
    "released": True,
}
#: What is reported of a job that ended because nobody waits for it any more.
CANCELLED: Mapping[str, Any] = {"error": "cancelled", "requeue": False}
#: What the API takes as the code of a failure.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
#: A class's own name, whatever its metaclass answers.
_NAME: Callable[[type], str] = type.__dict__["__name__"].__get__
#: How many threads all coroutines together have for what they run by `asyncio.to_thread`.
MOST_HELPERS = 32


class Reject(Exception):
    """Raised by a handler: this task can never succeed, so it is not tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed task. If ``cancelled`` is set, the job should stop, because nobody waits for its result any more. ``checkpoint``
    is what an earlier attempt left to go on from; None if none did. ``answer`` is that to the question that an earlier attempt
    asked last; None if none did. ``children``: the outcomes of those that an earlier attempt waited for last, or None.
    ``traceparent``: the parent of spans that the job makes, as W3C Trace Context has it; None if the control plane does not
    trace."""

    id: str
    task_type: str
    payload: Any
    metadata: Mapping[str, Any]
    attempt: int
    timeout_s: float
    lease_token: str
    cancelled: threading.Event = field(default_factory=threading.Event, compare=False)
    checkpoint: Any = None
    answer: Answer | None = None
    children: Sequence[ChildOutcome] | None = None
    traceparent: str | None = None
    #: What it has cost, in nano-dollars; `add_cost` adds.
    costs: list[int] = field(default_factory=list, compare=False, repr=False)
    #: Takes the job's reports of progress.
    reports: Callable[[Progress], Acknowledgement] = field(default=acknowledged, compare=False, repr=False)
    #: Takes what the job emits.
    emitter: Emitter | None = field(default=None, compare=False, repr=False)

    def progress(
        self, *, percent: float | None = None, message: str | None = None, checkpoint: Any = None
    ) -> Acknowledgement:
        """Reports how far the job is (``percent``, 0 to 100; ``message``), and a ``checkpoint`` (JSON, 16 KiB at most), which
        the next attempt gets if this one is lost, fails or is given back. What is left out stays as it was. Returns at once, in
        any thread; wait for what it returns, or await it, where the report has to be durable before the job goes on.

        Raises: `InvalidRequest` if a value cannot be stored."""
        return self.reports(checked_progress(percent, message, checkpoint) or Progress())

    def add_cost(self, amount: Decimal | str | int) -> None:
        """Adds to what this attempt has cost, in US dollars with at most nine decimals; its report says the sum, which budgets
        count. Without any call, they count what they have reserved for it. Works in any thread.

        Raises: `InvalidRequest` if it is no such amount, or more than 9,000,000 dollars."""
        self.costs.append(nanos_of(f"{amount:f}" if isinstance(amount, Decimal) else str(amount), "amount"))

    def ask(
        self,
        question: str,
        *,
        schema: Mapping[str, Any] | None = None,
        answerers: Sequence[str] = (),
        time_limit_s: float | None = None,
        default: Sequence[Any] = (),
        checkpoint: Any = None,
    ) -> NoReturn:
        """Asks people, and ends this attempt: the task waits without a worker, and comes again when it is answered, with
        ``answer`` and ``checkpoint``. ``schema``: the JSON Schema of the answer. ``answerers``: who may answer (``user:EMAIL``,
        ``group:NAME``, ``role:NAME``); without any, whoever may write tasks. ``default``: a list with the answer that applies
        when ``time_limit_s`` is over; without one the task fails then. Costs no retry.

        Raises: `InvalidRequest` if a value cannot be stored; else `Asks`, which the handler has to let through."""
        raise Asks(question_of(question, schema, answerers, time_limit_s, default, checkpoint))

    def park(self, children: Sequence[Child | str], *, checkpoint: Any = None) -> NoReturn:
        """Waits for children, and ends this attempt: the task waits without a worker, and comes again when they all have ended,
        however they did, with ``children`` (their outcomes, in this order) and ``checkpoint``. A `Child` is submitted first; a
        text is the id of a task that was submitted with this one as its ``parent_task_id``. Costs no retry.

        Raises: `InvalidRequest` if a value cannot be stored; else `Parks`, which the handler has to let through."""
        raise Parks(park_of(children, checkpoint))

    async def emit(self, value: Any) -> None:
        """Adds a text or another JSON value to the task's output, which its followers see at once; waits while too much of it
        waits to be sent. A job that no worker runs drops it.

        Raises: `InvalidRequest` if it is no JSON, `TooLarge` if it is longer than a chunk may be."""
        if self.emitter is not None:
            await self.emitter.emit(value)

    def emit_blocking(self, value: Any) -> None:
        """`emit` for a handler that is a plain function. Raises: the same."""
        if self.emitter is not None:
            self.emitter.emit_blocking(value)


Handler = Callable[[Job], Any]


class Stop(Enum):
    """Why a job was told to stop."""

    CANCELLED = auto()
    DRAINED = auto()


#: The job whose code runs: its coroutine, and every task, callback and thread that it starts.
_current: contextvars.ContextVar[RunningJob] = contextvars.ContextVar("job")


class _JobTask(asyncio.Task[EncodedReport]):
    """The task of one job. The code of another job cannot cancel it: one that cancels "all tasks" ends only itself."""

    job: RunningJob

    def cancel(self, msg: Any | None = None) -> bool:
        asker = _current.get(None)
        if asker is not None and asker is not self.job:
            _logger.warning("task %s tried to cancel task %s, which goes on", asker.job.id, self.job.job.id)
            return False
        return super().cancel(msg)


class RunningJob:
    """A job from its start until its code has ended. All methods may be called in any thread.

    ``report`` is done when there is something to report, ``over`` when no code of the job runs any more. Nothing is given
    back before it is over, since another worker would start it at once.
    """

    def __init__(self, job: Job, agent_id: str) -> None:
        self.job = job
        self.report: Future[EncodedReport] = Future()
        self.over: Future[None] = Future()
        self._agent_id = agent_id
        self._lock = threading.RLock()
        self._stop: Stop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The coroutine's task once it has begun; else the plain function's future.
        self._task: _JobTask | None = None
        self._thread: Future[None] | None = None
        #: What the job's coroutine runs in threads of `HelperThreads` now.
        self._helpers: set[Future[Any]] = set()
        self._concluded: EncodedReport | None = None

    def start_coroutine(self, make: Callable[[], Awaitable[Any]], loop: asyncio.AbstractEventLoop) -> None:
        """Runs the awaitable on the loop as soon as the loop is free."""
        self._loop = loop
        try:
            loop.call_soon_threadsafe(self._begin, make, loop, context=contextvars.Context())
        except RuntimeError as error:  # the loop is closed
            self._conclude(self._failed(error))

    def start_plain(self, handler: Handler, threads: ThreadPoolExecutor, loop: asyncio.AbstractEventLoop) -> None:
        """Runs the plain function in a thread, and what it returns on the loop if that is awaitable."""
        with self._lock:
            try:
                self._thread = threads.submit(self._run_plain, handler, loop)
            except RuntimeError as error:  # the machine starts no more threads
                self._conclude(self._failed(error))

    def fail(self, error: BaseException) -> None:
        """Ends a job that has not started."""
        self._conclude(self._failed(error))

    def stop(self, why: Stop) -> None:
        """Tells the job to stop; one that has not begun never does. The first reason stays."""
        with self._lock:
            self._stop = self._stop or why
            self.job.cancelled.set()
            if self._task is not None:
                self._cancel(self._task)
            elif self._thread is None or self._thread.cancel():
                self._conclude(self._encoded(self._why_stopped()))
            elif self._stop is Stop.CANCELLED:
                self._tell(self._encoded(CANCELLED))  # its result is not waited for

    def last_report(self) -> Report:
        """What is to be reported of a stopped job when no code of it can run any more."""
        return self._encoded(self._why_stopped())[0]

    def _cancel(self, task: _JobTask) -> None:
        try:
            task.get_loop().call_soon_threadsafe(task.cancel, context=contextvars.Context())
        except RuntimeError:
            _logger.info("task %s: its event loop is closed", self.job.id)

    def _why_stopped(self) -> Mapping[str, Any]:
        return CANCELLED if self._stop is Stop.CANCELLED else GIVEN_BACK

    # --- in the handler's loop or thread -------------------------------------------------------------------------

    def _begin(self, make: Callable[[], Awaitable[Any]], loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._concluded is not None:  # stopped before it began
                return
            _current.set(self)
            self._task = _JobTask(self._run(make), loop=loop)
            self._task.job = self
            self._task.add_done_callback(self._task_ended)
            if self._stop is not None:
                self._cancel(self._task)

    async def _run(self, make: Callable[[], Awaitable[Any]]) -> EncodedReport:
        try:
            return self._succeeded(await make())
        except BaseException as error:  # noqa: BLE001 - a handler that exits has failed, the worker has not
            return self._failed(error)

    def _task_ended(self, task: asyncio.Task[EncodedReport]) -> None:
        # Cancelled: before its first step.
        self._conclude(self._failed(asyncio.CancelledError()) if task.cancelled() else task.result())

    def _run_plain(self, handler: Handler, loop: asyncio.AbstractEventLoop) -> None:
        try:
            result = handler(self.job)
            if inspect.isawaitable(result):
                with self._lock:
                    self._thread = None
                self.start_coroutine(lambda: result, loop)
                return
            # A plain function stops by returning, so what it returns after it was told to says nothing.
            done = self._encoded(self._why_stopped()) if self._stop is not None else self._succeeded(result)
        except BaseException as error:  # noqa: BLE001 - as above
            done = self._failed(error)
        self._conclude(done)

    def _succeeded(self, result: Any) -> EncodedReport:
        """Checks a result before it is reported: one that cannot be sent would fail the whole batch of reports."""
        try:
            check_json(result, "The result")
        except InvalidRequest as odd:
            error = f"Agent {self._agent_id}: {odd.message}"
            return self._encoded({"error": error, "requeue": True, "error_class": MALFORMED})
        return self._encoded({"result": plain_json(result)})

    def _failed(self, error: BaseException) -> EncodedReport:
        # issubclass: isinstance would ask the error itself for its class, which is somebody else's code.
        kind = type(error)
        if issubclass(kind, Asks) and self._stop is not Stop.CANCELLED:
            # A control plane that knows no questions takes it as given back.
            return self._encoded({"ask": error.__dict__["ask"], "released": True})
        if issubclass(kind, Parks) and self._stop is not Stop.CANCELLED:
            return self._encoded({"park": error.__dict__["park"], "released": True})
        if issubclass(kind, Reject):
            return self._encoded({"error": shown_words(error, MAX_ERROR_CHARS) or "rejected", "requeue": False})
        # Libraries turn a cancellation into errors of their own. One without a stop comes from the handler itself.
        if self._stop is Stop.DRAINED or (self._stop is not None and issubclass(kind, asyncio.CancelledError)):
            return self._encoded(self._why_stopped())
        _log_failure(self.job.id, error)
        outcome = {"error": shown_error(error, MAX_ERROR_CHARS), "requeue": True}
        return self._encoded(outcome | _code_of(kind))

    def _encoded(self, outcome: Mapping[str, Any]) -> EncodedReport:
        ours = {"task_id": self.job.id, "agent_id": self._agent_id, "lease_token": self.job.lease_token}
        # More than the API takes in one report would lose the result too.
        cost = {"cost_usd": usd(min(sum(self.job.costs), MOST_USD * NANOS))} if self.job.costs else {}
        return encoded({**ours, **cost, **outcome})

    # --- the end -------------------------------------------------------------------------------------------------

    def add_helper(self, helper: Future[Any]) -> None:
        """Counts a thread that the job's coroutine waits for: it goes on when the coroutine is cancelled."""
        with self._lock:
            self._helpers.add(helper)
        helper.add_done_callback(self._helper_ended)

    def _helper_ended(self, helper: Future[Any]) -> None:
        with self._lock:
            self._helpers.discard(helper)
            if self._concluded is not None:
                self._conclude(self._concluded)

    def _conclude(self, report: EncodedReport) -> None:
        with self._lock:
            self._concluded = report
            if self._helpers and self._stop is Stop.DRAINED:
                return  # it is not over yet: `_helper_ended`
            self._tell(report)
            if not self.over.done():
                self.over.set_result(None)

    def _tell(self, report: EncodedReport) -> None:
        if not self.report.done():
            self.report.set_result(report)


def _code_of(kind: type[BaseException]) -> dict[str, Any]:
    """The class of an error as the code of the failure, by which the task may say that no other attempt helps. A class may call
    itself anything, and what is no code must not keep the report from being taken."""
    name = _NAME(kind)
    return {"error_code": name} if _CODE.fullmatch(name) else {}


def _log_failure(task_id: str, error: BaseException) -> None:
    try:
        _logger.warning("task %s failed", task_id, exc_info=error)
    except BaseException:  # noqa: BLE001 - errors are somebody else's code, and logging shows their members
        _logger.warning("task %s failed, and its error cannot be shown", task_id)


class HelperThreads(ThreadPoolExecutor):
    """The threads in which coroutines run plain functions (`asyncio.to_thread`), each counted with the job that uses it."""

    def __init__(self) -> None:
        super().__init__(MOST_HELPERS, thread_name_prefix="job-helper")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As the executor's."""
        future = super().submit(fn, *args, **kwargs)
        job = _current.get(None)
        if job is not None:
            job.add_helper(future)
        return future


class LoopWatch:
    """Whether a loop in another thread answers. `ask` is to be called regularly."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        #: When the question that has no answer yet was asked.
        self._asked_at: float | None = None

    def ask(self) -> float:
        """Asks again if the last question was answered; returns for how many seconds it has not been."""
        asked_at = self._asked_at
        if asked_at is not None:
            return time.monotonic() - asked_at
        self._asked_at = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._asked_at = None
        return 0.0

    def _answer(self) -> None:
        self._asked_at = None

    def task_at_work(self) -> str | None:
        """The id of the task whose coroutine the loop is in, if it is known."""
        task = asyncio.current_task(self._loop)
        return task.job.job.id if isinstance(task, _JobTask) else None


def run_again_until(over: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Runs the loop until ``over`` is set and the loop stopped: a handler that stops it, or a task of a handler's that
    exits, does not end it."""
    while not over.is_set():
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of any task end run_forever
            _logger.warning("a job has ended the event loop of all jobs (%s); it runs again", type(error))
        else:
            if not over.is_set():
                _logger.warning("a job has stopped the event loop of all jobs; it runs again")
