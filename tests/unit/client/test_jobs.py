"""Whatever a job does, its worker gets one report that can be sent, and learns when no code of the job runs any more."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.jobs import HelperThreads, Job, LoopWatch, Reject, RunningJob, Stop, run_again_until
from aragora_worker.tasks import timeout

BASES = (
    Exception,
    BaseException,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    asyncio.CancelledError,
    StopIteration,
    StopAsyncIteration,
    RecursionError,
)
MEMBERS = ("__str__", "__repr__", "__reduce__", "__notes__", "__class__", "args", "__cause__", "__name__")


class Loop:
    """The loop of the jobs, in a thread of its own, as in a worker."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(HelperThreads())
        self.threads = ThreadPoolExecutor(8)
        self._over = threading.Event()
        self._thread = threading.Thread(target=run_again_until, args=(self._over, self.loop), daemon=True)
        self._thread.start()

    def start(self, handler: Callable[[Job], Any], task_id: str = "t") -> RunningJob:
        job = Job(
            id=task_id, task_type="x", payload=None, metadata={}, attempt=1, timeout_s=60.0, lease_token=f"l-{task_id}"
        )
        running = RunningJob(job, "w")
        if asyncio.iscoroutinefunction(handler):
            running.start_coroutine(lambda: handler(job), self.loop)
        else:
            running.start_plain(handler, self.threads, self.loop)
        return running

    def stop(self) -> None:
        self._over.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.threads.shutdown()


@pytest.fixture(scope="module")
def jobs() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


def report_of(running: RunningJob) -> dict[str, Any]:
    running.over.result(30)
    return dict(json.loads(running.report.result(30)[1]))


def _raises(error: BaseException) -> Any:
    raise error


def odd_error(base: type[BaseException], member: str, raised: type[BaseException]) -> BaseException:
    """An error whose member raises, as a class of somebody else's may."""
    raising = property(lambda self: _raises(raised("odd")))
    if member == "__name__":
        return type("Meta", (type(base),), {member: raising})("Odd", (base,), {})()  # type: ignore[no-any-return]
    method = member in ("__str__", "__repr__", "__reduce__")
    return type("Odd", (base,), {member: (lambda self: _raises(raised("odd"))) if method else raising})()


def _pays(job: Job) -> None:
    job.add_cost("0.1")
    job.add_cost(Decimal("2E-9"))
    job.add_cost(1)


def _pays_and_fails(job: Job) -> None:
    job.add_cost("0.5")
    raise Reject("No.")


def _pays_and_says_what_is_no_json(job: Job) -> object:
    job.add_cost("0.5")
    return object()


def test_a_report_has_the_sum_of_what_the_job_has_cost(jobs: Loop) -> None:
    assert report_of(jobs.start(_pays))["cost_usd"] == "1.100000002"
    assert report_of(jobs.start(_pays_and_fails))["cost_usd"] == "0.50"
    assert report_of(jobs.start(_pays_and_says_what_is_no_json))["cost_usd"] == "0.50"
    assert "cost_usd" not in report_of(jobs.start(lambda job: None))


def test_what_is_no_amount_costs_nothing_and_is_refused() -> None:
    job = Job(id="t", task_type="x", payload=None, metadata={}, attempt=1, timeout_s=60.0, lease_token="l-t")
    for amount in ("-1", "", "1e-3", Decimal("NaN"), Decimal("Infinity"), Decimal("-1"), "9000001", True, 0.1 + 0.2):
        with pytest.raises(InvalidRequest, match="amount"):
            job.add_cost(amount)  # type: ignore[arg-type]
    assert job.costs == []


