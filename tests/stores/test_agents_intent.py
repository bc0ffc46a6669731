"""Intents in the registry: an operator's and the agent's own are kept apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from cluster.domain.agents.agent import Health, Intent, IntentBy
from cluster.domain.base.log import record_for
from cluster.ports.agents import AgentChange
from cluster.postgres.migrate import migrate, shipped
from cluster.postgres.stores import Stores, open_stores
from tests.support.first_form import old_writer
from tests.support.samples import ASKER, NOW, registration
from tests.support.stores import StoreUrls, fresh_name


def _says(agent_id: str, intent: Intent, by: IntentBy) -> AgentChange:
    record = record_for(ASKER, NOW, "agent.status_changed", agent_id, {"intent": intent.value, "by": by.value})
    return AgentChange(workspace="w", agent_id=agent_id, record=record, intent=intent, intent_by=by)


async def _held_by(stores: Stores, agent_id: str = "a1") -> tuple[Intent, IntentBy | None]:
    agent = await stores.agents.get("w", agent_id)
    assert agent is not None
    return agent.intent, agent.held_by


async def test_an_agents_intent_never_replaces_its_operators(stores: Stores) -> None:
    await stores.agents.register([registration("a1")])
    await stores.agents.change([_says("a1", Intent.PAUSED, IntentBy.OPERATOR)])
    for said in (Intent.ACTIVE, Intent.DRAINING):
        assert await stores.agents.change([_says("a1", said, IntentBy.AGENT)]) == [True]
        assert await _held_by(stores) == (Intent.PAUSED, IntentBy.OPERATOR)
    assert len(await stores.log.read(0, 10)) == 3, "what changes nothing is not told"
    await stores.agents.change([_says("a1", Intent.ACTIVE, IntentBy.OPERATOR)])
    assert await _held_by(stores) == (Intent.DRAINING, IntentBy.AGENT), "it was kept beside the operator's"
    await stores.agents.change([_says("a1", Intent.PAUSED, IntentBy.OPERATOR)])
    await stores.agents.register([registration("a1")])
    assert await _held_by(stores) == (Intent.PAUSED, IntentBy.OPERATOR)


async def test_an_agents_intent_that_its_operator_repeats_is_the_operators(stores: Stores) -> None:
    await stores.agents.register([registration("a1")])
    await stores.agents.change([_says("a1", Intent.DRAINING, IntentBy.AGENT)])
    assert await _held_by(stores) == (Intent.DRAINING, IntentBy.AGENT)
    await stores.agents.change([_says("a1", Intent.DRAINING, IntentBy.OPERATOR)])
    await stores.agents.register([registration("a1")])
    assert await _held_by(stores) == (Intent.DRAINING, IntentBy.OPERATOR)
    await stores.agents.change([_says("a1", Intent.ACTIVE, IntentBy.OPERATOR)])
    assert await _held_by(stores) == (Intent.ACTIVE, None)


async def test_the_store_and_the_domain_agree_who_is_unschedulable(stores: Stores) -> None:
    for index, (intent, health) in enumerate(product(Intent, Health)):
        await stores.agents.register([registration(f"a{index}")])
        await stores.agents.change([replace(_says(f"a{index}", intent, IntentBy.AGENT), health=health)])
    agents = {("w", agent.agent_id): agent for agent in await stores.agents.list("w")}
    unschedulable = {key for key, agent in agents.items() if agent.is_unschedulable}
    assert await stores.agents.unschedulable() == unschedulable
    some = [*list(agents)[::2], ("w", "nobody")]
    assert await stores.agents.unschedulable(some) == unschedulable & set(some)


async def test_an_agent_drained_by_an_older_version_gets_work_after_registering(
    store_urls: StoreUrls,
) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema, [migration for migration in shipped() if migration.version <= 3])
    async with old_writer(store_urls.database, schema) as before:
        for name, intent in (("drained", Intent.DRAINING), ("back", Intent.DRAINING), ("back", Intent.ACTIVE)):
            await before.register(registration(name))
            await before.change(_says(name, intent, IntentBy.AGENT))
        await before.register(registration("operated"))
        await before.change(_says("operated", Intent.DRAINING, IntentBy.OPERATOR))
    await migrate(store_urls.database, schema)
    stores = await open_stores(store_urls.database, schema, "test-region", max_connections=1)
    try:
        assert await stores.agents.unschedulable() == {("w", "drained"), ("w", "operated")}
        for name in ("drained", "back", "operated"):
            await stores.agents.register([registration(name)])
        assert await stores.agents.unschedulable() == {("w", "operated")}
        logged = await stores.log.head()
        await stores.agents.change([replace(_says("back", Intent.ACTIVE, IntentBy.OPERATOR), intent_by=None)])
        assert await stores.log.head() == logged, "who said ready before is no change now"
    finally:
        await stores.close()
