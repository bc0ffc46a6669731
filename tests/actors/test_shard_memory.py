"""A shard that reads its state again keeps nothing of what it held before."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import psutil

from cluster.ports.tasks import SubmitItem
from tests.support.probes import eventually
from tests.support.samples import NOW, new_task
from tests.support.shards import Cluster

#: Measured once with 40,000 waiting tasks and 200 reads as well (docs/robustness.md).
WAITING = 5_000
READS = 40
#: What the first reads cost on top (allocator, caches); the state itself is some 1.2 KB a task, so that keeping every
#: state would take READS times that.
SLACK = 48 * 1024 * 1024


async def test_a_state_that_is_read_again_frees_the_one_before(cluster: Cluster) -> None:
    tasks = [SubmitItem(task=new_task(created_at=NOW, required_capabilities=("nobody",))) for _ in range(WAITING)]
    for start in range(0, WAITING, 1000):
        await cluster.stores.tasks.submit(tasks[start : start + 1000])
    del tasks
    shard = cluster.shard
    assert shard is not None

    async def reads_again() -> None:
        before: Any = shard._state
        shard._fail(before)

        async def serves() -> bool:
            await cluster.clock.advance(1.0)
            return shard._state not in (None, before)

        await eventually(serves)
        assert shard._state is not None
        assert shard._state.core.open_tasks == WAITING

    await eventually(lambda: shard._state is not None and shard._state.core.open_tasks == WAITING)
    states: list[weakref.ref[Any]] = []
    for _ in range(5):
        await reads_again()
    process = psutil.Process()
    settled = process.memory_info().rss
    for _ in range(READS):
        assert shard._state is not None
        states.append(weakref.ref(shard._state.core))
        await reads_again()
    assert gc.get_freeze_count() > 0, "a state of this size is settled"
    assert [core for core in states if core() is not None] == []
    grown = process.memory_info().rss - settled
    assert grown < SLACK, f"{READS} reads took {grown / 2**20:.0f} MiB"


async def test_a_small_state_is_left_to_ordinary_collections(cluster: Cluster) -> None:
    """To settle it would take two collections of the whole process, at each start of a shard that has little to read."""
    await cluster.stores.tasks.submit([SubmitItem(task=new_task(created_at=NOW)) for _ in range(10)])
    await cluster.crash()
    gc.unfreeze()  # whatever a test before this one left
    shard = await cluster.start("two")
    assert (await shard.status())["open_tasks"] == 10
    assert gc.get_freeze_count() == 0
