"""What every adapter of `ConsensusGroup` does: the group of one, etcd, and the simulation's store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from cluster.domain.replication.quorum import ReplicationMode
from cluster.ports.consensus_group import ConsensusGroup, GroupView, KeyCompare, KeyPut
from cluster.postgres.migrate import migrate
from cluster.postgres.pool import connect
from cluster.process.clock import SystemClock
from regions.consensus.group_of_one import GroupOfOne
from regions.domain.group import RegionGroup, RegionMember, founded
from regions.domain.transactions import Elect, Leave, changed
from tests.regions.simulation.store import MemoryGroup, SimulatedGroup
from tests.support.etcd import EtcdMember, etcd_group, etcd_members, needs_etcd
from tests.support.probes import eventually
from tests.support.stores import fresh_name


@pytest.fixture(scope="module")
def etcd() -> Iterator[list[EtcdMember]]:
    with etcd_members() as members:
        yield members


@pytest.fixture(params=["simulated", "one", pytest.param("etcd", marks=needs_etcd)])
async def group(request: pytest.FixtureRequest) -> AsyncIterator[ConsensusGroup]:
    if request.param == "simulated":
        yield SimulatedGroup(MemoryGroup(), SystemClock())
    elif request.param == "one":
        url, schema = request.getfixturevalue("store_urls").database, fresh_name()
        await migrate(url, schema)
        pool = await connect(url, schema)
        yield GroupOfOne(pool, SystemClock(), poll_s=0.02)
        await pool.close()
    else:
        async with etcd_group(request.getfixturevalue("etcd")) as client:
            await client.swap([], [], list((await client.read("")).entries))
            yield client


def absent(key: str) -> KeyCompare:
    return KeyCompare(key=key, value=None)


async def create(group: ConsensusGroup, key: str, value: str, lease: str | None = None) -> bool:
    return await group.swap([absent(key)], [KeyPut(key=key, value=value, lease=lease)])


async def test_a_read_shows_the_keys_of_a_prefix_and_growing_revisions(group: ConsensusGroup) -> None:
    assert (await group.read("zone/")).entries == {}
    for key, value in (("zone/a", "é"), ("zone/b", ""), ("zoo", "1")):
        assert await create(group, key, value)
    view = await group.read("zone/")
    assert {key: entry.value for key, entry in view.entries.items()} == {"zone/a": "é", "zone/b": ""}
    assert 0 < view.entries["zone/a"].revision < view.entries["zone/b"].revision <= view.revision
    assert set((await group.read("")).entries) == {"zone/a", "zone/b", "zoo"}
    assert (view.value("zone/a"), view.value("zone/c")) == ("é", None)


async def test_a_swap_compares_values_and_revisions(group: ConsensusGroup) -> None:
    assert await create(group, "k", "1")
    assert not await create(group, "k", "2")
    assert not await group.swap([KeyCompare(key="k", value="0")], [KeyPut(key="k", value="2")])
    revision = (await group.read("k")).entries["k"].revision
    assert not await group.swap([KeyCompare(key="k", value="1", revision=revision + 1)], [KeyPut(key="k", value="2")])
    assert await group.swap([KeyCompare(key="k", value="1", revision=revision)], [KeyPut(key="k", value="2")])
    assert (await group.read("k")).value("k") == "2"


async def test_a_swap_does_all_or_nothing(group: ConsensusGroup) -> None:
    await create(group, "old", "1")
    compares = [KeyCompare(key="old", value="1"), KeyCompare(key="other", value="1")]
    puts = [KeyPut(key="new", value="1"), KeyPut(key="newer", value="1")]
    assert not await group.swap(compares, puts, ["old"])
    assert set((await group.read("")).entries) == {"old"}
    assert await group.swap(compares[:1], puts, ["old", "never-there"])
    assert set((await group.read("")).entries) == {"new", "newer"}


async def test_only_one_of_many_creates_a_key(group: ConsensusGroup) -> None:
    outcomes = await asyncio.gather(*(create(group, "leader/z", f"region-{number}") for number in range(12)))
    assert sum(outcomes) == 1
    assert (await group.read("leader/")).value("leader/z") == f"region-{outcomes.index(True)}"


async def test_the_end_of_a_lease_takes_its_keys_along(group: ConsensusGroup) -> None:
    lease, other = await group.grant(30.0), await group.grant(30.0)
    assert lease.ttl_s >= 30.0
    await create(group, "mine", "1", lease.id)
    await create(group, "other", "1", other.id)
    await create(group, "kept", "1")
    assert (await group.read("mine")).entries["mine"].lease == lease.id
    assert await group.renew(lease.id) == lease.ttl_s
    await group.revoke(lease.id)
    assert set((await group.read("")).entries) == {"other", "kept"}
    assert await group.renew(lease.id) is None
    await group.revoke(lease.id)
    assert not await create(group, "mine", "2", lease.id)
    assert (await group.read("mine")).entries == {}


async def test_a_lease_that_nobody_renews_ends_by_itself(group: ConsensusGroup) -> None:
    kept, lost = await group.grant(30.0), await group.grant(1.0)
    assert lost.ttl_s >= 1.0
    await create(group, "kept", "1", kept.id)
    await create(group, "lost", "1", lost.id)

    async def is_lost() -> bool:
        return set((await group.read("")).entries) == {"kept"}

    await eventually(is_lost)
    assert await create(group, "lost", "2")
    assert await group.renew(lost.id) is None


async def test_a_key_that_is_put_again_belongs_to_its_last_lease(group: ConsensusGroup) -> None:
    first, second = await group.grant(30.0), await group.grant(30.0)
    await create(group, "k", "1", first.id)
    assert await group.swap([KeyCompare(key="k", value="1")], [KeyPut(key="k", value="2", lease=second.id)])
    await group.revoke(first.id)
    assert (await group.read("k")).value("k") == "2"
    await group.revoke(second.id)
    assert (await group.read("k")).value("k") is None


async def test_a_watch_shows_the_entries_now_and_after_changes(group: ConsensusGroup) -> None:
    lease = await group.grant(30.0)
    await create(group, "zone/a", "1", lease.id)
    views: list[GroupView] = []

    async def follow() -> None:
        async with aclosing(group.watch("zone/")) as watched:
            async for view in watched:
                views.append(view)

    task = asyncio.create_task(follow())
    await eventually(lambda: views and views[-1].value("zone/a") == "1")
    await create(group, "elsewhere", "1")
    await group.swap([], [KeyPut(key="zone/b", value="2")])
    await eventually(lambda: views[-1].value("zone/b") == "2")
    await group.revoke(lease.id)
    await eventually(lambda: set(views[-1].entries) == {"zone/b"})
    assert all("elsewhere" not in view.entries for view in views)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_group_says_who_keeps_it(group: ConsensusGroup) -> None:
    members = await group.members()
    assert ({members.leader} - {None}) <= members.names
    await group.move_leader("nobody")
    assert await group.members() == members


async def test_of_two_changes_of_a_zone_one_wins(group: ConsensusGroup) -> None:
    """An election and the primary's change of the set, both made from the same record."""
    members = RegionGroup(members=tuple(RegionMember(region=name) for name in ("a", "b", "c")))
    record = replace(founded("default", "a", ("b", "c"), ReplicationMode.SYNC), epoch=1)
    await create(group, record.key, record.encode())
    lease = await group.grant(30.0)
    await create(group, record.leader_key, "b/1", lease.id)
    elected = changed(record, members, Elect(candidate="b", epochs=(1,), versions=(1,)))
    left = changed(record, members, Leave(region="b"))

    async def propose(after: str, holder: str) -> bool:
        compares = [
            KeyCompare(key=record.key, value=record.encode()),
            KeyCompare(key=record.leader_key, value=holder),
        ]
        return await group.swap(compares, [KeyPut(key=record.key, value=after)])

    assert not await propose(left.encode(), "a/1")  # the old primary has lost its key
    assert sorted(await asyncio.gather(propose(elected.encode(), "b/1"), propose(left.encode(), "b/1"))) == [
        False,
        True,
    ]
