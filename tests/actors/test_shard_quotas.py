"""A quota on running tasks in a shard on a real store: claims wait for it, also after the shard was killed."""

from __future__ import annotations

import asyncio

from cluster.domain.quotas.quotas import QuotaKind
from cluster.domain.scheduling.explain import TaskView
from cluster.domain.scheduling.requests import ExplainRequest
from cluster.domain.tasks.task import TaskStatus
from cluster.ports.wake_ups import WakeTopic
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.shards import TTL_S, Cluster


async def _set(cluster: Cluster, limit: int | None) -> None:
    """Durable, and known to the shard."""
    store = cluster.stores.quotas
    after = (await store.get("w")).changed({QuotaKind.RUNNING_TASKS: limit}, ASKER.principal, cluster.clock.now())
    await store.put(after, after.record(ASKER))
    head = await cluster.stores.log.head()
    await cluster.bell.notify(*WakeTopic)

    async def known() -> bool:
        return cluster.shard is not None and (await cluster.shard.status())["cursor"] >= head

    await eventually(known)


async def test_what_does_not_fit_waits_until_something_ends(cluster: Cluster) -> None:
    held = []
    for n in range(4):
        await cluster.submit()
        if n < 2:
            held.append(await cluster.claim_one(f"a{n}"))
    await _set(cluster, 1)
    assert await cluster.claim("a3") == (), "two run already, which a lower quota does not stop"
    waiting = asyncio.ensure_future(cluster.claim("a4", wait=True))
    task_id = await cluster.submit()
    view: TaskView = await cluster.client.request(ExplainRequest(workspace="w", task_id=task_id))
    assert view.running_quota == 1
    await cluster.report(held[0], result_json="1")
    assert await cluster.claim("a3") == ()
    await cluster.report(held[1], result_json="1")
    (lease,) = await asyncio.wait_for(waiting, 20)
    assert await cluster.claim("a3") == ()
    await _set(cluster, 2)
    assert len(await cluster.claim("a3", max_concurrency=9, max_tasks=9)) == 1
    await _set(cluster, None)
    assert len(await cluster.claim("a5", max_concurrency=9, max_tasks=9)) == 1
    await cluster.report(lease, result_json="1")


async def test_a_killed_shard_counts_what_runs_again(cluster: Cluster) -> None:
    await _set(cluster, 2)
    for _ in range(4):
        await cluster.submit()
    first, second = await cluster.claim_one("a1"), await cluster.claim_one("a2")
    await cluster.crash()
    await cluster.start()
    assert await cluster.claim("a3") == ()
    await cluster.report(first, result_json="1")
    third = await cluster.claim_one("a3")
    assert await cluster.claim("a4") == ()
    await cluster.clock.advance(TTL_S + 1)

    async def lost() -> bool:
        return await cluster.status(second.head.id) is TaskStatus.PENDING

    await eventually(lost)
    assert third.head.id != second.head.id
    assert len(await cluster.claim("a4", max_concurrency=9, max_tasks=9)) == 2, "a lost lease makes room"
