"""Two zones in three regions, on real databases: each has a primary and an epoch of its own, also after the loss of either."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from cluster.domain.base.errors import Conflict, Fenced
from cluster.domain.base.log import Origin
from cluster.domain.replication.quorum import DEFAULT_ZONE
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.tasks import SubmitItem
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.stores import open_stores
from cluster.process.clock import SystemClock
from tests.regions.simulation.store import MemoryGroup, SimulatedGroup
from tests.support.access import a_workspace
from tests.support.probes import eventually
from tests.support.replicating import tables_of
from tests.support.samples import new_task
from tests.support.shells import NAMES, ShellRegion, World, shells
from tests.support.stores import StoreUrls

EU = "eu"
#: Six shells share a process, and a primary that is late for no reason would lose its zone.
TIMERS = RegionTimers(heartbeat_s=0.3, election_s=6.0, stale_s=24.0, sync_s=5.0, margin_s=0.5)
INSIDE = ("north", "west")
SECRET = "what somebody wrote"
ASKER = Origin(workspace="eu-w", principal="user:tester")


@dataclass
class Zones:
    """Each region has a part in both worlds."""

    default: World
    eu: World

    async def lose(self, name: str) -> None:
        for world in (self.default, self.eu):
            await world.regions[name].kill()
            world.isolate(name)

    async def bring_back(self, name: str) -> None:
        for world in (self.default, self.eu):
            world.isolate(name, up=True)
            await world.regions[name].start()

    async def roles(self, name: str) -> tuple[str | None, str | None]:
        """What a region's databases are, that of all regions first."""
        found = [await PostgresReplica(w.regions[name].stores.pool, w.zone).state() for w in (self.default, self.eu)]
        return found[0].role, found[1].role


@pytest.fixture
async def zones(store_urls: StoreUrls) -> AsyncIterator[Zones]:
    group, residency = SimulatedGroup(MemoryGroup(), SystemClock()), dict.fromkeys(INSIDE, EU)
    async with (
        shells(store_urls, group, timers=TIMERS, zones=residency, zone=DEFAULT_ZONE) as default,
        shells(store_urls, group, timers=TIMERS, zones=residency, zone=EU) as eu,
    ):
        found = Zones(default, eu)
        assert (await default.primary()).name == "east"
        north = await eu.primary(INSIDE)
        assert north.name == "north", "the first by name that holds the zone's payloads"
        await north.stores.region.epoch()
        await north.stores.access.create_workspace(ASKER, a_workspace(ASKER.workspace, name=SECRET, zone=EU))
        yield found


async def resident(region: ShellRegion, *ids: str) -> None:
    """Tasks of the resident workspace, until they are acknowledged."""
    await region.stores.region.epoch()
    tasks = [new_task(id=name, origin=ASKER, payload={"text": SECRET}) for name in ids]
    await region.stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    head = await region.stores.log.head()
    region.shell.committed(head)
    assert region.shell.state.term is not None
    await region.shell.replicated(region.shell.state.term.epoch, head, 20.0)


async def payloads(region: ShellRegion) -> dict[str, object]:
    rows = await region.stores.pool.rows("select id, payload::text as payload from tasks order by id")
    return {row["id"]: json.loads(row["payload"]) for row in rows}


async def test_a_region_is_primary_of_one_zone_and_secondary_of_another(zones: Zones) -> None:
    east, north = zones.default.regions["east"], zones.eu.regions["north"]
    await east.acknowledged("everywhere")
    await resident(north, "at home")
    assert (await zones.roles("east"), await zones.roles("north"), await zones.roles("west")) == (
        ("primary", "secondary"),
        ("secondary", "primary"),
        ("secondary", "secondary"),
    )
    assert (await zones.eu.record()).in_sync == set(INSIDE), "who has no payloads does not count"
    for name in NAMES:
        assert await zones.default.regions[name].tasks() == {"everywhere"}
    assert await payloads(zones.eu.regions["west"]) == {"at home": {"text": SECRET}}
    outside = zones.eu.regions["east"]

    async def keeps_the_rest() -> bool:
        return await payloads(outside) == {"at home": None}

    await eventually(keeps_the_rest)
    assert SECRET not in repr(await tables_of(outside.stores))


