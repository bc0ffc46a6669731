"""A lease that reached its client stays with it, wherever the shard is killed on the way from the grant to the delivery.

Two replicas speak with one shard at a time on a real store. Their links lose calls and answers and hold answers back,
clients hang up and come again by the other replica, the shard dies at any of its commits or between two messages, and
time stands still: nothing expires, so whatever is taken away was taken away by mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cluster.domain.base.errors import ActorUnavailable
from cluster.domain.scheduling.answers import Lease, undelivered
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

AGENTS = ("a1", "a2")
REPLICAS = (0, 1)


class MortalTasks:
    """A task store that dies with its shard: at the next commit, before or after it is written."""

    def __init__(self, tasks: Any) -> None:
        self._tasks = tasks
        self.dies: str | None = None
        self.tripped = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    async def decide(self, fence: Any, decisions: Any) -> Any:
        dies, self.dies = self.dies, None
        if dies != "before":
            outcomes = await self._tasks.decide(fence, decisions)
        if dies is None:
            return outcomes
        self.tripped.set()
        return await asyncio.get_running_loop().create_future()


class Replica:
    """What a replica does with claims, over a link that can fail."""

    def __init__(self, system: System, number: int) -> None:
        self.system = system
        self.loses: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.client = ExchangeClient(
            f"replica-{number}", self._call, clock=system.cluster.clock, hold_s=1000.0, late_reply=self._give_back
        )
        self.returns: set[asyncio.Task[Any]] = set()

    async def _call(self, call: ExchangeCall) -> ExchangeReply:
        lost = self.loses.pop() if self.loses else None
        if lost == "call":
            raise ActorUnavailable("the call was lost")
        reply = await self.system.cluster._call(call)
        if lost == "answer":
            self.system.in_doubt = True
            raise ActorUnavailable("the answer was lost")
        await self.open.wait()
        return reply

    def _give_back(self, answer: Any) -> None:
        for request in undelivered(answer):
            task = asyncio.ensure_future(self.client.request(request))
            self.returns.add(task)
            task.add_done_callback(self.returns.discard)


@dataclass(eq=False)
class Claiming:
    """A client's call for work, and what came of it."""

    agent: str
    task: asyncio.Task[Any]


@dataclass
class System:
    """A shard, two replicas, and clients whose calls may be left open."""

    cluster: Cluster
    store: MortalTasks
    replicas: list[Replica] = field(default_factory=list)
    open: list[Claiming] = field(default_factory=list)
    received: list[Lease] = field(default_factory=list)
    submitted: set[str] = field(default_factory=set)
    claims: int = 0
    crashes: int = 0
    in_doubt: bool = False

    def claim(self, agent: str, replica: int, claim_id: str | None) -> None:
        self.claims += 1
        request = ClaimRequest(
            workspace="w",
            agent_id=agent,
            principal=ASKER.principal,
            capabilities=frozenset(),
            max_concurrency=1 if claim_id is None else 2,
            max_tasks=None if claim_id is None else 2,
            claim_id=claim_id or f"claim-{self.claims}",
            client_claim_id=claim_id is not None,
            wait=True,
        )
        task = asyncio.ensure_future(self._received(self.replicas[replica], request))
        self.open.append(Claiming(agent, task))

    async def _received(self, replica: Replica, request: ClaimRequest) -> None:
        answer = await replica.client.request(request, long_poll=True)
        self.received += answer.leases

    async def hang_up(self, which: int) -> None:
        if self.open:
            claiming = self.open.pop(which % len(self.open))
            claiming.task.cancel()
            await asyncio.gather(claiming.task, return_exceptions=True)

    async def kill(self) -> None:
        self.crashes += 1
        self.in_doubt = True
        if self.cluster.shard is not None:
            await self.cluster.crash()
        self.store.dies = None
        self.store.tripped.clear()
        await self.cluster.start(f"life-{self.crashes}")

    async def settle(self) -> None:
        """Every client has hung up or has its answer, and everything that goes back has gone back."""
        self.store.dies = None
        for replica in self.replicas:
            replica.loses.clear()
            replica.open.set()
        while self.open:
            await self.hang_up(0)

        async def quiet() -> bool:
            if self.store.tripped.is_set():
                await self.kill()
            await self.cluster.move_on()  # what is held is sent again; nothing expires by it
            waiting = any(
                replica.client._waiting or replica.client._withdrawn or replica.returns for replica in self.replicas
            )
            return not waiting

        await eventually(quiet)

    async def until(self, what: str) -> None:
        """Waits until all tasks are ``granted`` to somebody, or a lease is ``received``."""

        async def granted() -> bool:
            return {await self.cluster.status(task_id) for task_id in self.submitted} == {TaskStatus.RUNNING}

        await eventually(granted if what == "granted" else lambda: self.received)

    async def turns(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)
        if self.store.tripped.is_set():
            await self.kill()

    async def check(self) -> None:
        """Whoever received a lease may report it. What nobody received waits, unless its answer was lost where neither end
        could see it: in a kill, or with a connection. Such a lease is answered again, or ends with its run time."""
        for lease in self.received:
            # A Conflict: it was taken away from a client that did nothing wrong.
            await self.cluster.driven(self.cluster.report(lease, result_json="1"))
        ours = {lease.head.id for lease in self.received}

        async def nothing_lies_idle() -> bool:
            await self.cluster.move_on(0.05)
            allowed = {TaskStatus.PENDING, *([TaskStatus.RUNNING] if self.in_doubt else [])}
            return {await self.cluster.status(task_id) for task_id in self.submitted - ours} <= allowed

        await eventually(nothing_lies_idle)


