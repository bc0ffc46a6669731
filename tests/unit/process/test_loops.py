"""Background work that ends by an error is noticed; work that is done or stopped is not an error."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cluster.process.loops import Loops, ended
from tests.support.probes import eventually


async def _forever() -> None:
    await asyncio.Event().wait()


async def _once() -> None:
    return


async def _broken() -> None:
    raise ZeroDivisionError


async def test_the_first_error_is_told_once_and_in_full(caplog: pytest.LogCaptureFixture) -> None:
    deaths: list[BaseException] = []
    loops = Loops(deaths.append)
    with caplog.at_level(logging.CRITICAL):
        loops.start(_forever(), _once(), _broken(), _broken())
        await eventually(lambda: deaths)
    assert [type(error) for error in deaths] == [ZeroDivisionError]
    assert not loops.running
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None
    await loops.stop()


async def test_stopped_and_finished_work_is_no_error() -> None:
    deaths: list[BaseException] = []
    loops = Loops(deaths.append)
    loops.start(_forever(), _once())
    await asyncio.sleep(0)
    assert loops.running
    await loops.stop()
    assert loops.running
    assert deaths == []


async def test_a_task_that_swallows_cancellations_is_ended_all_the_same() -> None:
    swallowed = 0

    async def work() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await ended(task)
    assert task.cancelled()
    assert swallowed == 3


async def test_a_loop_that_loses_its_first_cancellation_is_stopped_all_the_same() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as of a library that makes an error of its own of it
                if lost:
                    raise
                lost += 1

    deaths: list[BaseException] = []
    loops = Loops(deaths.append)
    loops.start(work())
    await asyncio.sleep(0)
    await asyncio.wait_for(loops.stop(), 30)
    assert (lost, loops.idle, deaths) == (1, True, [])