@given(
    st.sampled_from(BASES),
    st.sampled_from(MEMBERS),
    st.sampled_from(BASES),
    st.integers(0, 2),
    st.booleans(),
)
@settings(max_examples=150, derandomize=True)
def test_whatever_a_job_raises_is_one_failure(
    base: type[BaseException], member: str, raised: type[BaseException], depth: int, plain: bool
) -> None:
    def function(job: Job) -> None:
        error = odd_error(base, member, raised)
        for _ in range(depth if sys.version_info >= (3, 11) else 0):
            error = BaseExceptionGroup("many", [error])
        raise error

    async def coroutine(job: Job) -> None:
        function(job)

    report = report_of(_shared().start(function if plain else coroutine))
    assert report["error"]
    assert report["requeue"]
    assert "released" not in report


_LOOPS: list[Loop] = []


def _shared() -> Loop:
    """One loop for all examples of a property: a fixture cannot be used there."""
    if not _LOOPS:
        _LOOPS.append(Loop())
    return _LOOPS[0]


@pytest.mark.parametrize("raised", BASES, ids=lambda kind: kind.__name__)
def test_a_result_is_what_it_holds_whatever_its_methods_raise(jobs: Loop, raised: type[BaseException]) -> None:
    class Odd(dict[str, Any]):
        def items(self) -> Any:
            raise raised("odd")

        __iter__ = __len__ = values = items

    async def coroutine(job: Job) -> Any:
        return Odd(a=1)

    for handler in (coroutine, lambda job: Odd(a=1)):
        assert report_of(jobs.start(handler))["result"] == {"a": 1}


def test_a_result_whose_methods_never_end_is_what_it_holds(jobs: Loop) -> None:
    class Endless(dict[str, Any]):
        def items(self) -> Any:
            return itertools.repeat(("a", 1))

        __iter__ = values = items

    async def coroutine(job: Job) -> Any:
        return Endless(a=[1])

    assert report_of(jobs.start(coroutine))["result"] == {"a": [1]}


def test_a_rejection_without_words_ends_the_task(jobs: Loop) -> None:
    def rejects(job: Job) -> None:
        raise type("Silent", (Reject,), {"__str__": lambda self: _raises(SystemExit(1))})

    report = report_of(jobs.start(rejects))
    assert (report["error"], report["requeue"]) == ("rejected", False)


def _stops_the_loop() -> None:
    asyncio.get_running_loop().stop()


def _cancels_all_tasks() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def _leaves_a_task_that_exits() -> None:
    async def exits() -> None:
        raise SystemExit(3)

    others_task = asyncio.ensure_future(exits())
    assert not others_task.done()


def _leaves_a_callback_that_interrupts() -> None:
    asyncio.get_running_loop().call_soon(lambda: _raises(KeyboardInterrupt()))


@pytest.mark.parametrize(
    "deed",
    [_stops_the_loop, _cancels_all_tasks, _leaves_a_task_that_exits, _leaves_a_callback_that_interrupts],
)
def test_what_a_job_does_to_the_loop_ends_no_other_job(jobs: Loop, deed: Callable[..., None]) -> None:
    began, go = threading.Event(), asyncio.Event()

    async def good(job: Job) -> str:
        began.set()
        await go.wait()
        return "good"

    async def bad(job: Job) -> str:
        deed()
        await asyncio.sleep(0)
        return "bad"

    other = jobs.start(good, "good")
    assert began.wait(30)
    assert report_of(jobs.start(bad, "bad"))["result"] == "bad"
    jobs.loop.call_soon_threadsafe(go.set)
    assert report_of(other)["result"] == "good"
    assert report_of(jobs.start(good, "later"))["result"] == "good"
    # Else asyncio logs the error of the task in whatever comes next. If that parses, Python 3.11 fails the parse.
    gc.collect()


def test_a_job_may_cancel_its_own_tasks_and_times_out_itself(jobs: Loop) -> None:
    async def own(job: Job) -> str:
        try:
            async with timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    assert report_of(jobs.start(own))["result"] == "timed out"


def _given_back(report: dict[str, Any]) -> bool:
    return report.get("released") is True and report["requeue"] is True and "result" not in report


