"""A claim that is repeated under its id while the former call is unanswered: the newest call alone gets the lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import ActorUnavailable, Conflict
from cluster.domain.scheduling.answers import ClaimAnswer, undelivered
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.task import TaskStatus
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.redis.pool import connect
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeReply
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.shards import Cluster
from tests.support.stores import StoreUrls, fresh_name

REPLICAS = (0, 1)


class HeldTasks:
    """A task store whose commits wait while ``go_on`` is not set. ``deciding`` is set once one has begun."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.deciding = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    async def decide(self, fence: Any, decisions: Any) -> Any:
        self.deciding.set()
        await self.go_on.wait()
        return await self._tasks.decide(fence, decisions)


class Claimant:
    """An agent that repeats its claim under one id, by any of two replicas; ``calls`` in the order in which it made them."""

    def __init__(self, cluster: Cluster, store: HeldTasks) -> None:
        self.cluster = cluster
        self.store = store
        self.loses: dict[int, list[str]] = {number: [] for number in REPLICAS}
        self.clients = [self._client(number) for number in REPLICAS]
        self.calls: list[asyncio.Task[ClaimAnswer]] = []
        self.returns: set[asyncio.Task[Any]] = set()

    def _client(self, number: int) -> ExchangeClient:
        async def call(message: ExchangeCall) -> ExchangeReply:
            lost = self.loses[number].pop() if self.loses[number] else None
            if lost == "call":
                raise ActorUnavailable("the call was lost")
            reply = await self.cluster._call(message)
            if lost == "answer":
                raise ActorUnavailable("the answer was lost")
            return reply

        return ExchangeClient(
            f"replica-{number}", call, clock=self.cluster.clock, hold_s=1000.0, late_reply=self._give_back
        )

    def _give_back(self, answer: Any) -> None:
        for request in undelivered(answer):
            task = asyncio.ensure_future(self.clients[0].request(request))
            self.returns.add(task)
            task.add_done_callback(self.returns.discard)

    def claim(self, replica: int, max_tasks: int | None = 1, *, wait: bool = True) -> asyncio.Task[ClaimAnswer]:
        request = ClaimRequest(
            workspace="w",
            agent_id="a1",
            principal=ASKER.principal,
            capabilities=frozenset(),
            max_concurrency=4,
            max_tasks=max_tasks,
            claim_id="mine",
            client_claim_id=True,
            wait=wait,
            asked_at=self.cluster.clock.now() + len(self.calls) / 1000,
        )
        task = asyncio.ensure_future(self.clients[replica].request(request, long_poll=wait))
        self.calls.append(task)
        return task

    async def waits(self) -> None:
        """Returns when a claim waits at the shard."""

        async def waiting() -> bool:
            return self.cluster.shard is not None and (await self.cluster.shard.status())["waiting_claims"] > 0

        await eventually(waiting)

    async def close(self) -> None:
        self.store.go_on.set()
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        for client in self.clients:
            await client.close()


async def _refused(call: asyncio.Task[ClaimAnswer]) -> bool:
    """Whether the call was answered 409 ``superseded``."""
    with pytest.raises(Conflict) as refusal:
        await asyncio.wait_for(asyncio.shield(call), 20)
    return refusal.value.code == "superseded"


async def _leases(call: asyncio.Task[ClaimAnswer]) -> list[str]:
    return [lease.head.id for lease in (await asyncio.wait_for(asyncio.shield(call), 20)).leases]


async def _claimant(stores: Stores, urls: StoreUrls) -> tuple[Claimant, Any]:
    redis = connect(urls.redis)
    store = HeldTasks(stores.tasks)

    class Held(Cluster):
        def task_store(self) -> Any:
            return store

    cluster = Held(stores, RedisDoorbell(redis, fresh_name()))
    await cluster.start()
    return Claimant(cluster, store), redis


async def _end(claimant: Claimant, redis: Any) -> None:
    await claimant.close()
    await claimant.cluster.client.close()
    if claimant.cluster.shard is not None:
        await claimant.cluster.shard.stop()
    await claimant.cluster.bell.close()
    await redis.aclose()


@pytest.fixture
async def claimant(stores: Stores, store_urls: StoreUrls) -> AsyncIterator[Claimant]:
    made, redis = await _claimant(stores, store_urls)
    yield made
    await _end(made, redis)


@pytest.mark.parametrize("second", REPLICAS)
@pytest.mark.parametrize("max_tasks", [None, 1, 4])
async def test_of_two_waiting_claims_under_one_id_the_newest_gets_the_lease(
    claimant: Claimant, second: int, max_tasks: int | None
) -> None:
    first = claimant.claim(0, max_tasks)
    await claimant.waits()
    newest = claimant.claim(second, max_tasks)
    assert await _refused(first), "at once, before there is anything to claim"
    task_id = await claimant.cluster.submit()
    assert await _leases(newest) == [task_id]


async def test_a_third_claim_under_one_id_replaces_the_second(claimant: Claimant) -> None:
    calls = []
    for replica in (0, 1, 0):
        calls.append(claimant.claim(replica))
        await claimant.waits()
    assert await _refused(calls[0])
    assert await _refused(calls[1])
    task_id = await claimant.cluster.submit()
    assert await _leases(calls[2]) == [task_id]


@pytest.mark.parametrize("second", REPLICAS)
async def test_a_claim_whose_commit_is_under_way_gives_way_to_the_newest(claimant: Claimant, second: int) -> None:
    first = claimant.claim(0)
    await claimant.waits()
    claimant.store.go_on.clear()
    claimant.store.deciding.clear()
    task_id = await claimant.cluster.submit()
    await asyncio.wait_for(claimant.store.deciding.wait(), 20)
    newest = claimant.claim(second)
    assert await _refused(first), "before the commit has ended"
    claimant.store.go_on.set()
    assert await _leases(newest) == [task_id]
    assert await claimant.cluster.kinds(task_id) == ["submitted", "claimed"], "the lease was never taken back"


