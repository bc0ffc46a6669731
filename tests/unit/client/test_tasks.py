"""The time limit and the end of tasks, which stand in for what asyncio has not, or not on every Python."""

from __future__ import annotations

import asyncio

import pytest

from aragora_worker.tasks import ended, timeout


async def test_what_takes_too_long_ends_with_the_time() -> None:
    with pytest.raises(TimeoutError):
        async with timeout(0.0):
            await asyncio.Event().wait()
    await asyncio.sleep(0)  # the cancellation is spent


async def test_what_ends_in_time_and_without_a_limit_goes_on() -> None:
    for limit in (60.0, None):
        async with timeout(limit):
            await asyncio.sleep(0)


async def test_an_error_and_a_cancellation_of_others_pass() -> None:
    with pytest.raises(KeyError):
        async with timeout(60.0):
            raise KeyError

    async def waits() -> None:
        async with timeout(60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_that_swallows_a_cancellation_is_ended_all_the_same() -> None:
    swallowed = asyncio.Event()

    async def swallows() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(swallows())
    await asyncio.sleep(0)
    await ended(task)
    assert swallowed.is_set()
    assert task.cancelled()
