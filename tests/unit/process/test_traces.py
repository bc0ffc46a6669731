"""A trace id goes where its request's work goes, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cluster.process.group_commit import GroupCommit
from cluster.process.loops import Loops, unwatched
from cluster.process.traces import begin_trace, end_trace, trace, traced, untraced


async def test_a_request_and_the_tasks_that_it_starts_have_its_trace() -> None:
    async def child() -> str:
        await asyncio.sleep(0)
        return trace()

    async def request(trace_id: str) -> list[str]:
        token = begin_trace(trace_id)
        try:
            return [trace(), await child(), await asyncio.create_task(child())]
        finally:
            end_trace(token)

    assert await asyncio.gather(*(request(f"t{n}") for n in range(3))) == [[f"t{n}"] * 3 for n in range(3)]
    assert trace() == ""


@pytest.mark.parametrize(("cause", "found"), [("5f3c", "5f3c"), ("#17", ""), ("", "")])
def test_only_a_cause_that_is_a_request_is_a_trace(cause: str, found: str) -> None:
    with traced("around"):
        with traced(cause):
            assert trace() == found
        assert trace() == "around"


async def test_what_works_for_many_has_the_trace_of_none() -> None:
    """Although one of them started it."""
    seen: list[str] = []

    async def flush(items: Sequence[str]) -> Sequence[str]:
        seen.append(trace())
        return items

    async def loop() -> None:
        seen.append(trace())

    with traced("first"):
        await GroupCommit(flush).put("x")
        loops = Loops(unwatched)
        loops.start(loop())
        await asyncio.sleep(0)
        await asyncio.create_task(loop(), context=untraced())
        assert trace() == "first"
    await loops.stop()
    assert seen == ["", "", ""]
