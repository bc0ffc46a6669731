"""The registry of agents on Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cluster.domain.agents.agent import Agent, AgentStatus, Dedicated, Intent, Liveness
from cluster.domain.base.log import record_for
from cluster.domain.tasks.events import Claim
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import IdempotencyKey, TaskHead
from cluster.ports.agents import AgentChange, DedicatedAgent
from cluster.ports.tasks import ShardFence, SubmitItem
from cluster.ports.telemetry import AgentCounters
from cluster.postgres.agents import PostgresAgents
from cluster.postgres.stores import Stores
from tests.support.samples import ASKER, NOW, new_task, registration

POLICY = RetryPolicy()


async def _claimed(stores: Stores, fence: ShardFence, head: TaskHead) -> TaskHead:
    claim = Claim(agent_id="a1", claim_id="c1", principal=ASKER.principal)
    transition = step(head, claim, NOW + 1, POLICY)
    assert transition.decision is not None
    (decided,) = await stores.tasks.decide(fence, [transition.decision])
    assert decided.applied
    return transition.head


async def test_registering_again_keeps_counters_and_intent_and_revives(stores: Stores) -> None:
    (first,) = await stores.agents.register([registration("a1", capabilities=("x",), max_concurrency=2)])
    assert (first.created, first.agent.status) == (True, AgentStatus.READY)
    record = record_for(ASKER, NOW, "agent.status_changed", "a1")
    change = AgentChange(workspace="w", agent_id="a1", record=record, intent=Intent.PAUSED, liveness=Liveness.OFFLINE)
    nobody = replace(change, agent_id="nobody", record=replace(record, entity="nobody"))
    assert await stores.agents.change([change, change, nobody]) == [True, True, False]
    counted = AgentCounters(workspace="w", agent_id="a1", completed=2, failed=1, latency_ms_sum=30.0)
    assert await stores.telemetry.save("m", 1, {}, [counted])
    assert not await stores.telemetry.save("m", 1, {}, [counted])
    (again,) = await stores.agents.register([registration("a1", capabilities=("y",), at=NOW + 9)])
    agent = again.agent
    assert (again.created, agent.capabilities, agent.intent, agent.liveness) == (
        False,
        ("y",),
        Intent.PAUSED,
        Liveness.ALIVE,
    )
    assert (agent.tasks_completed, agent.tasks_failed, agent.avg_latency_ms) == (2, 1, 15.0)
    assert agent.registered_at == NOW
    kinds = [row.kind for row in await stores.log.read(0, 10)]
    assert kinds == ["agent.registered", "agent.status_changed", "agent.registered"]


class UnregisteredAtOnce(PostgresAgents):
    """Another caller unregisters each agent between its registration and the read of what is stored."""

    async def get_many(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Agent]:
        askers = [replace(ASKER, workspace=workspace) for workspace, _ in keys]
        names = [agent_id for _, agent_id in keys]
        await self.remove(
            [record_for(by, NOW, "agent.unregistered", name) for by, name in zip(askers, names, strict=True)]
        )
        return await super().get_many(keys)


async def test_a_registration_tells_of_an_agent_that_is_not_stored(stores: Stores) -> None:
    key = IdempotencyKey(route="agents", key="k", body_digest=b"body")
    first = replace(registration("a1"), idempotency=key)
    other = replace(registration("a2"), idempotency=replace(key, body_digest=b"other"))
    (registered,) = await stores.agents.register([first])
    assert registered.agent is not None
    (refused,) = await stores.agents.register([other])
    assert (refused.agent, refused.conflict) == (None, True)
    (removed,) = await UnregisteredAtOnce(stores.pool, stores.epoch).register([registration("a3")])
    assert (removed.agent, removed.created, removed.conflict) == (None, True, False)


async def test_dedicated_resources_are_stored_until_the_agent_registers_without_them(stores: Stores) -> None:
    needs = Dedicated(num_cpus=0.5, num_gpus=1, memory=2**33, resources={"licence": 2.0})
    (first,) = await stores.agents.register([registration("a1", dedicated=needs)])
    await stores.agents.register([registration("a2")])
    assert first.agent.dedicated == needs
    found = await stores.agents.list("w")
    assert [agent.dedicated for agent in found] == [needs, None]
    assert (await stores.agents.get("w", "a1")) == found[0]
    assert await stores.agents.dedicated() == [DedicatedAgent(workspace="w", agent_id="a1", needs=needs)]
    assert (await stores.agents.load())[1] == found
    await stores.agents.register([registration("a1")])
    assert await stores.agents.dedicated() == []


async def test_an_agent_shows_its_leases_and_is_removed_once(stores: Stores) -> None:
    await stores.agents.register([registration("a1"), registration("a2")])
    fence = await stores.tasks.take_generation("s", "test")
    task = new_task()
    await stores.tasks.submit([SubmitItem(task=task)])
    await _claimed(stores, fence, task.head())
    agents = {agent.agent_id: agent for agent in await stores.agents.list("w")}
    assert agents["a1"].running_task_ids == (task.id,)
    assert (agents["a1"].status, agents["a2"].status) == (AgentStatus.BUSY, AgentStatus.READY)
    assert (await stores.agents.get("w", "a1")) == agents["a1"]
    removal = record_for(ASKER, NOW, "agent.unregistered", "a2")
    assert await stores.agents.remove([removal]) == [True]
    assert await stores.agents.remove([removal]) == [False]
    _, everybody = await stores.agents.load()
    assert [agent.agent_id for agent in everybody] == ["a1"]


async def test_a_repeated_removal_spares_an_agent_that_registered_again(stores: Stores) -> None:
    removal = record_for(ASKER, NOW, "agent.unregistered", "a1")
    key = IdempotencyKey(route="agents/a1", key="k", body_digest=b"body")
    assert await stores.agents.remove([removal], [key]) == [False]
    await stores.agents.register([registration("a1")])
    assert await stores.agents.remove([removal], [key]) == [True]
    assert await stores.agents.remove([removal], [key]) == [True]
    await stores.agents.register([registration("a1")])
    assert await stores.agents.remove([removal], [key]) == [True]
    assert await stores.agents.get("w", "a1") is not None
    kinds = [row.kind for row in await stores.log.read(0, 10)]
    assert kinds == ["agent.registered", "agent.unregistered", "agent.registered"]
