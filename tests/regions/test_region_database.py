"""What a region's leader does to its database: each refusal by itself, on a real one."""

from __future__ import annotations

import pytest

from cluster.domain.base.errors import Conflict, Fenced
from cluster.domain.replication.quorum import DEFAULT_ZONE
from cluster.postgres.region_database import PostgresRegionDatabase
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.stores import Stores
from tests.support.samples import system_event

ZONE = "test-region"
LONG_S = 60.0


@pytest.fixture
async def database(stores: Stores) -> PostgresRegionDatabase:
    """Fenced, of epoch 1, with one row."""
    await stores.region.epoch()
    await stores.log.append([system_event("e1")])
    found = PostgresRegionDatabase(stores.pool, ZONE, "east")
    assert await found.close_writes() == 1
    return found


async def writes(stores: Stores) -> bool:
    try:
        await stores.log.append([system_event("e")])
    except Fenced:
        return False
    return True


async def test_writes_are_opened_under_a_later_epoch_with_a_row(
    stores: Stores, database: PostgresRegionDatabase
) -> None:
    assert not await writes(stores)
    until = await database.clock() + LONG_S
    assert await database.open_writes(1, until) is None
    assert await database.open_writes(4, until) == 2
    (row,) = await stores.log.read(1, 10)
    assert (row.kind, row.epoch, row.data) == ("region.epoch_raised", 4, {"leader": "east"})
    assert row.verifies()
    assert not await writes(stores), "who has not asked for the epoch states an older one"
    await stores.region.epoch()
    assert await writes(stores)
    assert await database.open_writes(4, until) is None, "nobody opens one epoch twice"
    report = await database.report()
    assert (report.epoch, report.position.seq, report.is_whole) == (4, 3, True)


@pytest.mark.parametrize(("images_at", "copying"), [(2, None), (1, "{}"), (0, "{}")])
async def test_writes_are_not_opened_in_a_part_of_a_copy(
    stores: Stores, database: PostgresRegionDatabase, images_at: int, copying: str | None
) -> None:
    await stores.pool.execute("insert into replicas values ($1, $2, $3::text::json)", ZONE, images_at, copying)
    until = await database.clock() + LONG_S
    assert await database.open_writes(2, until) is None
    await stores.pool.execute("update replicas set copying = null, images_at = 1")
    assert await database.open_writes(2, until) == 2


async def test_who_lacks_payloads_does_not_take_over(stores: Stores, database: PostgresRegionDatabase) -> None:
    """Its images would replace those of the regions that have them."""
    await stores.pool.execute("insert into workspace_zones values ('w', 'eu')")
    until = await database.clock() + LONG_S
    inside = PostgresRegionDatabase(stores.pool, ZONE, "west", "eu")
    for outside in (database, PostgresRegionDatabase(stores.pool, ZONE, "north", "us")):
        assert ((await outside.report()).is_whole, await outside.open_writes(2, until)) == (False, None)
    follower = (await PostgresReplica(stores.pool, ZONE).state()).as_follower
    assert (follower.is_whole, (await inside.report()).is_whole) == (False, True)
    assert await inside.open_writes(2, until) == 2


async def test_trust_is_by_the_clock_of_the_database_and_never_moves_back(
    stores: Stores, database: PostgresRegionDatabase
) -> None:
    now = await database.clock()
    assert await database.open_writes(2, now - 0.001) is None
    assert await database.open_writes(2, now + LONG_S) == 2
    await stores.region.epoch()
    await database.move_trust(2, now - 5.0)
    assert await writes(stores)
    for epoch in (1, 3):
        await database.move_trust(epoch, now + 99 * LONG_S)
    read = "select extract(epoch from trusted_until)::double precision from region_state"
    assert await stores.pool.value(read) == pytest.approx(now + LONG_S, rel=0, abs=0.01)
    await database.move_trust(2, now + 2 * LONG_S)
    assert await stores.pool.value(read) == pytest.approx(now + 2 * LONG_S, rel=0, abs=0.01)
    await database.close_writes()
    await database.move_trust(2, now + 99 * LONG_S)
    assert not await writes(stores)


async def test_a_schema_keeps_one_zone_of_residency(stores: Stores, database: PostgresRegionDatabase) -> None:
    await PostgresRegionDatabase(stores.pool, DEFAULT_ZONE, "east").keep()
    until = await database.clock() + LONG_S
    other = PostgresRegionDatabase(stores.pool, "eu", "east")
    await other.remember_version(1)
    await database.keep()
    for zone in ("eu", DEFAULT_ZONE):
        with pytest.raises(Conflict) as refused:
            await PostgresRegionDatabase(stores.pool, zone, "east").keep()
        assert refused.value.code == "wrong_zone"
    with pytest.raises(Fenced):
        await other.open_writes(2, until)
    await database.keep()
    assert await database.open_writes(2, until) == 2
    await database.move_trust(2, until + LONG_S)


async def test_the_version_that_a_database_was_told_only_grows(
    stores: Stores, database: PostgresRegionDatabase
) -> None:
    for version, known in ((7, 7), (3, 7), (8, 8)):
        await database.remember_version(version)
        assert (await database.report()).version == known
    other = PostgresRegionDatabase(stores.pool, "another-zone", "east")
    await other.remember_version(0)
    state = await PostgresReplica(stores.pool, "another-zone").state()
    assert (state.role, state.epoch) == ("fenced", 0), "a region that joins writes nothing before it is elected"
