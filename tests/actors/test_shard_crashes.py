"""The task machine, the SQL and the shard together: a shard that is stopped before or after any of its commits, and started
again, leaves the same end in the store as one that is never stopped."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import LogRow
from cluster.domain.scheduling.answers import Lease
from cluster.domain.scheduling.requests import HeartbeatRequest
from cluster.domain.tasks.machine import TRANSITIONS, TransitionRule
from cluster.domain.tasks.phases import TaskPhase
from cluster.domain.tasks.rules import Edge, TaskRules, WhenFailed
from cluster.postgres.stores import Stores
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from tests.support.probes import eventually
from tests.support.shards import TTL_S, Cluster
from tests.support.stores import StoreUrls, fresh_name


class Tripwire:
    """A task store that stops answering at the ``at``-th commit: before it is written, or after."""

    def __init__(self, stores: Stores, at: int, *, written: bool) -> None:
        self._tasks = stores.tasks
        self._at = at
        self._written = written
        self.commits = 0
        self.tripped = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    async def decide(self, fence: Any, decisions: Any) -> Any:
        self.commits += 1
        if self.commits != self._at:
            return await self._tasks.decide(fence, decisions)
        if self._written:
            await self._tasks.decide(fence, decisions)
        self.tripped.set()
        return await asyncio.get_running_loop().create_future()


class CrashingCluster(Cluster):
    """Its shard dies at one commit, and another one is started at once; time moves on by itself while calls wait."""

    def __init__(self, stores: Stores, bell: RedisDoorbell, at: int, *, written: bool) -> None:
        super().__init__(stores, bell)
        self.wire = Tripwire(stores, at, written=written)
        self.crashes = 0

    def task_store(self) -> Any:
        return self.wire

    async def watch(self) -> None:
        await self.wire.tripped.wait()
        self.crashes += 1
        await self.crash()
        await self.start("two")

    async def still(self, work: Awaitable[Any]) -> Any:
        """The result of a call that may have to outlive its shard: a held call is repeated after a moment."""
        call = asyncio.ensure_future(work)
        while not call.done():
            await asyncio.wait({call}, timeout=0.02)
            if not call.done():
                await self.clock.advance(0.05)
        return call.result()

    async def took(self, agent_id: str = "a1", **changes: Any) -> Lease:
        (lease,) = await self.still(
            self.claim(agent_id, wait=True, claim_id=f"c-{agent_id}", client_claim_id=True, **changes)
        )
        return lease

    async def is_settled(self, task_id: str, expected: str) -> None:
        async def check() -> bool:
            task = await self.stores.tasks.get("w", task_id)
            return task is not None and task.status_detail.value == expected

        await self.still(eventually(check))


async def _retry_and_complete(cluster: CrashingCluster) -> list[str]:
    task_id = await cluster.submit(max_retries=2)
    lease = await cluster.took("a1")
    await cluster.still(cluster.report(lease, error="again"))
    await cluster.clock.advance(2)
    lease = await cluster.took("a2")
    await cluster.still(cluster.report(lease, result_json="1"))
    await cluster.still(cluster.report(lease, result_json="1"))
    return [task_id]


async def _lose_a_lease_and_die(cluster: CrashingCluster) -> list[str]:
    task_id = await cluster.submit(max_retries=0)
    lease = await cluster.took("a1")
    await cluster.clock.advance(TTL_S + 1)
    await cluster.is_settled(task_id, "dead_lettered")
    with pytest.raises(Conflict):
        await cluster.still(cluster.report(lease, result_json="1"))
    return [task_id]


async def _cancel_while_running(cluster: CrashingCluster) -> list[str]:
    task_id = await cluster.submit()
    await cluster.took("a1")
    await cluster.still(cluster.cancel(task_id))
    await cluster.still(cluster.client.request(HeartbeatRequest(agents=(("w", "a1"),))))
    await cluster.clock.advance(21)
    await cluster.is_settled(task_id, "cancelled")
    return [task_id]


async def _run_after_others(cluster: CrashingCluster) -> list[str]:
    first, second = await cluster.submit(max_retries=0), await cluster.submit()
    both = (Edge(after=first, when_failed=WhenFailed.RUN_ANYWAY), Edge(after=second))
    then = await cluster.submit(rules=TaskRules(after=both))
    never = await cluster.submit(rules=TaskRules(after=(Edge(after=first),)))
    follows = await cluster.submit(rules=TaskRules(after=(Edge(after=never),)))
    await cluster.still(cluster.report(await cluster.took("a1"), error="no"))
    await cluster.still(cluster.report(await cluster.took("a2"), result_json="2"))
    lease = await cluster.took("a3")
    assert lease.head.id == then
    await cluster.still(cluster.report(lease, result_json="3"))
    await cluster.is_settled(follows, "failed")
    late = await cluster.submit(rules=TaskRules(after=(Edge(after=second),)))
    await cluster.is_settled(late, "queued")
    return [first, second, then, never, follows, late]


async def _one_slot_and_a_pause(cluster: CrashingCluster) -> list[str]:
    one_at_a_time = TaskRules(concurrency_key="k")
    first = await cluster.submit(rules=one_at_a_time)
    second = await cluster.submit(rules=one_at_a_time, queue="q")
    lease = await cluster.took("a1")
    assert lease.head.id == first
    assert await cluster.still(cluster.claim("a2")) == ()
    await cluster.pause("q", True)
    await cluster.still(cluster.report(lease, result_json="1"))
    assert await cluster.still(cluster.claim("a2")) == ()
    await cluster.pause("q", False)
    lease = await cluster.took("a3")
    await cluster.still(cluster.report(lease, result_json="2"))
    return [first, second]


async def _time_out(cluster: CrashingCluster) -> list[str]:
    waiting = await cluster.submit(rules=TaskRules(queue_timeout_s=5.0), required_capabilities=("nobody",))
    slow = await cluster.submit(timeout_s=10.0, max_retries=1)
    await cluster.took("a1")
    for _ in range(2):
        await cluster.clock.advance(6)
    await cluster.is_settled(waiting, "timeout")
    await cluster.is_settled(slow, "retrying")
    await cluster.clock.advance(2)
    await cluster.took("a2")
    await cluster.clock.advance(11)
    await cluster.is_settled(slow, "timeout")
    return [waiting, slow]


SCENARIOS = [
    _retry_and_complete,
    _lose_a_lease_and_die,
    _cancel_while_running,
    _run_after_others,
    _one_slot_and_a_pause,
    _time_out,
]


async def _live(
    stores: Stores, urls: StoreUrls, scenario: Callable[[CrashingCluster], Awaitable[list[str]]], at: int, written: bool
) -> tuple[int, list[tuple[str, ...]], list[list[LogRow]]]:
    """(crashes, status and counts of each task, its log rows)"""
    client = connect(urls.redis)
    cluster = CrashingCluster(stores, RedisDoorbell(client, fresh_name()), at, written=written)
    await cluster.start()
    watching = asyncio.create_task(cluster.watch())
    try:
        ids = await scenario(cluster)
        ends = []
        for task_id in ids:
            task = await stores.tasks.get("w", task_id)
            assert task is not None
            ends.append((task.status_detail.value, str(task.result), str(task.retries), str(task.attempt)))
        rows = await stores.log.read(0, 100_000)
        return cluster.crashes, ends, [[row for row in rows if row.entity == task_id] for task_id in ids]
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        if cluster.shard is not None:
            await cluster.shard.stop()
        await cluster.client.close()
        await cluster.bell.close()
        await client.aclose()
        await stores.pool.execute("update tasks set status = 'cancelled' where status in ('pending', 'running')")


def _is_a_life(rows: list[LogRow]) -> bool:
    """Whether the table allows these rows in this order; an attempt has one number for good."""
    phases = {TaskPhase.PENDING}
    attempt = 0
    for row in rows[1:]:
        assert row.attempt is not None
        assert row.attempt == attempt + (row.kind == "task.claimed"), (row.kind, row.attempt, attempt)
        attempt = row.attempt
        rules = [
            rule for (phase, _), rule in TRANSITIONS.items() if phase in phases and isinstance(rule, TransitionRule)
        ]
        phases = {to for rule in rules if row.kind in rule.kinds for to in rule.to}
        if not phases:
            return False
    return True


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__.strip("_"))
@pytest.mark.parametrize("written", [True, False], ids=["after", "before"])
async def test_a_shard_that_dies_at_any_commit_leaves_the_same_end(
    stores: Stores, store_urls: StoreUrls, scenario: Callable[[Any], Awaitable[list[str]]], written: bool
) -> None:
    _, expected, _ = await _live(stores, store_urls, scenario, 0, written)
    for at in itertools.count(1):
        crashes, ends, lives = await _live(stores, store_urls, scenario, at, written)
        assert [end[:3] for end in ends] == [end[:3] for end in expected], f"commit {at}"
        for rows in lives:
            assert _is_a_life(rows), [row.kind for row in rows]
        if crashes == 0:
            break
    assert at > 2, "the scenario has commits to die at"
