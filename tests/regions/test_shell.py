"""Shells of three regions on real databases: rows arrive, a lost primary is replaced, and nothing that was answered is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.domain.base.errors import Fenced, TryLater
from cluster.domain.replication.batch import Batch, Follower, LogPosition, Refusal
from cluster.ports.consensus_group import KeyPut
from cluster.postgres.replica import PostgresReplica
from cluster.process.clock import SystemClock
from cluster.process.loops import ended
from regions.domain.group import MEMBERS_KEY, RegionGroup
from regions.domain.leadership import RegionPhase
from regions.shell.serving import _sent
from tests.regions.simulation.store import MemoryGroup, SimulatedGroup
from tests.support.etcd import etcd_group, etcd_members, lead_by, needs_etcd
from tests.support.links import ZONE, RegionIssuer
from tests.support.probes import eventually
from tests.support.replicating import tables_of
from tests.support.shells import CALM, NAMES, ShellRegion, World, shells
from tests.support.stores import StoreUrls


@pytest.fixture
async def world(store_urls: StoreUrls) -> AsyncIterator[World]:
    async with shells(store_urls, SimulatedGroup(MemoryGroup(), SystemClock())) as found:
        yield found


@pytest.fixture
async def real_world(store_urls: StoreUrls, tmp_path: Path) -> AsyncIterator[World]:
    """With all that is real: etcd, and links over TLS."""
    with etcd_members() as members:
        async with etcd_group(members) as group, shells(store_urls, group, RegionIssuer(tmp_path), CALM) as found:
            yield found


async def test_the_processes_of_each_region_are_told_what_is_replicated(world: World) -> None:
    east = await world.primary()
    head = await east.write("t1")
    north = world.regions["north"]

    async def told() -> bool:
        here, there = await east.statuses.read(), await north.statuses.read()
        return here.is_replicated(head) and there.is_replicated(head)

    await eventually(told)
    here, there = await east.statuses.read(), await north.statuses.read()
    assert here.told is not None
    assert there.told is not None
    assert (here.role, here.told.primary, here.told.refusal, here.epoch) == ("primary", "east", None, here.told.epoch)
    assert (there.role, there.told.primary, there.told.refusal) == ("secondary", "east", "not_primary")
    assert there.silent_s is not None

    for name in ("north", "west"):
        world.cut("east", name)
    unseen = await east.write("t2")
    world.regions["north"].group.up = False

    async def silent() -> bool:
        status = await north.statuses.read()
        return status.silent_s is not None and status.silent_s > 0.6

    await eventually(silent)
    assert not (await north.statuses.read()).is_replicated(unseen)


@needs_etcd
async def test_a_lost_primary_is_replaced_and_comes_back(real_world: World) -> None:
    world = real_world
    east = await world.primary()
    assert east.name == "east"
    before = await world.record()
    await east.acknowledged("t1", "t2")
    for name in (await world.record()).in_sync:
        assert await world.regions[name].tasks() == {"t1", "t2"}, "an answer rests on every member of the set"

    await east.kill()
    world.isolate("east")
    second = await world.primary(("north", "west"))
    after = await world.record()
    assert (after.epoch > before.epoch, after.in_sync) == (True, {"north", "west"})
    with pytest.raises(Fenced):
        await east.write("too late")
    assert "too late" not in await east.tasks()
    assert await second.tasks() == {"t1", "t2"}
    await second.acknowledged("t3")

    world.isolate("east", up=True)
    await east.start()
    assert await world.primary() is second
    await second.acknowledged("t4")
    assert await world.primary() is second
    assert await tables_of(east.stores) == await tables_of(second.stores)
    assert (await east.stores.region.epoch(), east.shell.problem) == (after.epoch, None)
    with pytest.raises(Fenced):
        await east.write("not here")


@needs_etcd
async def test_the_primarys_member_does_not_lead_etcd(store_urls: StoreUrls) -> None:
    with etcd_members(NAMES) as members:
        async with etcd_group(members) as group:
            await lead_by(members, "east")
            async with shells(store_urls, group, timers=CALM) as world:
                assert (await world.primary()).name == "east"

                async def moved() -> bool:
                    return (await group.members()).leader != "east"

                await eventually(moved, what="it is moved after the election")
                await lead_by(members, "east")
                await eventually(moved, what="it is moved when it has come back")
                await (await world.primary()).acknowledged("t1")
                found = world.regions["west"].shell
                await eventually(lambda: found.group_members and found.group_members.leader in ("north", "west"))


async def test_a_change_is_seen_by_the_watch_and_by_reads(world: World) -> None:
    await world.primary()
    west = world.regions["west"]

    async def switch(automatic: bool) -> None:
        """Changes the group, and waits until west has seen it."""
        text = (await world.group.read("")).value(MEMBERS_KEY)
        assert text is not None
        after = replace(RegionGroup.decode(text), automatic_failover=automatic)
        assert await world.group.swap([], [KeyPut(key=MEMBERS_KEY, value=after.encode())])
        await eventually(lambda: west.shell.state.group == after)

    west.group.reads = False
    await switch(False)
    west.group.reads, west.group.watches = True, False
    await switch(True)


async def test_an_overtaken_read_is_not_taken_and_a_restored_store_is(store_urls: StoreUrls) -> None:
    store = MemoryGroup()
    async with shells(store_urls, SimulatedGroup(store, SystemClock())) as world:
        await world.primary()
        west = world.regions["west"]
        before = store.snapshot()
        west.group.holds = True
        await eventually(lambda: west.group.on_the_way)
        assert west.shell.state.group is not None
        after = replace(west.shell.state.group, automatic_failover=False)
        assert await world.group.swap([], [KeyPut(key=MEMBERS_KEY, value=after.encode())])
        await eventually(lambda: west.shell.state.group == after)
        west.group.goes_on.set()
        await eventually(lambda: not west.group.on_the_way)
        assert west.shell.state.group == after
        store.restore(before, SystemClock().now())
        west.group.reads = True
        await eventually(lambda: west.shell.state.group != after, what="revisions of a restored store are older")


async def test_rows_that_come_while_a_region_campaigns_are_not_applied(world: World) -> None:
    """It has told its rivals how far it is, and another may be elected."""
    east = await world.primary()
    west = world.regions["west"]
    world.cut("east", "north")
    west.links["east"].goes_on.clear()
    await east.write("surplus")
    await eventually(lambda: west.links["east"].on_the_way)
    north = world.regions["north"]
    north.group.up = False  # else it may be elected before this one campaigns
    await east.kill()
    east.group.up = False
    await eventually(lambda: west.shell.state.phase is RegionPhase.CAMPAIGNING)
    north.group.up = True
    west.links["east"].goes_on.set()
    second = await world.primary(("north", "west"))
    await second.acknowledged("t1")
    await world.primary(("north", "west"))  # who was late when it was answered has it now
    for name in ("north", "west"):
        assert await world.regions[name].tasks() == {"t1"}


async def test_who_was_primary_and_answers_never_is_not_waited_for(world: World) -> None:
    east = await world.primary()
    west = world.regions["west"]
    west.links["east"].goes_on.clear()
    await east.write("t1")
    await eventually(lambda: west.links["east"].on_the_way)
    await east.kill()
    east.group.up = False
    second = await world.primary(("north", "west"))
    await second.acknowledged("t2")
    assert await world.primary(("north", "west")) is second
    assert await west.tasks() == {"t1", "t2"}
    assert (await world.record()).in_sync == {"north", "west"}


async def test_a_question_whose_answer_never_comes_is_asked_again(world: World) -> None:
    """As on a connection that is half open."""
    east = await world.primary()
    link = world.regions["west"].links["east"]
    link.goes_on.clear()
    await east.write("t1")
    await eventually(lambda: link.on_the_way)
    link.goes_on = asyncio.Event()
    link.goes_on.set()
    await east.acknowledged("t2")
    assert await world.primary() is east
    assert await world.regions["west"].tasks() == {"t1", "t2"}


async def test_a_member_leaves_the_set_before_an_answer_that_it_lacks(world: World) -> None:
    east = await world.primary()
    world.cut("east", "west")
    await east.acknowledged("t1")
    assert (await world.record()).in_sync == {"east", "north"}
    assert (await world.regions["north"].tasks(), await world.regions["west"].tasks()) == ({"t1"}, set())
    world.cut("east", "west", up=True)
    await world.primary()
    assert await world.regions["west"].tasks() == {"t1"}


async def test_an_isolated_primary_stops_and_answers_nothing(world: World) -> None:
    east = await world.primary()
    assert east.shell.why_not_write() is None
    assert east.shell.state.term is not None
    epoch = east.shell.state.term.epoch
    world.isolate("east")
    head = await east.write("surplus")
    with pytest.raises(TryLater) as unknown:
        await east.shell.replicated(epoch, head, 20.0)
    assert unknown.value.code == "not_replicated"
    await eventually(lambda: east.shell.state.phase is RegionPhase.FOLLOWING)
    refused = east.shell.why_not_write()
    assert refused is not None
    assert refused.code == "not_primary"
    second = await world.primary(("north", "west"))
    with pytest.raises(Fenced):
        await east.write("too late")
    await second.acknowledged("t1")
    world.isolate("east", up=True)
    await eventually(lambda: east.shell.problem is Refusal.FORK, what="the fork is named")
    assert await east.tasks() == {"surplus"}, "what nobody was answered for is kept until an operator decides"
    assert "east" not in (await world.record()).in_sync


async def _forked(world: World) -> ShellRegion:
    """Another region than east leads, and east, which has a row that nobody took, lives no more."""
    east = await world.primary()
    await east.acknowledged("shared")
    world.isolate("east")
    await east.write("surplus")
    await eventually(lambda: east.shell.state.phase is RegionPhase.FOLLOWING)
    second = await world.primary(("north", "west"))
    await second.acknowledged("t1")
    await east.kill()
    return second


def _files(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


async def test_a_log_that_forked_is_kept_in_a_file_and_copied_anew(world: World, tmp_path: Path) -> None:
    await _forked(world)
    east = world.regions["east"]
    east.surplus = tmp_path
    await east.start()
    world.isolate("east", up=True)
    await world.primary()
    assert await east.tasks() == {"shared", "t1"}
    ((name, text),) = _files(tmp_path).items()
    assert name.startswith("surplus-east-")
    assert '"surplus"' in text
    await eventually(lambda: east.shell.problem is None)


async def test_a_log_that_shares_no_row_is_left_to_operators(world: World, tmp_path: Path) -> None:
    await _forked(world)
    east = world.regions["east"]
    east.surplus = tmp_path
    await east.stores.pool.execute("update log set digest = '\\x00'")
    before = await east.tasks()
    await east.start()
    world.isolate("east", up=True)
    await eventually(lambda: east.shell.problem is Refusal.FORK, what="the fork is named")
    assert (await east.tasks(), _files(tmp_path)) == (before, {})


@pytest.mark.parametrize("surplus", [False, True])
async def test_a_region_whose_rows_are_kept_no_more_is_copied_anew(world: World, tmp_path: Path, surplus: bool) -> None:
    """Nobody has to ask for it: the primary has waited for as long as it was told to."""
    east = await (_forked(world) if surplus else _without_west(world))
    name = "east" if surplus else "west"
    back = world.regions[name]
    back.surplus = tmp_path
    await east.acknowledged("t2", "t3")
    # What went is in an archive, whose epochs are kept.
    last = await east.stores.log.head()
    epochs = (
        "select json_agg(json_build_array(e, s)) from (select epoch e, max(seq) s from log where seq < $1 group by 1) t"
    )
    kept = await east.stores.pool.value(f"with e as ({epochs}) select json_agg::text from e", last)
    await east.stores.pool.execute(
        "insert into log_archives values (1, $1, 0, 'n', '\\x01', '\\x02', $2::text::json, false)", last - 1, kept
    )
    await east.stores.pool.execute("delete from log where seq < $1", last)
    await back.start()
    world.isolate(name, up=True)
    await world.primary()
    assert await tables_of(back.stores) == await tables_of(east.stores)
    await eventually(lambda: back.shell.problem is None)
    assert len(_files(tmp_path)) == surplus


async def _without_west(world: World) -> ShellRegion:
    east = await world.primary()
    await east.acknowledged("t1")
    world.isolate("west")
    await world.regions["west"].kill()
    return east


async def test_the_primary_tells_how_far_the_others_are(world: World) -> None:
    east = await world.primary()

    async def told() -> bool:
        rows = await east.stores.pool.rows("select region, epoch, seq from replication_cursors order by region")
        epochs = {row["epoch"] for row in rows}
        return [row["region"] for row in rows if row["seq"]] == sorted(NAMES) and epochs == {
            (await world.record()).epoch
        }

    await eventually(told, what="each region has asked, and is known")
    assert await world.regions["north"].stores.pool.value("select count(*) from replication_cursors") == 0


async def test_a_primary_without_members_refuses_writes(world: World) -> None:
    east = await world.primary()
    for name in ("north", "west"):
        await world.regions[name].kill()
        world.isolate(name)
    head = await east.write("t1")
    assert east.shell.state.term is not None
    await east.shell.replicated(east.shell.state.term.epoch, head, 20.0)
    assert (await world.record()).in_sync == {"east"}
    refused = east.shell.why_not_write()
    assert refused is not None
    assert refused.code == "not_replicated"


async def test_a_region_is_copied_only_outside_the_set(world: World) -> None:
    """It lost its database: meanwhile no answer may rest on it."""
    east = await world.primary()
    await east.acknowledged("t1")
    west = world.regions["west"]
    await west.kill()
    await west.stores.pool.execute("truncate log, tasks")
    await west.start()

    async def left() -> bool:
        return "west" not in (await world.record()).in_sync

    await eventually(left)
    await world.primary()
    assert await tables_of(west.stores) == await tables_of(east.stores)


async def test_only_whole_followers_of_this_epoch_confirm(world: World) -> None:
    """Who has not stored the epoch may still take rows of an earlier primary."""
    east = await world.primary()
    world.cut("east", "north")
    head = await east.write("t1")
    term = east.shell.state.term
    assert term is not None
    position = (await PostgresReplica(east.stores.pool, ZONE).state()).head
    before = term.persisted["north"]
    for epoch, is_whole in ((term.epoch - 1, True), (0, True), (term.epoch + 1, True), (term.epoch, False)):
        await east.shell.peers.batch("north", Follower(position=position, is_whole=is_whole, epoch=epoch))
        assert east.shell.state.term is not None
        assert east.shell.state.term.persisted.get("north", 0) == before < head
    await east.shell.peers.batch("north", Follower(position=position, is_whole=True, epoch=term.epoch))
    assert east.shell.state.term is not None
    assert east.shell.state.term.persisted["north"] == head


async def test_what_a_peer_was_sent_is_confirmed_without_a_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    east = await world.primary()
    world.cut("east", "north")
    replica = PostgresReplica(east.stores.pool, ZONE)
    earlier = (await replica.state()).head
    head = await east.write("t1")
    assert east.shell.state.term is not None
    epoch = east.shell.state.term.epoch
    sent = await east.shell.peers.batch("north", Follower(position=earlier, is_whole=True, epoch=epoch))
    assert sent.last.seq == head

    def confirmed() -> bool:
        assert east.shell.state.term is not None
        return east.shell.state.term.persisted["north"] == head

    async def never(after: LogPosition, *, is_draining: bool = False) -> Batch:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(east.shell.peers._source, "batch", never)
    peers, asked = east.shell.peers, []
    for position in (replace(sent.last, digest="of another log"), sent.last):
        assert not confirmed()
        peers._sent["north"] = _sent(sent, peers._commits)
        asked.append(asyncio.create_task(peers.batch("north", Follower(position=position, is_whole=True, epoch=epoch))))
        await eventually(lambda: "north" not in peers._sent)
    await eventually(confirmed)
    await ended(*asked)


async def test_a_process_that_starts_closes_what_an_earlier_one_opened(world: World) -> None:
    east = await world.primary()
    await east.write("t1")
    await east.kill()
    await east.write("t2")  # the trust has not ended
    world.isolate("east")
    await east.start()
    with pytest.raises(Fenced):
        await east.write("t3")
