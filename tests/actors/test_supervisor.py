"""The reconcile loop on real leases: one acts at a time, successors first, then the killing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from actors.roles import DEDICATED_AGENT, Role, dedicated_role
from actors.supervisor import LEASE, Supervisor
from cluster.domain.agents.agent import Dedicated, TransportKind
from cluster.domain.base.errors import ActorUnavailable
from cluster.domain.base.log import record_for
from cluster.ports.actor_names import ActorName
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.probes import eventually
from tests.support.samples import ASKER, NOW, registration

ROLES = (Role(kind="first"), Role(kind="second"))


class World:
    """Actors by name. ``broken`` roles do not come up."""

    def __init__(self, version: str, running: set[str], stores: Stores) -> None:
        self.version = version
        self.running = running
        self.broken: set[str] = set()
        self.acts: list[str] = []
        self.gpus = 0
        self.asked: list[str] = []
        self._stores = stores

    def desired_name(self, role: Role) -> str:
        needs = role.needs
        return f"{role.key}-{self.version}" + (f".{needs.num_cpus:g}.{needs.num_gpus:g}" if needs is not None else "")

    async def ensure(self, role: Role) -> str:
        if role.kind in self.broken:
            raise ActorUnavailable("does not start")
        if role.needs is not None and role.needs.num_gpus > self.gpus:
            self.running.add(self.desired_name(role))
            await asyncio.Event().wait()
        self.asked.append(role.key)
        name = self.desired_name(role)
        if name not in self.running:
            self.acts.append(f"create {name}")
            self.running.add(name)
        return self.version

    async def existing(self) -> Sequence[str]:
        return sorted(self.running)

    def plays(self, name: str, role: Role) -> bool:
        return name.startswith(role.key)

    def is_of(self, name: str, kind: str) -> bool:
        return name.startswith(kind)

    def dedicated(self) -> list[str]:
        return [name for name in sorted(self.running) if self.is_of(name, DEDICATED_AGENT)]

    async def kill(self, name: str) -> None:
        """Whoever is killed has been replaced where callers look, or is looked for no more."""
        current = await self._stores.names.current(name.rpartition("-")[0])
        if name.startswith(DEDICATED_AGENT):
            assert current is None or current.name != name
        else:
            assert current is not None
            assert current.name != name
            assert current.name in self.running
        self.acts.append(f"kill {name}")
        self.running.discard(name)


def _supervisor(stores: Stores, world: World, holder: str) -> Supervisor:
    return Supervisor(
        holder=holder,
        roles=ROLES,
        backend=world,
        agents=stores.agents,
        names=stores.names,
        leases=stores.leases,
        clock=ManualClock(),
    )


async def _want(stores: Stores, agent_id: str, needs: Dedicated | None) -> str:
    """Registers; the key of the role that the agent's own actor has."""
    item = registration(agent_id, transport=TransportKind.HTTP, endpoint="http://127.0.0.1:1/", dedicated=needs)
    await stores.agents.register([item])
    return dedicated_role("w", agent_id).key


async def _own(world: World, stores: Stores, supervisor: Supervisor) -> set[str]:
    """Published names of agents' own actors, once nothing moves any more."""
    await supervisor.reconcile()
    names = world.dedicated()
    found = [await stores.names.current(name.rpartition("-")[0]) for name in names]
    return {current.name for current in found if current is not None}


async def test_an_agent_has_its_own_actor_while_it_asks_for_one(stores: Stores) -> None:
    world = World("v1", set(), stores)
    supervisor = _supervisor(stores, world, "one")
    first = await _want(stores, "a1", Dedicated(num_cpus=1))
    await _want(stores, "a2", None)

    async def own(*names: str) -> bool:
        return await _own(world, stores, supervisor) == set(names)

    await eventually(lambda: own(f"{first}-v1.1.0"))
    asked = world.asked.count(first)

    async def asked_again() -> bool:  # a pass leaves alone whom the one before it still asks
        await supervisor.reconcile()
        return world.asked.count(first) > asked

    await eventually(asked_again, what="one that was started again begins when asked")
    second = await _want(stores, "a2", Dedicated())
    await eventually(lambda: own(f"{first}-v1.1.0", f"{second}-v1.0.0"))
    await _want(stores, "a1", None)
    await eventually(lambda: own(f"{second}-v1.0.0"))
    assert await stores.names.current(first) is None
    await stores.agents.remove([record_for(ASKER, NOW, "agent.unregistered", "a2")])
    await eventually(own)
    assert world.dedicated() == []
    await supervisor.stop()


