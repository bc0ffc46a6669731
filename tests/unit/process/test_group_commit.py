"""Group commit: what arrives while a commit is in flight goes into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import ActorUnavailable, Overloaded, StoreUnavailable, Unstorable
from cluster.process.group_commit import GroupCommit
from tests.support.loop_clock import pass_time
from tests.support.probes import eventually


class Flushes:
    """A flush that waits for its turn and can fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.failing: set[int] = set()

    async def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.failing & set(items):
            raise StoreUnavailable("away")
        return [item * 10 for item in items]


async def test_items_that_arrive_during_a_flush_go_into_the_next_one() -> None:
    flushes = Flushes()
    commit_queue: GroupCommit[int, int] = GroupCommit(flushes, max_batch=4)
    first = asyncio.create_task(commit_queue.put(1))
    await eventually(lambda: flushes.batches == [[1]])
    rest = [asyncio.create_task(commit_queue.put(n)) for n in range(2, 8)]
    await asyncio.sleep(0)
    flushes.gate.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40, 50, 60, 70]
    assert flushes.batches == [[1], [2, 3, 4, 5], [6, 7]]


async def test_an_error_goes_to_its_own_batch_only() -> None:
    flushes = Flushes()
    flushes.failing = {2}
    commit_queue: GroupCommit[int, int] = GroupCommit(flushes, max_batch=1)
    flushes.gate.set()
    first, second, third = await asyncio.gather(*(commit_queue.put(n) for n in (1, 2, 3)), return_exceptions=True)
    assert (first, third) == (10, 30)
    assert isinstance(second, StoreUnavailable)
    await commit_queue.drain()


async def test_a_flush_that_ends_in_the_moment_of_the_time_out_counts() -> None:
    flushes = Flushes()
    commit_queue: GroupCommit[int, int] = GroupCommit(flushes, wait_s=60)
    waiting = asyncio.create_task(commit_queue.put(1))
    await eventually(lambda: flushes.batches == [[1]])
    asyncio.get_running_loop().call_later(0.0, flushes.gate.set)
    pass_time(61)  # both are due when the loop runs again, the flush first
    assert await waiting == 10


async def test_a_group_stays_together_even_above_the_bound() -> None:
    flushes = Flushes()
    flushes.gate.set()
    commit_queue: GroupCommit[int, int] = GroupCommit(flushes, max_batch=2)
    groups = await asyncio.gather(
        commit_queue.put_many([1, 2, 3]), commit_queue.put_many([4]), commit_queue.put_many([])
    )
    assert [list(group) for group in groups] == [[10, 20, 30], [40], []]
    assert flushes.batches == [[1, 2, 3], [4]]


async def test_too_many_waiting_are_refused_and_a_cancelled_caller_still_writes() -> None:
    flushes = Flushes()
    commit_queue: GroupCommit[int, int] = GroupCommit(flushes, max_batch=1, max_waiting=2)
    tasks = [asyncio.create_task(commit_queue.put(1))]
    await eventually(lambda: flushes.batches == [[1]])
    tasks += [asyncio.create_task(commit_queue.put(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await commit_queue.put(4)
    tasks[1].cancel()
    flushes.gate.set()
    assert await tasks[2] == 30
    assert flushes.batches == [[1], [2], [3]]


@settings(max_examples=50)
@given(groups=st.lists(st.lists(st.integers(), max_size=5), max_size=20), most=st.integers(1, 6))
def test_every_item_is_flushed_once_in_order(groups: list[list[int]], most: int) -> None:
    async def run() -> None:
        flushes = Flushes()
        flushes.gate.set()
        commit_queue: GroupCommit[int, int] = GroupCommit(flushes, max_batch=most)
        answers = await asyncio.gather(*(commit_queue.put_many(group) for group in groups))
        assert [list(answer) for answer in answers] == [[n * 10 for n in group] for group in groups]
        assert [n for batch in flushes.batches for n in batch] == [n for group in groups for n in group]
        assert all(len(batch) <= max(most, 5) for batch in flushes.batches)

    asyncio.run(run())


@given(count=st.integers(1, 20), data=st.data())
def test_data_that_the_store_refuses_fails_its_own_caller_only(count: int, data: st.DataObject) -> None:
    refused = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    stored: list[int] = []

    async def flush(items: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(0)
        if refused & set(items):
            raise Unstorable("no")
        stored.extend(items)
        return items

    async def together() -> list[int | BaseException]:
        queue: GroupCommit[int, int] = GroupCommit(flush)
        return await asyncio.gather(*map(queue.put, range(count)), return_exceptions=True)

    answers = asyncio.run(together())
    assert stored == [item for item in range(count) if item not in refused], "in order, each once"
    assert {index for index, answer in enumerate(answers) if isinstance(answer, Unstorable)} == refused


async def test_a_caller_may_be_allowed_more_time() -> None:
    released = asyncio.Event()

    async def flush(items: Sequence[int]) -> Sequence[int]:
        await released.wait()
        return items

    def longest_s() -> float:
        released.set()
        return 60.0

    queue: GroupCommit[int, int] = GroupCommit(flush, wait_s=0.01, longest_s=longest_s)
    assert await queue.put(1) == 1


async def test_a_caller_that_waited_too_long_gets_the_queues_own_error() -> None:
    queue: GroupCommit[int, int] = GroupCommit(_never, wait_s=0.01, late=lambda: ActorUnavailable("not there"))
    with pytest.raises(ActorUnavailable, match="not there"):
        await queue.put(1)


async def _never(items: Sequence[int]) -> Sequence[int]:
    await asyncio.Event().wait()
    return items
