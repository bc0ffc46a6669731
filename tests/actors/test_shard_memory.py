"""A shard that reads its state again keeps nothing of the states before."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.ports.tasks import SubmitItem
from tests.support.probes import eventually
from tests.support.samples import NOW, new_task
from tests.support.shards import Cluster

#: Enough for the shard to freeze its state, which it does from some 3,000 tasks on.
WAITING = 4_000
READS = 12
#: Each loop of the shard (follower, timers, housekeeping) and this test hold at most one earlier state until they wake.
HOLDERS = 4


async def test_earlier_states_do_not_pile_up_when_a_state_is_read_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loops of the shard hold an earlier state until they wake, so it is frozen together with the present one. It refers
    to itself (its follower applies rows to it), so only a collection can free it, and only after it is unfrozen."""
    tasks = [SubmitItem(task=new_task(created_at=NOW, required_capabilities=("nobody",))) for _ in range(WAITING)]
    for start in range(0, WAITING, 1000):
        await cluster.stores.tasks.submit(tasks[start : start + 1000])
    del tasks
    shard = cluster.shard
    assert shard is not None
    await eventually(lambda: shard._state is not None and shard._state.core.open_tasks == WAITING)
    cores: list[weakref.ref[Any]] = []
    followers: list[weakref.ref[Any]] = []
    alive_during_reads: list[int] = []
    open_tasks = shard._tasks.open_tasks

    async def counted(batches: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for batch in batches:
            alive_during_reads.append(sum(follower() is not None for follower in followers))
            yield batch

    async def open_tasks_counted(name: str) -> tuple[int, AsyncIterator[Any]]:
        cursor, batches = await open_tasks(name)
        return cursor, counted(batches)

    monkeypatch.setattr(shard._tasks, "open_tasks", open_tasks_counted)

    async def reads_again() -> None:
        before: Any = shard._state
        cores.append(weakref.ref(before.core))
        followers.append(weakref.ref(before.follower))
        shard._generations.fail(before)

        async def serves() -> bool:
            await cluster.clock.advance(1.0)
            return shard._state not in (None, before)

        await eventually(serves)

    for _ in range(READS):
        await reads_again()
        assert shard._state is not None
        assert shard._state.core.open_tasks == WAITING
        assert gc.get_freeze_count() > 0, "a state of this size is frozen"
    assert [core for core in cores if core() is not None] == []
    assert len(alive_during_reads) >= READS
    assert max(alive_during_reads) <= HOLDERS < READS, alive_during_reads


async def test_a_small_state_is_left_to_ordinary_collections(cluster: Cluster) -> None:
    """To settle it would take two collections of the whole process, at each start of a shard that has little to read."""
    await cluster.stores.tasks.submit([SubmitItem(task=new_task(created_at=NOW)) for _ in range(10)])
    await cluster.crash()
    gc.unfreeze()  # whatever a test before this one left
    shard = await cluster.start("two")
    assert (await shard.status())["open_tasks"] == 10
    assert gc.get_freeze_count() == 0
