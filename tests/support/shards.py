"""A scheduler shard without Ray, on a real store, and the calls that a replica makes to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from typing import Any, TypeVar

from actors.scheduler.shard import SchedulerShard
from cluster.domain.base.errors import ActorUnavailable
from cluster.domain.base.log import record_for
from cluster.domain.scheduling.answers import Lease
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.task import LeaseToken, TaskStatus
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from cluster.redis.wake_ups import RedisDoorbell
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeReply
from tests.support.probes import eventually
from tests.support.requests import a_cancel, a_report
from tests.support.samples import ASKER, NOW, new_task

T = TypeVar("T")

TTL_S = 30.0
_claims = itertools.count(1)


class Cluster:
    """One shard at a time, reached as a replica reaches it: by an exchange that outlives restarts."""

    def __init__(self, stores: Stores, bell: RedisDoorbell) -> None:
        self.stores = stores
        self.bell = bell
        self.clock = ManualClock(NOW)
        #: How far `move_on` has moved the clock.
        self._moved_s = 0.0
        self.published = "one"
        self.deaths: list[BaseException] = []
        self.died = asyncio.Event()
        self.shard: SchedulerShard | None = None
        #: Its name is nobody else's: an exchange gives the answers for one name to whichever call of that name is there.
        self.client = ExchangeClient("the-test", self._call, clock=self.clock, hold_s=1000.0)

    async def _call(self, call: ExchangeCall) -> ExchangeReply:
        """As Ray does it: a call in flight fails when the actor's process dies."""
        if self.shard is None:
            raise ActorUnavailable("down")
        answer = asyncio.ensure_future(self.shard.exchange(call))
        died = asyncio.ensure_future(self.died.wait())
        try:
            await asyncio.wait({answer, died}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ActorUnavailable("died")
            return answer.result()
        finally:
            answer.cancel()
            died.cancel()

    async def start(self, owner: str = "one", **options: Any) -> SchedulerShard:
        async def is_published() -> bool:
            return self.published == owner

        shard = SchedulerShard(
            shard="scheduler-0",
            owner=owner,
            tasks=self.task_store(),
            log=self.stores.log,
            region=self.stores.region,
            doorbell=self.bell,
            clock=self.clock,
            lease_ttl_s=TTL_S,
            controls=self.stores.controls,
            workspaces=self.stores.access,
            agents=self.stores.agents,
            budgets=self.stores.budgets,
            quotas=self.stores.quotas,
            is_published=is_published,
            on_fatal=self.deaths.append,
            **options,
        )
        await shard.start()
        self.shard = shard
        return shard

    def task_store(self) -> Any:
        return self.stores.tasks

    async def pause(self, queue: str, on: bool) -> None:
        """Durable, and known to the shard."""
        control = Control(workspace="w", kind=ControlKind.QUEUE, name=queue, paused=on)
        record = record_for(ASKER, self.clock.now(), "control.changed", control.entity, control.to_log())
        stored = await self.stores.controls.put(control, record)
        await self.bell.notify(*WakeTopic)

        async def known() -> bool:
            return self.shard is not None and (await self.shard.status())["cursor"] >= stored.seq

        await eventually(known)

    async def crash(self) -> None:
        """As kill -9: nothing is said, nothing is flushed."""
        assert self.shard is not None
        shard, self.shard = self.shard, None
        died, self.died = self.died, asyncio.Event()
        died.set()
        await shard.stop()

    async def move_on(self, step_s: float = 0.5) -> None:
        """Lets what is tried again after a moment be tried, in a test that waits for it. However often a busy machine lets the
        test look, the steps together are shorter than a lease: first they are long, then so short that they do not add up."""
        if self._moved_s > TTL_S / 2:
            step_s = min(step_s, 0.005)
        self._moved_s += step_s
        await self.clock.advance(step_s)

    async def driven(self, work: Awaitable[T], step_s: float = 0.05) -> T:
        """The result of a call that may have to be tried again, within 30 s."""
        call = asyncio.ensure_future(work)

        async def is_done() -> bool:
            if not call.done():
                await self.move_on(step_s)
            return call.done()

        await eventually(is_done)
        return call.result()

    async def submit(self, **changes: Any) -> str:
        task = new_task(created_at=self.clock.now(), **changes)
        await self.stores.tasks.submit([SubmitItem(task=task)])
        await self.bell.notify(*WakeTopic)
        return task.id

    async def claim(self, agent_id: str = "a1", *, wait: bool = False, **changes: Any) -> tuple[Lease, ...]:
        values = {
            "workspace": "w",
            "agent_id": agent_id,
            "principal": ASKER.principal,
            "capabilities": frozenset(),
            "max_concurrency": 1,
            "max_tasks": None,
            "claim_id": f"claim-{next(_claims)}",
            "client_claim_id": False,
            "wait": wait,
        }
        answer = await self.client.request(ClaimRequest(**(values | changes)), long_poll=wait)
        return answer.leases

    async def claim_one(self, agent_id: str = "a1", **changes: Any) -> Lease:
        """Waits for work: the shard may not have read the submit yet."""
        (lease,) = await asyncio.wait_for(self.claim(agent_id, wait=True, **changes), 20)
        return lease

    async def report(self, lease: Lease, *, token: bool = True, **changes: Any) -> Any:
        decoded = LeaseToken.decode(lease.token)
        values = {"attempt": decoded.attempt if token else None, "agent_id": decoded.agent_id if token else None}
        return await self.client.request(a_report(decoded.task_id, **(values | changes)))

    async def cancel(self, task_id: str) -> Any:
        return await self.client.request(a_cancel(task_id))

    async def status(self, task_id: str) -> TaskStatus:
        task = await self.stores.tasks.get("w", task_id)
        assert task is not None
        return task.status

    async def kinds(self, task_id: str) -> list[str]:
        return [row.kind.removeprefix("task.") for row in await self.stores.log.read(0, 1000) if row.entity == task_id]
