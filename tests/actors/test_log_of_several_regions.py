"""Retention of the log in several regions: the primary waits for the others, and they let go of what it has archived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.domain.audit.log_retention import CURSOR_DROPPED
from cluster.domain.audit.retention import DAY_S
from cluster.domain.base.log import LogRow
from cluster.log.archives import archived_rows, joined
from cluster.log.audit import verify_part
from cluster.postgres.migrate import migrate
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.replication_source import PostgresReplicationReads
from cluster.postgres.replication_statuses import PostgresReplicationStatuses
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import ManualClock
from regions.replication.receiver import ReplicationReceiver
from tests.actors.test_sealer import seal_all, sealer
from tests.regions.test_replication import Bell, Link
from tests.support.log_segments import LATER, all_read, log_keeper, short_segments
from tests.support.samples import NOW, system_event
from tests.support.stores import StoreUrls, fresh_name

ZONE = "test-region"
#: Of the region that follows: bounds of its segments are others than the primary's.
LENGTH = 7


@pytest.fixture
async def follows(store_urls: StoreUrls) -> AsyncIterator[Stores]:
    schema = fresh_name()
    await migrate(store_urls.database, schema)
    opened = await open_stores(store_urls.database, schema, ZONE, max_connections=2, alone=False)
    assert await PostgresReplica(opened.pool, ZONE).set_role("secondary", 1, None)
    yield opened
    await opened.close()


async def _written(stores: Stores, follows: Stores, directory: Path) -> ReplicationReceiver:
    """Both have 35 rows, 30 of which the primary has archived and the other one has read."""
    await short_segments(stores)
    await short_segments(follows, LENGTH)
    receiver = ReplicationReceiver(PostgresReplica(follows.pool, ZONE), Link(stores), Bell())
    for n in range(7):
        await stores.log.append([system_event(f"e{n}-{k}") for k in range(5)])
        await receiver.catch_up()
    await seal_all(sealer(stores))
    await all_read(stores)
    assert await log_keeper(stores, directory / "primary").look() == 3
    await receiver.catch_up()
    await follows.pool.execute("insert into telemetry values ('counts', 38, '{}')")
    return receiver


async def _history(stores: Stores) -> tuple[tuple[int, int], ...]:
    async with PostgresReplicationReads(stores.pool).snapshot() as snapshot:
        return await snapshot.history()


async def _becomes_primary(follows: Stores) -> None:
    assert await PostgresReplica(follows.pool, ZONE).set_role("primary", 2, 3600.0)
    assert await follows.region.epoch() == 2


async def test_a_region_that_follows_lets_go_of_what_is_archived(
    stores: Stores, follows: Stores, tmp_path: Path
) -> None:
    await _written(stores, follows, tmp_path)
    before = await _history(follows)
    assert await log_keeper(follows, tmp_path / "own").look() == 4
    assert [row.seq for row in await follows.log.read(0, 100)] == list(range(29, 39)), "none was written"
    assert await _history(follows) == before == await _history(stores)
    archives = joined(await follows.log_segments.archives(), tmp_path / "own", 28)
    assert [(archive.first_seq, archive.last_seq) for archive in archives] == [(1, 7), (8, 14), (15, 21), (22, 28)]
    rows = list(archived_rows(tmp_path / "own", archives, 28))
    assert [row.seq for row in rows if isinstance(row, LogRow) and row.verifies()] == list(range(1, 29))


async def test_a_region_that_takes_over_seals_and_removes_on(stores: Stores, follows: Stores, tmp_path: Path) -> None:
    await _written(stores, follows, tmp_path)
    await log_keeper(follows, tmp_path / "own").look()
    await _becomes_primary(follows)
    await follows.log.append([system_event(f"new{n}") for n in range(20)])
    await seal_all(sealer(follows))
    part = await verify_part(follows.log, follows.seals, 0, None)
    assert (part.report.fault, part.report.checked_through) == (None, 58)
    await all_read(follows)
    await PostgresReplicationStatuses(follows.pool, ZONE).tell_cursors(2, {"west": 58})
    assert await log_keeper(follows, tmp_path / "own").look() > 0
    assert (await verify_part(follows.log, follows.seals, 0, None)).report.fault is None
    base = (await follows.log.first() or 0) - 1
    found = list(
        archived_rows(tmp_path / "own", joined(await follows.log_segments.archives(), tmp_path / "own", base), base)
    )
    assert [row.seq for row in found if isinstance(row, LogRow)] == list(range(1, base + 1))


async def test_a_former_primary_seals_on_after_it_has_followed(stores: Stores, follows: Stores, tmp_path: Path) -> None:
    """It has signed rows itself, which go while it follows; the next checkpoint begins with what is left."""
    await _written(stores, follows, tmp_path)
    await follows.pool.execute(
        "insert into audit_checkpoints values (5, 1, '{}', '\\x01', '\\x02', repeat('0', 160)::bytea)"
    )
    assert await log_keeper(follows, tmp_path / "own").look() == 4
    await _becomes_primary(follows)
    await seal_all(sealer(follows))
    assert (await verify_part(follows.log, follows.seals, 0, None)).report.fault is None
    assert await follows.pool.value("select min(first_seq) from audit_checkpoints") == 29


@pytest.mark.parametrize(
    ("hold", "left_from"),
    [
        ("update telemetry set cursor = 13", 8),
        ("delete from log_archives where first_seq > 1", 8),
        # Rows are compared up to the end of the primary's archive, which is after that of the segment.
        ("update log set entity = 'forged' where seq = 16", 8),
        ("update log set entity = 'forged' where seq = 30", 15),
        ("update region_state set role = 'fenced'", 1),
        (
            "insert into replicas (zone, images_at, copying) values ('test-region', 1, '{}') on conflict (zone) do update "
            "set copying = '{}'",
            1,
        ),
    ],
)
async def test_what_must_stay_stays_in_a_region_that_follows(
    stores: Stores, follows: Stores, tmp_path: Path, hold: str, left_from: int
) -> None:
    await _written(stores, follows, tmp_path)
    await follows.pool.execute(hold)
    await log_keeper(follows, tmp_path / "own").look()
    assert await follows.log.first() == left_from


async def test_a_region_that_follows_keeps_what_its_own_settings_keep(
    stores: Stores, follows: Stores, tmp_path: Path
) -> None:
    await _written(stores, follows, tmp_path)
    for parts in ({"days": 0.0}, {"clock": ManualClock(NOW)}):
        assert await log_keeper(follows, tmp_path / "own", **parts).look() == 0
    assert await log_keeper(follows, None).look() == 0


async def test_files_of_a_region_that_follows_end_too(stores: Stores, follows: Stores, tmp_path: Path) -> None:
    """Those of the primary are the primary's to delete, also if both have one directory."""
    await _written(stores, follows, tmp_path)
    directory = tmp_path / "primary"
    await log_keeper(follows, directory).look()
    assert len(list(directory.iterdir())) == 7
    await log_keeper(follows, directory, clock=ManualClock(LATER + 91 * DAY_S)).look()
    assert [path.name.count("followed") for path in directory.iterdir()] == [0, 0, 0]


