"""Intents of an agent and its operator: the store, the shard and the copies of the registry agree with a plain model.

In any order of intents, read late or not, and with restarts of the shard in between, an agent gets work exactly if no
intent forbids it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cluster.domain.agents.agent import (
    REPORTED_INTENT,
    Agent,
    AgentStatus,
    Health,
    Intent,
    IntentBy,
    Liveness,
    TransportKind,
    reported_intent,
)
from cluster.domain.base.log import record_for
from cluster.log.agent_directory import AgentDirectory
from cluster.ports.agents import AgentChange
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import Stores, open_stores
from tests.support.probes import eventually
from tests.support.samples import ASKER, NOW, new_task, registration, system_event
from tests.support.shards import Cluster
from tests.support.stores import StoreUrls, fresh_name
from tests.support.who_said import VERBS, WORDS, Said

W = "w"
NAME = "a1"
ENDPOINTS = (None, "http://127.0.0.1:9/one", "http://127.0.0.1:9/two")


class _NoBell:
    """Nobody is told of anything: rows are read when the test says so, or when a claim cannot do without."""

    async def notify(self, *topics: WakeTopic) -> None: ...

    async def wait(self, timeout_s: float, topics: Any = ()) -> bool:
        await asyncio.get_running_loop().create_future()
        return False


class Fleet(Cluster):
    """One agent, a shard that nobody wakes, and a copy of the registry."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores, _NoBell())  # type: ignore[arg-type]
        self.directory = AgentDirectory(stores.agents)
        self.read_to = 0

    async def begin(self) -> None:
        await self.stores.pool.execute("truncate tasks, log, controls, shards, idempotency, agents")
        tasks = [new_task(created_at=NOW, required_capabilities=(NAME,), max_retries=100) for _ in range(100)]
        await self.stores.tasks.submit([SubmitItem(task=task) for task in tasks])
        self.read_to = await self.directory.load()
        await self.start()

    async def end(self) -> None:
        await self.client.close()
        await self.crash()

    @property
    def _state(self) -> Any:
        assert self.shard is not None
        return self.shard._state

    async def read(self) -> None:
        """Shard and copy are told everything."""
        await self._state.follower.catch_up_to(await self.stores.log.head())
        rows = await self.stores.log.read(self.read_to, 100_000)
        self.read_to = rows[-1].seq if rows else self.read_to
        await self.directory.apply(rows)

    async def register(self, **changes: Any) -> None:
        await self.stores.agents.register([registration(NAME, capabilities=(NAME,), max_concurrency=1000, **changes)])

    async def remove(self) -> None:
        await self.stores.agents.remove([record_for(ASKER, NOW, "agent.unregistered", NAME, {"agent_id": NAME})])

    async def change(self, data: dict[str, Any], **facts: Any) -> None:
        record = record_for(ASKER, NOW, "agent.status_changed", NAME, {"agent_id": NAME} | data)
        await self.stores.agents.change([AgentChange(workspace=W, agent_id=NAME, record=record, **facts)])

    async def intent(self, intent: Intent, by: IntentBy) -> None:
        await self.change({"intent": intent.value, "by": by.value}, intent=intent, intent_by=by)

    async def stored(self) -> Agent:
        agent = await self.stores.agents.get(W, NAME)
        assert agent is not None
        return agent

    async def gets_work(self) -> bool:
        """As a replica claims whose copy is fresh."""
        claim = {"capabilities": frozenset({NAME}), "max_concurrency": 1000, "max_tasks": 1, "client_claim_id": True}
        return bool(await self.claim(NAME, unschedulable=(await self.stored()).is_unschedulable, **claim))

    @property
    def is_unschedulable(self) -> bool:
        """As the shard has it."""
        return bool(self._state.core.doubts((W, NAME), False))


