"""Reports of one job on their way to the control plane: one call at a time, the newest values, and everybody gets an answer."""

from __future__ import annotations

import asyncio

import pytest

from aragora_worker.base.errors import InvalidRequest
from aragora_worker.base.progress import Progress
from aragora_worker.errors import ApiError, OutcomeUnknown, Unavailable
from aragora_worker.job_progress import Acknowledgement, JobProgress
from aragora_worker.jobs import Job
from aragora_worker.repeating import Patience

AT_ONCE = Patience(first_s=0.0, most_s=0.0)


class ControlPlane:
    """Answers calls when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[Progress, asyncio.Future[None]]] = []
        self.called = asyncio.Event()

    async def send(self, progress: Progress) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls.append((progress, answer))
        self.called.set()
        await answer

    async def call(self, n: int) -> tuple[Progress, asyncio.Future[None]]:
        while len(self.calls) <= n:
            self.called.clear()
            await asyncio.wait_for(self.called.wait(), 20)
        return self.calls[n]


async def test_what_comes_during_a_call_is_one_report_afterwards() -> None:
    plane = ControlPlane()
    job = JobProgress(plane.send, AT_ONCE)
    first = job.put(Progress(percent=1.0, message="one"))
    sent, answer = await plane.call(0)
    assert sent == Progress(percent=1.0, message="one")
    later = [job.put(Progress(percent=float(n))) for n in range(2, 1000)]
    later.append(await asyncio.to_thread(job.put, Progress(checkpoint_json="1")))
    assert len({id(ack._done) for ack in later}) == 1, "a job that reports all the time costs no memory"
    answer.set_result(None)
    await first
    sent, answer = await plane.call(1)
    assert sent == Progress(percent=999.0, checkpoint_json="1")
    assert not later[0]._done.done()
    answer.set_result(None)
    await asyncio.gather(*(asyncio.wrap_future(ack._done) for ack in later))
    await asyncio.to_thread(later[-1].wait, 20)
    assert len(plane.calls) == 2


async def test_an_outage_is_waited_for_and_a_refusal_told() -> None:
    plane = ControlPlane()
    job = JobProgress(plane.send, AT_ONCE)
    waiting = job.put(Progress(percent=1.0))
    for n, error in enumerate((OutcomeUnknown("cut"), Unavailable("down"), ApiError("gone", "lease_lost", 409))):
        sent, answer = await plane.call(n)
        assert sent == Progress(percent=1.0)
        answer.set_exception(error)
    with pytest.raises(ApiError, match="gone"):
        await waiting
    with pytest.raises(ApiError, match="gone"):
        waiting.wait()


async def test_whoever_waits_at_the_end_of_the_job_is_told() -> None:
    plane = ControlPlane()
    job = JobProgress(plane.send, AT_ONCE)
    under_way = job.put(Progress(percent=1.0))
    await plane.call(0)
    unsent = job.put(Progress(percent=2.0))
    await job.settle(0.0)
    await job.close()
    for left in (under_way, unsent, job.put(Progress(percent=3.0))):
        with pytest.raises(Unavailable):
            left.wait(0)


async def test_a_cancelled_wait_withdraws_nothing() -> None:
    plane = ControlPlane()
    job = JobProgress(plane.send, AT_ONCE)
    acknowledgement = job.put(Progress(percent=1.0))
    waiting = asyncio.create_task(_awaited(acknowledgement))
    _, answer = await plane.call(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    answer.set_result(None)
    await acknowledgement


async def _awaited(acknowledgement: Acknowledgement) -> None:
    await acknowledgement


def test_outside_of_a_worker_a_report_is_taken_and_dropped() -> None:
    job = Job(id="t", task_type="x", payload=None, metadata={}, attempt=1, timeout_s=1.0, lease_token="l")
    job.progress(percent=1).wait(0)
    with pytest.raises(InvalidRequest, match="0 to 100"):
        job.progress(percent=101)