async def _sealed(stores: Stores) -> None:
    """A log of four segments that is sealed and read, of a region with peers."""
    await short_segments(stores)
    for n in range(7):
        await stores.log.append([system_event(f"e{n}-{k}") for k in range(5)])
    await seal_all(sealer(stores))
    await all_read(stores)
    await stores.pool.execute("update region_state set trusted_until = now() + interval '1 hour'")


async def test_the_log_waits_until_the_leader_has_told_of_others(stores: Stores, tmp_path: Path) -> None:
    await _sealed(stores)
    keeper = log_keeper(stores, tmp_path, clock=ManualClock(LATER + 60 * DAY_S))
    assert await keeper.look() == 0
    assert "has not told yet" in (await keeper.status())["warnings"][0]
    await PostgresReplicationStatuses(stores.pool, ZONE).tell_cursors(stores.epoch.value, {"east": 35})
    assert await keeper.look() == 3


@pytest.mark.parametrize(("cursor", "went"), [(12, 1), (None, 0), (35, 3)])
async def test_the_log_waits_for_regions_that_follow(
    stores: Stores, tmp_path: Path, cursor: int | None, went: int
) -> None:
    await _sealed(stores)
    statuses = PostgresReplicationStatuses(stores.pool, ZONE)
    await statuses.tell_cursors(stores.epoch.value, {"east": 35, "west": cursor})
    keeper = log_keeper(stores, tmp_path)
    assert await keeper.look() == went
    await statuses.tell_cursors(stores.epoch.value, {"east": 35})  # an operator has taken it out of the group
    assert await keeper.look() == 3 - went


async def test_a_region_that_is_away_too_long_is_given_up(stores: Stores, tmp_path: Path) -> None:
    await _sealed(stores)
    statuses = PostgresReplicationStatuses(stores.pool, ZONE)
    await statuses.tell_cursors(stores.epoch.value, {"east": 35, "north": None, "west": 12})
    keeper = log_keeper(stores, tmp_path, clock=ManualClock(LATER + 8 * DAY_S))
    assert await keeper.look() == 3
    rows = [row for row in await stores.log.read(0, 100) if row.kind == CURSOR_DROPPED]
    told = [(row.data["follower"], row.data["region"], row.data["last_seq"]) for row in rows]
    assert told == [("region", "north", 10), ("region", "west", 20)], "each once"
    # Once it has been copied, it counts again.
    for seq, counts in ((None, {}), (12, {}), (40, {"west": 40})):
        await statuses.tell_cursors(stores.epoch.value, {"east": 50, "north": None, "west": seq})
        assert {**(await stores.log_segments.holds()).regions, "east": 0} == {"east": 0, **counts}


async def test_an_unknown_region_is_where_it_was(stores: Stores) -> None:
    """A new leader knows nobody's place until it is asked."""
    statuses = PostgresReplicationStatuses(stores.pool, ZONE)
    await statuses.tell_cursors(stores.epoch.value, {"east": 35, "west": 12})
    await statuses.tell_cursors(stores.epoch.value, {"east": 36, "west": None})
    assert (await stores.log_segments.holds()).regions == {"east": 36, "west": 12}