class Life(RuleBasedStateMachine):
    """The model is ``said``, whether its endpoint ``failed``, and which endpoint that was."""

    runner: asyncio.Runner
    stores: Stores

    @initialize()
    def begin(self) -> None:
        self.fleet = Fleet(self.stores)
        self.run(self.fleet.begin())
        self._starts(None)

    def _starts(self, endpoint: str | None) -> None:
        self.said, self.failed, self.endpoint = Said(), False, endpoint
        self._register(endpoint)

    def _register(self, endpoint: str | None) -> None:
        transport = TransportKind.PULL if endpoint is None else TransportKind.HTTP
        self.run(self.fleet.register(endpoint=endpoint, transport=transport, tags=("some",)))

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @rule(endpoint=st.sampled_from(ENDPOINTS))
    def registers(self, endpoint: str | None) -> None:
        self._register(endpoint)
        self.said.registers()
        self.failed = self.failed and endpoint == self.endpoint
        self.endpoint = endpoint

    @rule(endpoint=st.sampled_from(ENDPOINTS), heard=st.booleans())
    def leaves_and_comes_back(self, endpoint: str | None, heard: bool) -> None:
        self.run(self.fleet.remove())
        if heard:
            self.run(self.fleet.read())
        self._starts(endpoint)

    @rule(word=st.sampled_from(sorted(WORDS)), old=st.booleans())
    def says(self, word: str, old: bool) -> None:
        """``old``: judged by a copy that has heard of nothing, so that only the store can stand against it."""
        status = AgentStatus(word)
        intent = REPORTED_INTENT[status] if old else reported_intent(self.run(self.fleet.stored()), status)
        if intent is not None:
            self.run(self.fleet.intent(intent, IntentBy.AGENT))
        self.said.says(word)

    @rule(verb=st.sampled_from(sorted(VERBS)))
    def operated(self, verb: str) -> None:
        self.run(self.fleet.intent(Intent(VERBS[verb] or "active"), IntentBy.OPERATOR))
        self.said.operated(verb)

    @rule(liveness=st.sampled_from([Liveness.OFFLINE, Liveness.ALIVE]))
    def is_heard_or_not(self, liveness: Liveness) -> None:
        self.run(self.fleet.change({"new_status": liveness.value}, liveness=liveness))

    @rule(health=st.sampled_from([Health.FAILED, Health.HEALTHY]))
    def is_well_or_not(self, health: Health) -> None:
        self.run(self.fleet.change({"new_status": health.value}, health=health))
        self.failed = health is Health.FAILED

    @rule(restarts=st.booleans())
    def everybody_reads(self, restarts: bool) -> None:
        """What the shard learns from rows is what it would read from the store, and what the copies have."""
        self.run(self.fleet.read())
        copy = self.fleet.directory.known(W, NAME)
        assert copy is not None
        assert (copy.intent.value, copy.held_by and copy.held_by.value) == (self.said.intent, self.said.by)
        assert self.fleet.is_unschedulable == (not self.works)
        if restarts:
            self.run(self.fleet.crash())
            self.run(self.fleet.start())
            assert self.fleet.is_unschedulable == (not self.works)

    @property
    def works(self) -> bool:
        return self.said.intent == "active" and not self.failed

    @invariant()
    def it_gets_work_when_nobody_stands_against_it(self) -> None:
        assert self.run(self.fleet.gets_work()) == self.works

    def teardown(self) -> None:
        if hasattr(self, "fleet"):
            self.run(self.fleet.end())


def test_an_agent_gets_work_exactly_if_no_intent_forbids_it(store_urls: StoreUrls) -> None:
    with asyncio.Runner() as runner:
        schema = fresh_name()
        runner.run(migrate(store_urls.database, schema))
        Life.runner = runner
        Life.stores = runner.run(open_stores(store_urls.database, schema, "test-region", max_connections=4))
        try:
            run_state_machine_as_test(
                Life,
                settings=settings(
                    max_examples=40,
                    stateful_step_count=20,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(Life.stores.close())


async def test_a_claim_after_a_registration_is_judged_by_the_new_state(cluster: Cluster) -> None:
    """The rows of both have not been read: nobody rings, and the claim does not wait for anything."""
    register = [registration("a1")]
    await cluster.stores.agents.register(register)
    await cluster.submit()
    (lease,) = await cluster.claim("a1", wait=True)
    await cluster.report(lease)
    for ends in ("drains", "leaves"):
        task = await cluster.submit()
        if ends == "drains":
            record = record_for(ASKER, NOW, "agent.status_changed", "a1", {"intent": "draining"})
            said = AgentChange(workspace=W, agent_id="a1", record=record, intent=Intent.DRAINING)
            await cluster.stores.agents.change([replace(said, intent_by=IntentBy.AGENT)])
        else:
            await cluster.stores.agents.remove([record_for(ASKER, NOW, "agent.unregistered", "a1", {})])
        await _read(cluster)
        await cluster.stores.agents.register(register)
        (lease,) = await cluster.claim("a1", wait=False)
        assert lease.head.id == task
        await cluster.report(lease)


async def _read(cluster: Cluster) -> None:
    assert cluster.shard is not None
    assert cluster.shard._state is not None
    await cluster.shard._state.follower.catch_up_to(await cluster.stores.log.head())


async def test_a_claim_withdrawn_while_its_rows_are_read_does_not_wait(cluster: Cluster) -> None:
    """It would else be served later, to nobody."""
    await cluster.stores.agents.register([registration("a1")])
    record = record_for(ASKER, NOW, "agent.status_changed", "a1", {"intent": "paused"})
    await cluster.stores.agents.change([AgentChange(workspace=W, agent_id="a1", record=record, intent=Intent.PAUSED)])
    await _read(cluster)
    assert cluster.shard is not None
    assert cluster.shard._state is not None
    async with cluster.shard._state.follower._reading:  # a row takes its time
        await cluster.stores.log.append([system_event("something")])
        asked = asyncio.create_task(cluster.claim("a1", wait=True))
        await eventually(lambda: cluster.shard._answers.behind)  # type: ignore[union-attr]
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await eventually(lambda: not cluster.shard._answers.behind)  # type: ignore[union-attr]
    await eventually(lambda: cluster.shard._work.idle)  # type: ignore[union-attr]
    assert (await cluster.shard.status())["waiting_claims"] == 0