step = st.one_of(
    st.tuples(st.just("submit")),
    st.tuples(st.just("claim"), st.sampled_from(AGENTS), st.sampled_from(REPLICAS), st.sampled_from([None, "mine"])),
    st.tuples(st.just("hang up"), st.integers(0, 3)),
    st.tuples(st.just("turns"), st.sampled_from([1, 2, 3, 5, 8, 40])),
    st.tuples(st.just("read")),
    st.tuples(st.just("hold"), st.sampled_from(REPLICAS)),
    st.tuples(st.just("let go"), st.sampled_from(REPLICAS)),
    st.tuples(st.just("lose"), st.sampled_from(REPLICAS), st.sampled_from(["call", "answer"])),
    st.tuples(st.just("kill")),
    st.tuples(st.just("die"), st.sampled_from(["before", "after"])),
)


async def _take(system: System, name: str, *values: Any) -> None:
    if name == "submit":
        system.submitted.add(await system.cluster.submit())
    elif name == "claim":
        system.claim(*values)
    elif name == "hang up":
        await system.hang_up(*values)
    elif name == "turns":
        await system.turns(*values)
    elif name == "read":
        # Real time for the store's answers: a commit, the follower's look at the log.
        await asyncio.wait(
            [claim.task for claim in system.open] or [asyncio.ensure_future(asyncio.sleep(0))], timeout=0.02
        )
    elif name == "hold":
        system.replicas[values[0]].open.clear()
    elif name == "let go":
        system.replicas[values[0]].open.set()
    elif name == "lose":
        system.replicas[values[0]].loses.append(values[1])
    elif name == "kill":
        await system.kill()
    else:
        system.store.dies = values[0]


async def _live(stores: Stores, urls: StoreUrls, steps: list[tuple[Any, ...]]) -> System:
    await stores.pool.execute("truncate tasks, log, controls, shards, idempotency")
    client = connect(urls.redis)
    store = MortalTasks(stores.tasks)

    class Shards(Cluster):
        def task_store(self) -> Any:
            return store

    cluster = Shards(stores, RedisDoorbell(client, fresh_name()))
    system = System(cluster, store)
    system.replicas = [Replica(system, number) for number in REPLICAS]
    await cluster.start("life-0")
    cluster.published = "life-0"
    try:
        for name, *values in steps:
            await (system.until(*values) if name == "until" else _take(system, name, *values))
        await system.settle()
        await system.check()
        return system
    finally:
        for replica in system.replicas:
            replica.open.set()
            await replica.client.close()
        await cluster.client.close()
        if cluster.shard is not None:
            await cluster.shard.stop()
        await cluster.bell.close()
        await client.aclose()


@dataclass
class Ground:
    """One loop and one schema for all examples of a test."""

    runner: asyncio.Runner
    stores: Stores
    urls: StoreUrls

    def live(self, steps: list[tuple[Any, ...]]) -> System:
        return self.runner.run(_live(self.stores, self.urls, steps))


@pytest.fixture(scope="module")
def ground(shared_stores: StoreUrls) -> Iterator[Ground]:
    with asyncio.Runner() as runner:
        name = fresh_name()
        runner.run(migrate(shared_stores.database, name))
        stores = runner.run(open_stores(shared_stores.database, name, "test-region", max_connections=8))
        yield Ground(runner, stores, shared_stores)
        runner.run(stores.close())


#: The report went under the name of a replica, whose waiting call got its answer.
_A_REPORT_WHILE_A_REPLICA_WAITS: list[tuple[Any, ...]] = [
    *[("submit",)] * 4,
    ("claim", "a1", 1, "mine"),
    ("read",),
    *[("submit",)] * 2,
    *[("claim", "a1", 1, None)] * 2,
]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, min_size=4, max_size=25))
@example(steps=_A_REPORT_WHILE_A_REPLICA_WAITS)
def test_a_received_lease_is_never_taken_back(ground: Ground, steps: list[tuple[Any, ...]]) -> None:
    ground.live(steps)


def test_a_late_return_takes_no_lease_that_was_delivered_again(ground: Ground) -> None:
    """The first answer is on its way when its client hangs up and comes back by the other replica, where it gets the same
    lease. The shard dies before it hears that the first answer reached nobody."""
    system = ground.live(
        [
            ("hold", 0),
            ("submit",),
            ("claim", "a1", 0, None),
            ("until", "granted"),
            ("hang up", 0),
            ("claim", "a1", 1, None),
            ("until", "received"),
            ("lose", 0, "call"),
            ("let go", 0),
            ("turns", 1),
            ("kill",),
        ]
    )
    assert [lease.redelivered for lease in system.received] == [True]