def test_a_drained_coroutine_is_given_back_whatever_it_makes_of_its_cancellation(jobs: Loop) -> None:
    async def waits(job: Job) -> None:
        began.set()
        await asyncio.Event().wait()

    async def raises(job: Job) -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the library's own") from None

    for handler in (waits, raises):
        began = threading.Event()
        running = jobs.start(handler)
        assert began.wait(30)
        running.stop(Stop.DRAINED)
        assert _given_back(report_of(running))


def test_a_drained_plain_function_is_given_back_when_it_has_ended(jobs: Loop) -> None:
    began, go = threading.Event(), threading.Event()

    def function(job: Job) -> str:
        began.set()
        assert job.cancelled.wait(30)
        assert go.wait(30)
        return "half done"

    running = jobs.start(function)
    assert began.wait(30)
    running.stop(Stop.DRAINED)
    assert not running.report.done()
    assert not running.over.done()
    go.set()
    assert _given_back(report_of(running))


def test_a_drained_coroutine_is_given_back_after_its_threads(jobs: Loop) -> None:
    """A thread goes on when the coroutine that waits for it is cancelled."""
    began, go, cancelled = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> None:
        began.set()
        assert go.wait(30)

    async def coroutine(job: Job) -> None:
        try:
            await asyncio.gather(asyncio.to_thread(blocks), asyncio.to_thread(blocks))
        finally:
            cancelled.set()

    running = jobs.start(coroutine)
    assert began.wait(30)
    running.stop(Stop.DRAINED)
    assert cancelled.wait(30)
    _turn(jobs)
    assert not running.report.done()
    assert not running.over.done()
    go.set()
    assert _given_back(report_of(running))


def _turn(jobs: Loop) -> None:
    """Waits until the loop has done what was scheduled before."""
    for _ in range(5):
        done: Future[None] = Future()
        jobs.loop.call_soon_threadsafe(done.set_result, None)
        done.result(30)


def test_a_job_that_has_not_begun_when_it_is_stopped_never_does(jobs: Loop) -> None:
    began, go = threading.Event(), threading.Event()
    ran: list[str] = []

    async def blocks(job: Job) -> None:
        began.set()
        go.wait(30)

    async def waits(job: Job) -> None:
        ran.append(job.id)

    blocking = jobs.start(blocks)
    assert began.wait(30)
    waiting = jobs.start(waits)
    waiting.stop(Stop.DRAINED)
    assert _given_back(report_of(waiting))
    go.set()
    report_of(blocking)
    _turn(jobs)
    assert ran == []


def test_a_cancelled_plain_function_is_reported_before_it_ends(jobs: Loop) -> None:
    """Nobody waits for its result, so it cannot run twice."""
    began, go = threading.Event(), threading.Event()

    def function(job: Job) -> None:
        began.set()
        go.wait(30)

    running = jobs.start(function)
    assert began.wait(30)
    running.stop(Stop.CANCELLED)
    report = json.loads(running.report.result(30)[1])
    assert (report["error"], report["requeue"], running.over.done()) == ("cancelled", False, False)
    go.set()
    running.over.result(30)


def test_a_blocked_loop_is_seen_with_the_task_that_blocks_it(jobs: Loop) -> None:
    began, go = threading.Event(), threading.Event()

    async def blocks(job: Job) -> None:
        began.set()
        go.wait(30)

    running = jobs.start(blocks, "blocker")
    assert began.wait(30)
    watch = LoopWatch(jobs.loop)
    watch.ask()
    assert watch.ask() > 0
    assert watch.task_at_work() == "blocker"
    go.set()
    report_of(running)
    _turn(jobs)
    assert watch.ask() == 0


def test_a_job_without_a_handler_is_a_failure(jobs: Loop) -> None:
    job = Job(id="t", task_type="x", payload=None, metadata={}, attempt=1, timeout_s=60.0, lease_token="l")
    running = RunningJob(job, "w")
    running.fail(LookupError("this worker has no handler for x"))
    assert "no handler for x" in report_of(running)["error"]
