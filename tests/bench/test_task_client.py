"""The in-cluster client and its worker against a plain shard on real stores: no Ray."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.scheduler.shard import SchedulerShard
from bench.parts.task_client import TaskClient
from bench.parts.task_worker import ClusterWorker, Work
from cluster.domain.base.errors import ActorUnavailable, Conflict
from cluster.domain.tasks.task import IdempotencyKey, TaskStatus
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeReply
from tests.support.probes import eventually
from tests.support.requests import a_cancel
from tests.support.samples import ASKER
from tests.support.stores import StoreUrls, fresh_name
from tests.support.threads import running_in


class Inside:
    """A shard that can be replaced, and clients that reach whichever there is."""

    def __init__(self, stores: Stores, bell: RedisDoorbell) -> None:
        self.stores = stores
        self.bell = bell
        self.shard: SchedulerShard | None = None
        self.clients: list[TaskClient] = []

    async def start(self) -> None:
        self.shard = SchedulerShard(
            shard="scheduler-0",
            owner="test",
            tasks=self.stores.tasks,
            controls=self.stores.controls,
            workspaces=self.stores.access,
            agents=self.stores.agents,
            budgets=self.stores.budgets,
            quotas=self.stores.quotas,
            log=self.stores.log,
            region=self.stores.region,
            doorbell=self.bell,
            clock=SystemClock(),
            lease_ttl_s=30.0,
        )
        await self.shard.start()

    async def call(self, call: ExchangeCall) -> ExchangeReply:
        if self.shard is None:
            raise ActorUnavailable("down")
        return await self.shard.exchange(call)

    def client(self) -> TaskClient:
        clock = SystemClock()
        exchange = ExchangeClient(fresh_name(), self.call, clock=clock)
        made = TaskClient(
            origin=ASKER,
            region="test-region",
            tasks=self.stores.tasks,
            doorbell=self.bell,
            clock=clock,
            scheduler=exchange,
        )
        self.clients.append(made)
        return made

    async def status(self, task_id: str) -> TaskStatus:
        task = await self.stores.tasks.get(ASKER.workspace, task_id)
        assert task is not None
        return task.status


@pytest.fixture
async def inside(stores: Stores, store_urls: StoreUrls) -> AsyncIterator[Inside]:
    redis = connect(store_urls.redis)
    made = Inside(stores, RedisDoorbell(redis, fresh_name()))
    await made.start()
    yield made
    for client in made.clients:
        await client.close()
    if made.shard is not None:
        await made.shard.stop()
    await made.bell.close()
    await redis.aclose()


async def _all_done(inside: Inside, ids: list[str]) -> None:
    async def done() -> bool:
        tasks = await inside.stores.tasks.get_many(ASKER.workspace, ids)
        return all(task.status.terminal for task in tasks.values())

    await eventually(done)


async def test_single_submits_of_many_callers_share_commits(inside: Inside) -> None:
    seen: list[Any] = []

    async def handle(work: Work) -> dict[str, Any]:
        seen.append(work.payload["n"])
        return {"double": work.payload["n"] * 2}

    client = inside.client()
    worker = ClusterWorker(inside.client(), handle, agent_id="w1", slots=4, prefetch=8)
    running = asyncio.create_task(worker.run())
    ids = await asyncio.gather(*(client.submit(client.task("double", {"n": n})) for n in range(200)))
    await _all_done(inside, list(ids))
    assert sorted(seen) == list(range(200))
    tasks = await inside.stores.tasks.get_many(ASKER.workspace, ids)
    assert {tasks[task_id].result["double"] for task_id in ids} == {2 * n for n in range(200)}
    assert all(task.attempt == 1 for task in tasks.values())
    running.cancel()


async def test_a_worker_keeps_to_its_slots_and_reports_what_handlers_raise(
    inside: Inside,
) -> None:
    at_once, most = 0, 0

    async def handle(work: Work) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        raise ValueError("no such thing")

    client = inside.client()
    running = asyncio.create_task(ClusterWorker(inside.client(), handle, agent_id="w1", slots=3, prefetch=9).run())
    ids = await client.submit_many([client.task("fails", max_retries=0) for _ in range(20)])
    await _all_done(inside, ids)
    task = await inside.stores.tasks.get(ASKER.workspace, ids[0])
    assert task is not None
    assert (task.status, task.error) == (TaskStatus.FAILED, "ValueError: no such thing")
    assert most == 3
    running.cancel()


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_worker_writes_a_large_result_off_its_loop(inside: Inside, size: int) -> None:
    async def handle(work: Work) -> Any:
        return list(range(size))

    with running_in("_outcome") as ran:
        client = inside.client()
        running = asyncio.create_task(ClusterWorker(inside.client(), handle, agent_id="w1", slots=1, prefetch=1).run())
        await _all_done(inside, [await client.submit(client.task("counts"))])
        running.cancel()
    assert ran["_outcome"]
    assert (threading.get_ident() in ran["_outcome"]) == (size == 10)


async def test_a_shard_that_restarts_costs_a_worker_nothing(inside: Inside) -> None:
    gate = asyncio.Event()

    async def handle(work: Work) -> str:
        await gate.wait()
        return "done"

    client = inside.client()
    running = asyncio.create_task(ClusterWorker(inside.client(), handle, agent_id="w1", slots=5, prefetch=5).run())
    ids = await client.submit_many([client.task("waits") for _ in range(10)])

    async def all_running() -> bool:
        return all([await inside.status(task_id) is TaskStatus.RUNNING for task_id in ids])

    await eventually(all_running)
    old, inside.shard = inside.shard, None
    assert old is not None
    await old.stop()
    gate.set()
    await inside.start()
    await _all_done(inside, ids)
    tasks = await inside.stores.tasks.get_many(ASKER.workspace, ids)
    assert {(task.status, task.attempt) for task in tasks.values()} == {(TaskStatus.COMPLETED, 1)}
    running.cancel()


async def test_cancelling_stops_the_handler(inside: Inside) -> None:
    stopped = asyncio.Event()

    async def handle(work: Work) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    client = inside.client()
    worker = ClusterWorker(inside.client(), handle, agent_id="w1", slots=1, heartbeat_s=0.02)
    running = asyncio.create_task(worker.run())
    task_id = await client.submit(client.task("long"))

    async def is_running() -> bool:
        return await inside.status(task_id) is TaskStatus.RUNNING

    await eventually(is_running)
    await client.scheduler.request(a_cancel(task_id, workspace=ASKER.workspace))
    await asyncio.wait_for(stopped.wait(), 20)
    await _all_done(inside, [task_id])
    assert await inside.status(task_id) is TaskStatus.CANCELLED
    running.cancel()


async def test_a_key_gives_the_first_task_again_and_refuses_another_body(inside: Inside) -> None:
    client = inside.client()
    first = await client.submit(client.task("t", {"n": 1}), IdempotencyKey(route="tasks", key="k", body_digest=b"1"))
    again = await client.submit(client.task("t", {"n": 1}), IdempotencyKey(route="tasks", key="k", body_digest=b"1"))
    assert again == first
    with pytest.raises(Conflict):
        await client.submit(client.task("t", {"n": 2}), IdempotencyKey(route="tasks", key="k", body_digest=b"2"))
