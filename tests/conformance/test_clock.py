"""What both adapters of `Clock` do: the machine's, and the one that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cluster.ports.clock import Clock
from cluster.process.clock import ManualClock, SystemClock
from cluster.process.loops import ended
from tests.support.probes import eventually

#: Sees to it that so many seconds pass.
Pass = Callable[[float], Awaitable[None]]
Timed = tuple[Clock, Pass]


@pytest.fixture(params=["system", "manual"])
async def timed(request: pytest.FixtureRequest) -> AsyncIterator[Timed]:
    if request.param == "manual":
        manual = ManualClock()
        yield manual, manual.advance
        return
    system = SystemClock()

    async def passes(seconds: float) -> None:
        until = system.now() + seconds
        await eventually(lambda: system.now() >= until)

    yield system, passes


async def test_now_moves_with_the_time_that_passes(timed: Timed) -> None:
    clock, passes = timed
    before = clock.now()
    await passes(0.05)
    assert clock.now() >= before + 0.05


async def test_sleepers_wake_after_their_time_in_its_order(timed: Timed) -> None:
    clock, passes = timed
    woken: list[float] = []
    began = clock.now()

    async def sleeps(seconds: float) -> None:
        await clock.sleep(seconds)
        assert clock.now() >= began + seconds - 0.001  # the loop's timer has another resolution than the wall
        woken.append(seconds)

    sleeping = [asyncio.create_task(sleeps(seconds)) for seconds in (0.3, 0.01, 0.15)]
    await asyncio.sleep(0)
    await passes(0.3)
    await eventually(lambda: len(woken) == 3)
    assert woken == [0.01, 0.15, 0.3]
    await ended(*sleeping)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_no_time_lets_the_others_run_once(timed: Timed, seconds: float) -> None:
    clock, _ = timed
    ran = []
    asyncio.get_running_loop().call_soon(ran.append, True)
    await clock.sleep(seconds)
    assert ran == [True]


async def test_a_sleeper_that_is_cancelled_wakes_nobody_else(timed: Timed) -> None:
    clock, passes = timed
    woken: list[str] = []

    async def sleeps(name: str) -> None:
        await clock.sleep(0.05)
        woken.append(name)

    first, second = (asyncio.create_task(sleeps(name)) for name in ("first", "second"))
    await asyncio.sleep(0)
    first.cancel()
    await passes(0.05)
    await eventually(lambda: bool(woken))
    assert woken == ["second"]
    await ended(first, second)
