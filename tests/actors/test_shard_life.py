"""Random lives of a shard on a real store, held to the model that the pure core is held to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from actors.scheduler.shard import SchedulerShard
from cluster.domain.base.log import record_for
from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.requests import ClaimRequest
from cluster.domain.tasks.task import NewTask, TaskHead
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import ManualClock
from cluster.rpc.exchange import ExchangeCall, ExchangeClient, ExchangeReply
from tests.support.requests import a_cancel, a_report
from tests.support.samples import ASKER, NOW
from tests.support.stores import StoreUrls, fresh_name
from tests.unit.domain.scheduling.test_core_rules import CAPABILITIES, TTL_S, SchedulerLife


class _NoBell:
    """The test says when the shard reads on."""

    async def notify(self, *topics: WakeTopic) -> None: ...

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = ()) -> bool:
        await asyncio.get_running_loop().create_future()
        return False


class RealShard:
    """What ``test_core_rules.Shard`` does, by an actor on Postgres. Calls return when all is durable."""

    runner: asyncio.Runner
    stores: Stores

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.run(self._begin())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _begin(self) -> None:
        await self.stores.pool.execute("truncate tasks, log, controls, shards, idempotency")
        self.clock = ManualClock(NOW)
        self._heads: dict[str, TaskHead] | None = None
        await self._start()
        self.client = ExchangeClient("test", self._exchange, clock=self.clock)

    async def _exchange(self, call: ExchangeCall) -> ExchangeReply:
        return await self.shard.exchange(call)

    async def _start(self) -> None:
        self.shard = SchedulerShard(
            shard="scheduler-0",
            owner=f"test-{next(self._numbers)}",
            tasks=self.stores.tasks,
            controls=self.stores.controls,
            workspaces=self.stores.access,
            agents=self.stores.agents,
            budgets=self.stores.budgets,
            quotas=self.stores.quotas,
            log=self.stores.log,
            region=self.stores.region,
            doorbell=_NoBell(),
            clock=self.clock,
            lease_ttl_s=TTL_S,
        )
        await self.shard.start()
        await self._settle()

    @property
    def core(self) -> SchedulerCore:
        assert self.shard._state is not None
        assert not self.shard._state.failed, "nothing happened that could fail a commit"
        return self.shard._state.core

    async def _settle(self) -> None:
        """Everything that is due has happened and is in the store."""
        state = self.shard._state
        assert state is not None
        await state.follower.catch_up_to(await self.stores.log.head())
        while True:
            self.shard._send([])
            due = self.core.next_timer()
            if self.shard._work.idle and (due is None or due > self.clock.now()):
                break
            await asyncio.sleep(0)
        self._heads = None

    @property
    def store(self) -> dict[str, TaskHead]:
        if self._heads is None:
            rows = self.run(self.stores.pool.rows("select id from tasks"))
            found = self.run(self.stores.tasks.get_many("w", [row["id"] for row in rows]))
            self._heads = {task_id: task.head() for task_id, task in found.items()}
        return self._heads

    @property
    def kinds(self) -> dict[str, list[str]]:
        kinds: dict[str, list[str]] = {}
        for row in self.run(self.stores.log.read(0, 100_000)):
            if row.kind.startswith("task."):
                kinds.setdefault(row.entity, []).append(row.kind.removeprefix("task."))
        return kinds

    async def _at(self, now: float) -> None:
        await self.clock.advance(now - self.clock.now())

    def submit(self, task: NewTask, now: float) -> None:
        async def work() -> None:
            await self._at(now)
            await self.stores.tasks.submit([SubmitItem(task=task)])
            await self._settle()

        self.run(work())

    def control(self, kind: str, name: str, now: float, **values: Any) -> None:
        async def work() -> None:
            await self._at(now)
            control = replace(Control(workspace="w", kind=ControlKind(kind), name=name), **values)
            record = record_for(ASKER, now, "control.changed", control.entity, control.to_log())
            await self.stores.controls.put(control, record)
            await self._settle()

        self.run(work())

    async def _ask(self, request: Any, now: float) -> Any:
        await self._at(now)
        answer = await self.client.request(request)
        await self._settle()
        return answer

    def claimed(
        self,
        agent: str,
        now: float,
        *,
        max_tasks: int,
        task_types: frozenset[str] | None = None,
        queues: frozenset[str] | None = None,
        version: str | None = None,
    ) -> list[str]:
        claim = ClaimRequest(
            workspace="w",
            agent_id=agent,
            principal="p",
            capabilities=CAPABILITIES[agent],
            max_concurrency=1000,
            max_tasks=max_tasks,
            claim_id=f"c{next(self._numbers)}",
            client_claim_id=True,
            wait=False,
            task_types=task_types,
            queues=queues,
            version=version,
        )
        return [lease.head.id for lease in self.run(self._ask(claim, now)).leases]

    def report(self, task_id: str, now: float, error: str | None = None) -> None:
        head = self.store[task_id]
        report = a_report(task_id, principal="p", attempt=head.attempt, agent_id=head.assigned_agent, error=error)
        self.run(self._ask(report, now))

    def cancel(self, task_id: str, now: float) -> None:
        self.run(self._ask(a_cancel(task_id, principal="p"), now))

    def tick(self, now: float) -> None:
        async def work() -> None:
            await self._at(now)
            await self._settle()

        self.run(work())

    def restart(self, now: float) -> None:
        async def work() -> None:
            await self._at(now)
            await self.shard.stop()
            await self._start()

        self.run(work())

    def close(self) -> None:
        async def work() -> None:
            await self.client.close()
            await self.shard.stop()

        self.run(work())


class RealSchedulerLife(SchedulerLife):
    make_shard = RealShard

    def teardown(self) -> None:
        if hasattr(self, "shard"):
            self.shard.close()


def test_a_shard_on_a_real_store_does_what_the_model_does(store_urls: StoreUrls) -> None:
    with asyncio.Runner() as runner:
        schema = fresh_name()
        runner.run(migrate(store_urls.database, schema))
        RealShard.runner = runner
        RealShard.stores = runner.run(open_stores(store_urls.database, schema, "test-region", max_connections=4))
        try:
            run_state_machine_as_test(
                RealSchedulerLife,
                settings=settings(
                    max_examples=15,
                    stateful_step_count=25,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(RealShard.stores.close())
