"""The log in segments: commits make the next one, readers see no bound, and copies go on over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.domain.base.log import LogRow
from cluster.postgres.growth import looking
from cluster.postgres.migrate import migrate
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.replication_source import PostgresReplicationReads
from cluster.postgres.stores import Stores, open_stores
from regions.replication.receiver import ReplicationReceiver
from tests.regions.test_replication import Bell, Link
from tests.support.log_segments import segments as segments_of
from tests.support.log_segments import short_segments
from tests.support.samples import system_event
from tests.support.stores import StoreUrls, fresh_name

ZONE = "test-region"


async def _write(stores: Stores, count: int) -> None:
    for n in range(count):
        await stores.log.append([system_event(f"e{n}")])


async def _all(stores: Stores) -> list[LogRow]:
    return await stores.log.read(0, 10_000)


async def test_a_commit_that_reaches_the_end_makes_the_next_segment(stores: Stores) -> None:
    await short_segments(stores)
    await _write(stores, 10)
    assert await segments_of(stores) == [(1, 1, 11)]
    assert await stores.log.head() == 10, "of a full segment"
    await _write(stores, 1)
    assert await segments_of(stores) == [(1, 1, 11), (2, 11, 21)]
    await stores.log.append([system_event(f"many{n}") for n in range(25)])
    assert [end for *_, end in await segments_of(stores)] == [11, 21, 41], "one commit is in two of them"
    assert [row.seq for row in await _all(stores)] == list(range(1, 37))
    assert await stores.log.head() == 36


async def _fails(stores: Stores) -> None:
    async with stores.pool.transaction() as connection:
        await connection.execute("select log_make_room(11)")
        raise ZeroDivisionError


async def test_a_commit_that_fails_leaves_no_segment(stores: Stores) -> None:
    await short_segments(stores)
    await _write(stores, 10)
    with pytest.raises(ZeroDivisionError):
        await _fails(stores)
    assert await segments_of(stores) == [(1, 1, 11)]
    await _write(stores, 1)
    assert await stores.log.head() == 11


async def test_commits_at_once_over_many_segments_have_no_gap(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    await short_segments(stores, 3)
    others = [await open_stores(store_urls.database, schema, ZONE, max_connections=2) for _ in range(3)]
    try:
        await asyncio.gather(*(_write(each, 20) for each in (stores, *others)))
    finally:
        for other in others:
            await other.close()
    assert [row.seq for row in await _all(stores)] == list(range(1, 81))
    assert len(await segments_of(stores)) == 27


async def test_reads_that_are_open_do_not_hold_up_a_new_segment(stores: Stores) -> None:
    await short_segments(stores)
    await _write(stores, 10)
    async with stores.pool.snapshot() as connection:
        assert await connection.fetchval("select count(*) from log") == 10
        await asyncio.wait_for(_write(stores, 1), 5)
        assert await connection.fetchval("select count(*) from log") == 10


@pytest.mark.parametrize(
    ("last", "age_s", "expected"),
    [
        (100_000, 3600.0, 200_000),
        (100_000, 2 * 86_400.0, 100_000),
        (400_000, 8 * 86_400.0, 200_000),
        (100_000, 8 * 86_400.0, 100_000),
        (25_600_000, 1.0, 25_600_000),
    ],
)
async def test_a_segment_is_as_long_as_the_rate_of_rows_asks(
    stores: Stores, last: int, age_s: float, expected: int
) -> None:
    assert await stores.pool.value("select log_segment_length($1, $2)", last, age_s) == expected


@pytest.fixture
async def secondary(store_urls: StoreUrls) -> AsyncIterator[Stores]:
    schema = fresh_name()
    await migrate(store_urls.database, schema)
    opened = await open_stores(store_urls.database, schema, ZONE, max_connections=2)
    assert await PostgresReplica(opened.pool, ZONE).set_role("secondary", 1, None)
    yield opened
    await opened.close()


async def test_rows_are_replicated_over_bounds_that_differ(stores: Stores, secondary: Stores) -> None:
    await short_segments(stores)
    await short_segments(secondary, 7)
    receiver = ReplicationReceiver(PostgresReplica(secondary.pool, ZONE), Link(stores), Bell())
    await _write(stores, 5)
    await receiver.copy()
    await receiver.catch_up()
    await _write(stores, 30)
    await receiver.catch_up()
    assert [row.digest for row in await _all(secondary)] == [row.digest for row in await _all(stores)]
    assert await segments_of(secondary) == [(1, 1, 8), (2, 8, 36)], "as many numbers as the batch needs"


async def test_a_copy_may_begin_far_behind_the_first_number(stores: Stores, secondary: Stores) -> None:
    await short_segments(stores)
    await short_segments(secondary)
    await _write(stores, 95)
    await stores.pool.execute("delete from log where seq <= 90")
    receiver = ReplicationReceiver(PostgresReplica(secondary.pool, ZONE), Link(stores), Bell())
    await receiver.copy()
    assert [row.seq for row in await _all(secondary)] == list(range(91, 96))
    assert await segments_of(secondary) == [(1, 1, 11), (2, 11, 101)]


async def test_sizes_name_the_log_once(stores: Stores, store_urls: StoreUrls, schema: str) -> None:
    await short_segments(stores)
    await _write(stores, 30)
    async with looking(store_urls.database, schema) as looker:
        sizes = {table.name: table.size for table in (await looker.growth()).tables}
    whole = await stores.pool.value(
        "select sum(pg_total_relation_size(inhrelid))::bigint from pg_inherits where inhparent = 'log'::regclass"
    )
    assert sizes["log"] == whole
    assert not any(name.startswith("log_1") for name in sizes)


async def test_epochs_of_removed_rows_are_in_the_history(stores: Stores) -> None:
    await _write(stores, 3)
    await stores.pool.execute(
        "delete from log where seq < 3; "
        "insert into log_archives values (1, 2, 0, 'n', '\\x01', '\\x02', '[[1, 1], [2, 2]]', false)"
    )
    async with PostgresReplicationReads(stores.pool).snapshot() as snapshot:
        assert await snapshot.history() == ((1, 3), (2, 2))