async def test_a_lease_of_a_replaced_claim_is_released_if_the_newest_leaves(claimant: Claimant) -> None:
    first = claimant.claim(0)
    await claimant.waits()
    claimant.store.go_on.clear()
    claimant.store.deciding.clear()
    task_id = await claimant.cluster.submit()
    await asyncio.wait_for(claimant.store.deciding.wait(), 20)
    newest = claimant.claim(1)
    assert await _refused(first)
    newest.cancel()
    claimant.store.go_on.set()

    async def waits_again() -> bool:
        return await claimant.cluster.status(task_id) is TaskStatus.PENDING

    await eventually(waits_again)


async def test_an_older_claim_that_is_sent_again_does_not_replace_the_newest(claimant: Claimant) -> None:
    """The older claim's answer (superseded) is lost with its connection, so its replica sends it again."""
    first = claimant.claim(0)
    await claimant.waits()
    claimant.loses[0].append("answer")
    newest = claimant.claim(1)
    await claimant.waits()
    claimant.claim(0).cancel()  # takes the loss along

    async def refused() -> bool:
        await claimant.cluster.move_on()
        return first.done()

    await eventually(refused)
    assert await _refused(first)
    task_id = await claimant.cluster.submit()
    assert await _leases(newest) == [task_id]


async def test_claims_under_other_ids_and_of_other_agents_are_left_alone(claimant: Claimant) -> None:
    first = claimant.claim(0)
    await claimant.waits()
    cluster = claimant.cluster
    others = [
        asyncio.ensure_future(cluster.claim("a2", wait=True, claim_id="mine", client_claim_id=True)),
        asyncio.ensure_future(cluster.claim("a1", wait=True, claim_id="another", client_claim_id=True)),
        asyncio.ensure_future(cluster.claim("a1", wait=True, workspace="w2", claim_id="mine", client_claim_id=True)),
    ]

    async def all_wait() -> bool:
        assert cluster.shard is not None
        return (await cluster.shard.status())["waiting_claims"] == 4

    await eventually(all_wait)
    assert not first.done()
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)


step = st.one_of(
    st.tuples(st.just("submit")),
    st.tuples(st.just("claim"), st.sampled_from(REPLICAS), st.sampled_from([None, 1, 4]), st.booleans()),
    st.tuples(st.just("turns"), st.sampled_from([1, 2, 3, 5, 8, 40])),
    st.tuples(st.just("read")),
    st.tuples(st.just("hold")),
    st.tuples(st.just("let go")),
    st.tuples(st.just("lose"), st.sampled_from(REPLICAS), st.sampled_from(["call", "answer"])),
    st.tuples(st.just("kill")),
)


async def _take(claimant: Claimant, name: str, *values: Any) -> None:
    if name == "submit":
        await claimant.cluster.submit()
    elif name == "claim":
        claimant.claim(values[0], values[1], wait=values[2])
    elif name == "turns":
        for _ in range(values[0]):
            await asyncio.sleep(0)
    elif name == "read":
        # Real time for the store's answers: a commit, the follower's look at the log.
        await asyncio.wait([*claimant.calls, asyncio.ensure_future(asyncio.sleep(0.02))], timeout=0.02)
    elif name == "hold":
        claimant.store.go_on.clear()
    elif name == "let go":
        claimant.store.go_on.set()
    elif name == "lose":
        claimant.loses[values[0]].append(values[1])
    else:
        claimant.store.go_on.set()
        await claimant.cluster.crash()
        await claimant.cluster.driven(claimant.cluster.start())


async def _check(claimant: Claimant) -> None:
    """Every call is answered, an older one perhaps ``superseded``; the newest has the leases and may report them."""
    claimant.store.go_on.set()
    for losses in claimant.loses.values():
        losses.clear()
    newest = claimant.claim(0, 4)
    await claimant.cluster.submit()

    async def all_answered() -> bool:
        await claimant.cluster.move_on()  # what is held is sent again; nothing expires by it
        return all(call.done() for call in claimant.calls)

    await eventually(all_answered)
    for call in claimant.calls:
        error = call.exception()
        assert error is None or (isinstance(error, Conflict) and error.code == "superseded"), repr(error)
    held = newest.result().leases
    assert held, "the newest call has the leases"
    for lease in held:
        await claimant.cluster.driven(claimant.cluster.report(lease, result_json="1"))


@pytest.fixture(scope="module")
def ground(shared_stores: StoreUrls) -> Iterator[Any]:
    with asyncio.Runner() as runner:
        name = fresh_name()
        runner.run(migrate(shared_stores.database, name))
        stores = runner.run(open_stores(shared_stores.database, name, "test-region", max_connections=8))

        async def live(steps: list[tuple[Any, ...]]) -> None:
            await stores.pool.execute("truncate tasks, log, controls, shards, idempotency")
            claimant, redis = await _claimant(stores, shared_stores)
            try:
                for name, *values in steps:
                    await _take(claimant, name, *values)
                await _check(claimant)
            finally:
                await _end(claimant, redis)

        yield lambda steps: runner.run(live(steps))
        runner.run(stores.close())


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, min_size=3, max_size=20))
def test_whatever_is_lost_the_newest_call_under_an_id_has_the_leases(ground: Any, steps: list[tuple[Any, ...]]) -> None:
    ground(steps)