async def test_an_actor_of_other_needs_or_version_ends_before_its_successor_starts(stores: Stores) -> None:
    running: set[str] = set()
    world, new = World("v1", running, stores), World("v2", running, stores)
    supervisor = _supervisor(stores, world, "one")
    key = await _want(stores, "a1", Dedicated(num_cpus=1))

    async def own(world: World, supervisor: Supervisor, name: str) -> bool:
        return await _own(world, stores, supervisor) == {name}

    await eventually(lambda: own(world, supervisor, f"{key}-v1.1.0"))
    await _want(stores, "a1", Dedicated(num_cpus=2))
    await eventually(lambda: own(world, supervisor, f"{key}-v1.2.0"))
    assert world.acts[-2:] == [f"kill {key}-v1.1.0", f"create {key}-v1.2.0"]
    successor = _supervisor(stores, new, "one")
    await eventually(lambda: own(new, successor, f"{key}-v2.2.0"))
    assert [act for act in new.acts if key in act] == [f"kill {key}-v1.2.0", f"create {key}-v2.2.0"]
    await supervisor.stop()
    await successor.stop()


async def test_an_actor_without_resources_delays_nobody_and_ends_when_undesired(stores: Stores) -> None:
    world = World("v1", set(), stores)
    supervisor = _supervisor(stores, world, "one")
    greedy = await _want(stores, "a1", Dedicated(num_gpus=1))
    modest = await _want(stores, "a2", Dedicated())

    async def own(name: str) -> bool:
        return await _own(world, stores, supervisor) == {name}

    await eventually(lambda: own(f"{modest}-v1.0.0"))
    world.running.discard("first-0-v1")
    await supervisor.reconcile()
    assert "first-0-v1" in world.running, "the fixed roles go on"
    assert await stores.names.current(greedy) is None
    assert any(name.startswith(greedy) for name in world.running)
    await stores.agents.remove([record_for(ASKER, NOW, "agent.unregistered", "a1")])
    await supervisor.reconcile()
    assert not any(name.startswith(greedy) for name in world.running)
    await supervisor.stop()


async def test_a_new_version_replaces_the_old_one_role_by_role_successor_first(stores: Stores) -> None:
    running: set[str] = set()
    old = World("v1", running, stores)
    assert await _supervisor(stores, old, "one").reconcile()
    assert old.acts == ["create first-0-v1", "create second-0-v1"]
    assert await _supervisor(stores, old, "one").reconcile()
    assert len(old.acts) == 2, "nothing to do, nothing done"
    new = World("v2", running, stores)
    assert await _supervisor(stores, new, "one").reconcile()
    assert new.acts == ["create first-0-v2", "kill first-0-v1", "create second-0-v2", "kill second-0-v1"]
    assert running == {"first-0-v2", "second-0-v2"}


async def test_a_killed_actor_is_started_again_and_a_broken_one_delays_nobody(stores: Stores) -> None:
    world = World("v1", set(), stores)
    supervisor = _supervisor(stores, world, "one")
    await supervisor.reconcile()
    world.running.clear()
    world.broken = {"first"}
    assert await supervisor.reconcile()
    assert world.running == {"second-0-v1"}
    world.broken = set()
    await supervisor.reconcile()
    assert world.running == {"first-0-v1", "second-0-v1"}


async def test_a_successor_that_does_not_come_up_leaves_its_predecessor_alone(stores: Stores) -> None:
    running: set[str] = set()
    await _supervisor(stores, World("v1", running, stores), "one").reconcile()
    new = World("v2", running, stores)
    new.broken = {"first", "second"}
    await _supervisor(stores, new, "one").reconcile()
    assert running == {"first-0-v1", "second-0-v1"}
    assert await stores.names.current("first-0") == ActorName(role="first-0", name="first-0-v1", fingerprint="v1")


async def test_two_supervisors_never_act_at_once(stores: Stores) -> None:
    world = World("v1", set(), stores)
    first, second = _supervisor(stores, world, "one"), _supervisor(stores, world, "two")
    acted = await asyncio.gather(*(each.reconcile() for _ in range(5) for each in (first, second)))
    assert acted.count(True) == 5
    holder = first if acted[0] else second
    other = second if acted[0] else first
    await holder.stop()
    assert await other.reconcile()
    assert not await holder.reconcile()


async def test_an_expired_lease_is_taken_over(stores: Stores) -> None:
    assert await stores.leases.acquire(LEASE, "dead", 0.05) is not None
    first = _supervisor(stores, World("v1", set(), stores), "one")
    assert await eventually(first.reconcile)


@pytest.mark.parametrize("kind", ["first"])
async def test_the_published_name_survives_in_the_store(stores: Stores, kind: str) -> None:
    await _supervisor(stores, World("v1", set(), stores), "one").reconcile()
    current = await stores.names.current(f"{kind}-0")
    assert current is not None
    assert (current.name, current.fingerprint) == (f"{kind}-0-v1", "v1")
