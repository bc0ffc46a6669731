"""Two generations of a shard overlap: the older one runs on, and does not know yet that it was replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.scheduler.shard import SchedulerShard
from cluster.domain.base.errors import ActorUnavailable, Conflict
from cluster.domain.scheduling.answers import Lease
from cluster.domain.scheduling.requests import ExtendRequest
from cluster.domain.tasks.task import LeaseToken, TaskStatus
from tests.support.probes import eventually
from tests.support.shards import Cluster


@asynccontextmanager
async def _overlapping(cluster: Cluster) -> AsyncIterator[tuple[SchedulerShard, SchedulerShard, Lease]]:
    """The older shard, its successor, and a lease that the successor has granted on a task that both know."""
    old = cluster.shard
    assert old is not None
    task_id = await cluster.submit()

    async def known() -> bool:
        return bool((await old.status())["open_tasks"])

    await eventually(known)
    cluster.published = "two"
    new = await cluster.start("two")
    try:
        lease = await cluster.claim_one()
        assert lease.head.id == task_id
        yield old, new, lease
    finally:
        cluster.shard = new
        await old.stop()


async def _report(cluster: Cluster, lease: Lease) -> Any:
    return await cluster.report(lease, result_json='{"is": "paid"}')


async def _extend(cluster: Cluster, lease: Lease) -> Any:
    token = LeaseToken.decode(lease.token)
    return await cluster.client.request(
        ExtendRequest(workspace="w", task_id=token.task_id, attempt=token.attempt, agent_id=token.agent_id)
    )


@pytest.mark.parametrize("call", [_report, _extend])
async def test_a_replaced_shard_refuses_no_holder(
    cluster: Cluster, call: Callable[[Cluster, Lease], Awaitable[Any]]
) -> None:
    async with _overlapping(cluster) as (old, new, lease):
        cluster.shard = old
        asked = asyncio.ensure_future(call(cluster, lease))

        async def knows() -> bool:
            try:
                await old.status()
            except ActorUnavailable:
                return True
            return asked.done()

        await eventually(knows)
        assert not asked.done(), asked.exception()
        cluster.shard = new
        await cluster.driven(asked)
        if call is _report:
            assert await cluster.status(lease.head.id) is TaskStatus.COMPLETED


async def test_the_shard_that_owns_the_tasks_refuses_who_holds_nothing(cluster: Cluster) -> None:
    task_id = await cluster.submit()
    lease = await cluster.claim_one()
    await cluster.report(lease, released=True)
    with pytest.raises(Conflict, match="You do not hold the lease"):
        await _report(cluster, lease)
    assert await cluster.status(task_id) is TaskStatus.PENDING