async def test_the_loss_of_the_default_primary_changes_nothing_in_the_other_zone(zones: Zones) -> None:
    eu, default = await zones.eu.record(), await zones.default.record()
    await zones.default.regions["east"].acknowledged("before")
    await zones.lose("east")
    await resident(zones.eu.regions["north"], "meanwhile")
    second = await zones.default.primary(INSIDE)
    await second.acknowledged("after")
    after = await zones.default.record()
    assert (after.epoch > default.epoch, after.in_sync, await second.tasks()) == (
        True,
        set(INSIDE),
        {"before", "after"},
    )
    unchanged = await zones.eu.record()
    assert (unchanged.primary, unchanged.epoch) == ("north", eu.epoch)
    await zones.bring_back("east")
    assert await zones.default.primary() is second
    assert await tables_of(zones.default.regions["east"].stores) == await tables_of(second.stores)


async def test_the_loss_of_a_zones_primary_elects_within_the_zone(zones: Zones) -> None:
    eu, default = await zones.eu.record(), await zones.default.record()
    await resident(zones.eu.regions["north"], "before")
    await zones.lose("north")
    await zones.default.regions["east"].acknowledged("meanwhile")
    west = await zones.eu.primary(("west",))
    after = await zones.eu.record()
    assert (west.name, after.epoch > eu.epoch, after.in_sync) == ("west", True, {"west"})
    assert await payloads(west) == {"before": {"text": SECRET}}
    assert (await zones.default.record()).epoch == default.epoch
    refused = west.shell.why_not_write()
    assert refused is not None
    assert refused.code == "not_replicated", "no other region has a copy of the payloads"
    assert await zones.roles("west") == ("secondary", "primary")
    await zones.bring_back("north")
    assert await zones.eu.primary(INSIDE) is west
    await resident(west, "after")
    assert set(await payloads(zones.eu.regions["north"])) == {"before", "after"}
    assert (await zones.default.primary()).name == "east"


async def test_a_zone_is_handed_over_and_the_other_stays(zones: Zones) -> None:
    default = await zones.default.record()
    north = zones.eu.regions["north"]
    with pytest.raises(Conflict) as outside:
        north.shell.transfer("east")
    assert outside.value.code == "not_in_sync"
    north.shell.transfer("west")

    async def handed_over() -> bool:
        return zones.eu.regions["west"].is_primary

    await eventually(handed_over)
    await resident(await zones.eu.primary(INSIDE), "after")
    with pytest.raises(Fenced):
        await north.write("with the epoch of before")
    assert await zones.default.record() == default


async def test_a_commit_for_another_zone_is_refused(zones: Zones, store_urls: StoreUrls) -> None:
    """As of a process whose settings name a schema that keeps another zone: it gets no epoch there."""
    pool = zones.eu.regions["north"].stores.pool
    schema = await pool.value("select current_schema()")
    before = await pool.value("select count(*) from log")
    with pytest.raises(Fenced):
        await open_stores(store_urls.database, schema, DEFAULT_ZONE, max_connections=1)
    other = await open_stores(store_urls.database, schema, DEFAULT_ZONE, max_connections=1, alone=False)
    try:
        with pytest.raises(Fenced):
            await other.tasks.submit([SubmitItem(task=new_task(id="elsewhere"))])
    finally:
        await other.close()
    assert await pool.value("select count(*) from log") == before
    wrong = zones.default.regions["north"]
    stores, wrong.stores = wrong.stores, zones.eu.regions["north"].stores
    await wrong.kill()
    try:
        with pytest.raises(Conflict) as refused:
            await wrong.make().start()
    finally:
        wrong.stores = stores
    assert refused.value.code == "wrong_zone"
