"""A resident workspace in three regions, two of which are in its zone: who has its payloads, and who may take over."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cluster.domain.base.log import Origin
from cluster.domain.replication.batch import CopyProgress, first_progress
from cluster.ports.tasks import SubmitItem
from cluster.process.clock import SystemClock
from tests.regions.simulation.store import MemoryGroup, SimulatedGroup
from tests.support.access import a_workspace
from tests.support.probes import eventually
from tests.support.replicating import tables_of
from tests.support.samples import new_task
from tests.support.shells import ShellRegion, World, shells
from tests.support.stores import StoreUrls

INSIDE, OUTSIDE = ("east", "west"), "north"
SECRET = "what somebody wrote"
ASKER = Origin(workspace="eu-w", principal="user:tester")


@pytest.fixture
async def world(store_urls: StoreUrls) -> AsyncIterator[World]:
    group = SimulatedGroup(MemoryGroup(), SystemClock())
    async with shells(store_urls, group, zones=dict.fromkeys(INSIDE, "eu")) as found:
        yield found


async def submit(region: ShellRegion, *ids: str) -> None:
    """Tasks of the resident workspace, until they are acknowledged."""
    await region.stores.region.epoch()
    tasks = [new_task(id=name, origin=ASKER, payload={"text": SECRET}) for name in ids]
    await region.stores.tasks.submit([SubmitItem(task=task) for task in tasks])
    head = await region.stores.log.head()
    region.shell.committed(head)
    assert region.shell.state.term is not None
    await region.shell.replicated(region.shell.state.term.epoch, head, 20.0)


async def payloads(region: ShellRegion) -> dict[str, Any]:
    rows = await region.stores.pool.rows("select id, payload::text as payload from tasks order by id")
    return {row["id"]: json.loads(row["payload"]) for row in rows}


async def test_payloads_stay_in_the_zone_and_it_alone_takes_over(world: World) -> None:
    east = await world.primary()
    north, west = world.regions[OUTSIDE], world.regions["west"]
    await east.stores.region.epoch()
    await east.stores.access.create_workspace(ASKER, a_workspace("eu-w", name=SECRET, zone="eu"))
    await submit(east, "t1", "t2")
    assert (await world.record()).in_sync == set(INSIDE), "what is outside confirms nothing"
    whole = {"t1": {"text": SECRET}, "t2": {"text": SECRET}}

    async def knows_of_all() -> bool:
        return set(await payloads(north)) == set(whole)

    await eventually(knows_of_all)
    assert [await payloads(region) for region in (east, west)] == [whole, whole]
    assert await payloads(north) == {"t1": None, "t2": None}
    assert SECRET not in repr(await tables_of(north.stores))
    assert await tables_of(west.stores) == await tables_of(east.stores)

    await east.kill()
    world.isolate("east")
    assert await world.primary(("west",)) is west
    assert await payloads(west) == whole
    await west.stores.pool.ping()
    world.isolate("east", up=True)
    await east.start()
    assert await world.primary(INSIDE) is west
    await submit(west, "t3")
    assert not (await north.shell._parts.database.report()).is_whole
    assert SECRET not in repr(await tables_of(north.stores))


async def test_a_copy_for_a_region_outside_has_no_payloads(world: World) -> None:
    east = await world.primary()
    await east.stores.region.epoch()
    await east.stores.access.create_workspace(ASKER, a_workspace("eu-w", name=SECRET, zone="eu"))
    await submit(east, "t1")
    peers = east.shell.peers
    beginning = await peers.tail(OUTSIDE)
    progress: CopyProgress | None = first_progress(beginning.tail)
    sent = ""
    while progress is not None:
        piece = await peers.piece(OUTSIDE, progress)
        sent += repr(piece.rows)
        progress = piece.following()
    assert ("'t1'" in sent, "'eu-w', 'eu'" in sent, SECRET in sent) == (True, True, False)
