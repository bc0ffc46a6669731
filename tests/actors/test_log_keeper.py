"""Old segments of the log go into archives and then from the database; nothing goes that somebody needs or no archive has."""

from __future__ import annotations

import asyncio
import gzip
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.domain.audit.log_retention import CURSOR_DROPPED, LOG_REMOVED, removal
from cluster.domain.audit.retention import DAY_S
from cluster.domain.base.log import LogRow
from cluster.log.audit import verify_part
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import ManualClock
from tests.actors.test_sealer import seal_all, sealer
from tests.support.log_segments import LATER, all_read, an_archive, log_keeper, short_segments
from tests.support.log_segments import segments as segments_of
from tests.support.retention import open_task
from tests.support.samples import NOW, system_event
from tests.support.stores import StoreUrls


async def _written(stores: Stores, count: int = 35) -> list[LogRow]:
    """A log of four segments that is sealed and read."""
    await short_segments(stores)
    for n in range(0, count, 5):
        await stores.log.append([system_event(f"e{n + k}") for k in range(5)])
    await seal_all(sealer(stores))
    await all_read(stores)
    return await stores.log.read(0, 1000)


def _files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def text_of(directory: Path) -> str:
    """What the archives hold, one after the other."""
    return "".join(gzip.decompress((directory / name).read_bytes()).decode() for name in _files(directory))


async def test_old_segments_go_into_archives_and_the_newest_stays(stores: Stores, tmp_path: Path) -> None:
    rows = await _written(stores)
    assert await log_keeper(stores, tmp_path / "archive").look() == 3
    assert [number for number, *_ in await segments_of(stores)] == [4]
    left = await stores.log.read(0, 100)
    assert [row.seq for row in left] == list(range(31, 39))
    assert [(row.kind, row.data["first_seq"], row.data["last_seq"]) for row in left[5:]] == [
        (LOG_REMOVED, 1, 10),
        (LOG_REMOVED, 11, 20),
        (LOG_REMOVED, 21, 30),
    ]
    assert len(_files(tmp_path / "archive")) == 3
    archived = [line for line in text_of(tmp_path / "archive").splitlines() if line.startswith('{"row"')]
    assert [row.digest.hex() in line for row, line in zip(rows, archived, strict=False)] == [True] * 30


@pytest.mark.parametrize("directory", [True, False])
async def test_nothing_goes_without_a_directory_or_before_its_time(
    stores: Stores, tmp_path: Path, directory: bool
) -> None:
    await _written(stores)
    keeper = log_keeper(stores, tmp_path if directory else None, clock=ManualClock(LATER if not directory else NOW))
    assert await keeper.look() == 0
    assert await stores.log.first() == 1


@pytest.mark.parametrize(
    "hold",
    [
        "update telemetry set cursor = 29",
        "update notification_cursors set seq = 29",
        "update workflow_cursors set seq = 29",
        "delete from notification_cursors",
        "update workflow_cursors set epoch = 7",
        "delete from audit_checkpoints where last_seq > 29",
    ],
)
async def test_what_somebody_has_still_to_read_stays(stores: Stores, tmp_path: Path, hold: str) -> None:
    await _written(stores)
    await stores.pool.execute(hold)
    late = log_keeper(stores, tmp_path, clock=ManualClock(LATER + 8 * DAY_S), hold_s=0.0)
    await late.look()
    assert await stores.log.first() < 31
    assert "should have gone and stays" in (await late.status())["warnings"][0]
    await all_read(stores)
    await seal_all(sealer(stores))
    await late.look()
    assert await stores.log.first() == 31
    assert (await late.status())["warnings"] == []


@pytest.mark.parametrize(
    ("follower", "table"),
    [("telemetry", "telemetry"), ("notifications", "notification_cursors"), ("workflows", "workflow_cursors")],
)
async def test_a_follower_that_holds_the_log_too_long_is_dropped(
    stores: Stores, tmp_path: Path, follower: str, table: str
) -> None:
    await _written(stores)
    column = "cursor" if table == "telemetry" else "seq"
    await stores.pool.execute(f"update {table} set {column} = 12")
    keeper = log_keeper(stores, tmp_path, clock=ManualClock(LATER + 8 * DAY_S))
    assert await keeper.look() == 3
    rows = [row for row in await stores.log.read(0, 100) if row.kind == CURSOR_DROPPED]
    assert [(row.data["follower"], row.data["last_seq"]) for row in rows] == [(follower, 20), (follower, 30)]
    assert await stores.pool.value(f"select {column} from {table}") == 30
    assert (await verify_part(stores.log, stores.seals, 0, None)).report.fault is None
    assert (await keeper.status())["warnings"] == []


async def test_the_log_of_work_that_is_there_stays(stores: Stores, tmp_path: Path) -> None:
    await short_segments(stores)
    await open_task(stores, "t", NOW)
    await _written_on(stores)
    keeper = log_keeper(stores, tmp_path)
    assert await keeper.look() == 0
    assert (await keeper.status())["warnings"] == []
    await stores.pool.execute("delete from tasks")
    assert await keeper.look() == 3


async def _written_on(stores: Stores) -> None:
    for n in range(35):
        await stores.log.append([system_event(f"e{n}")])
    await seal_all(sealer(stores))
    await all_read(stores)


async def test_rows_that_are_not_what_was_sealed_do_not_go(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    await stores.pool.execute("update log set entity = 'forged' where seq = 13")
    keeper = log_keeper(stores, tmp_path)
    await keeper.look()
    assert await stores.log.first() == 11
    assert "Row 13 of the log is missing or was changed" in (await keeper.status())["warnings"][0]
    assert len(_files(tmp_path)) == 1, "no part of a file is left"


async def test_a_directory_that_cannot_be_written_is_told(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    (tmp_path / "file").write_text("")
    keeper = log_keeper(stores, tmp_path / "file" / "archive")
    await keeper.look()
    assert await stores.log.first() == 1
    assert "cannot be archived" in (await keeper.status())["warnings"][0]


async def test_a_view_on_a_segment_keeps_it_and_is_told(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    await stores.pool.execute("create view of_an_operator as select * from log_1")
    keeper = log_keeper(stores, tmp_path)
    assert await keeper.look() == 0
    assert "make it read log" in (await keeper.status())["warnings"][0]
    await stores.pool.execute("drop view of_an_operator")
    assert await keeper.look() == 3


async def test_a_long_read_keeps_a_segment_and_holds_up_no_commit(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    keeper = log_keeper(stores, tmp_path)
    async with stores.pool.snapshot() as connection:
        assert await connection.fetchval("select count(*) from log") == 35
        assert await keeper.look() == 0
        await stores.log.append([system_event("meanwhile")])
    assert await keeper.look() == 3


async def test_a_vacuum_of_another_segment_does_not_hold_it(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    async with stores.pool.transaction() as connection:
        await connection.execute("lock table log_4 in share update exclusive mode")
        assert await log_keeper(stores, tmp_path).look() == 3
    assert await stores.log.first() == 31


async def test_words_are_not_archived(stores: Stores, tmp_path: Path) -> None:
    await short_segments(stores)
    await stores.log.append([replace(system_event("worded"), private={"note": "SECRETWORD"})])
    await _written_on(stores)
    await log_keeper(stores, tmp_path).look()
    assert await stores.log.first() == 31
    assert "worded" in text_of(tmp_path)
    assert "SECRETWORD" not in text_of(tmp_path)


@pytest.mark.parametrize("point", ["before", "after"])
async def test_a_kill_at_a_commit_loses_no_row(
    stores: Stores, store_urls: StoreUrls, schema: str, tmp_path: Path, point: str
) -> None:
    rows = await _written(stores)
    command = [sys.executable, "-m", "tests.support.log_keeper_process", store_urls.database, schema, "test-region"]
    process = await asyncio.create_subprocess_exec(*command, str(tmp_path), point, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"stopped\n"
    process.kill()
    await process.wait()
    first = await stores.log.first()
    assert first == (11 if point == "before" else 21)
    assert await log_keeper(stores, tmp_path).look() == (2 if point == "before" else 1)
    assert [row.digest.hex() in text_of(tmp_path) for row in rows[:30]] == [True] * 30
    assert len(_files(tmp_path)) == 3


async def test_a_segment_that_still_gets_rows_stays(stores: Stores, tmp_path: Path) -> None:
    """A commit may make the next one before the last is full, since not all of its rows need be written."""
    await short_segments(stores)
    await stores.log.append([system_event(f"e{n}") for n in range(8)])
    await stores.pool.execute("select log_make_room(11)")
    await seal_all(sealer(stores))
    await all_read(stores)
    assert await log_keeper(stores, tmp_path).look() == 0
    assert (await stores.log.first(), await stores.log.head()) == (1, 8)


@pytest.mark.parametrize(("first", "last", "removed"), [(1, 10, True), (1, 9, False), (2, 10, False)])
async def test_a_segment_goes_only_if_the_archive_has_its_rows(
    stores: Stores, first: int, last: int, removed: bool
) -> None:
    await _written(stores)
    segment, archive = await stores.log_segments.oldest(), an_archive(first, last)
    assert segment is not None
    assert await stores.log_segments.remove(segment, archive, removal(archive, NOW)) is removed
    assert await stores.log.first() == (11 if removed else 1)
    assert len(await stores.log_segments.archives()) == removed


async def test_the_newest_segment_is_never_removed(stores: Stores) -> None:
    await short_segments(stores)
    await stores.log.append([system_event(f"e{n}") for n in range(10)])
    await stores.pool.execute("select log_make_room(11)")
    segment, archive = await stores.log_segments.oldest(), an_archive(1, 10)
    assert segment is not None
    assert not await stores.log_segments.remove(segment, archive, removal(archive, NOW))
    assert await stores.log.head() == 10, "numbers go on from the last row"


async def test_two_keepers_at_once_remove_each_segment_once(
    stores: Stores, store_urls: StoreUrls, schema: str, tmp_path: Path
) -> None:
    await _written(stores)
    other = await open_stores(store_urls.database, schema, "test-region", max_connections=2)
    try:
        await asyncio.gather(log_keeper(stores, tmp_path).look(), log_keeper(other, tmp_path).look())
    finally:
        await other.close()
    await log_keeper(stores, tmp_path).look()
    removed = [row.data["first_seq"] for row in await stores.log.read(0, 100) if row.kind == LOG_REMOVED]
    assert removed == [1, 11, 21]


async def test_what_is_left_is_sealed_on_and_verifies(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    await log_keeper(stores, tmp_path).look()
    await seal_all(sealer(stores))
    part = await verify_part(stores.log, stores.seals, 0, None)
    assert (part.report.fault, part.report.checked_through, part.head) == (None, 38, 38)
    await stores.pool.execute("update log set entity = 'forged' where seq = 32")
    part = await verify_part(stores.log, stores.seals, 0, None)
    assert part.report.fault is not None
    assert part.report.fault.seq == 32


async def test_rows_that_somebody_deleted_are_missing_all_the_same(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    await log_keeper(stores, tmp_path).look()
    await stores.pool.execute("delete from log where seq = 31")
    part = await verify_part(stores.log, stores.seals, 0, None)
    assert part.report.fault is not None
    assert part.report.fault.seq == 31


async def test_a_copy_without_the_first_rows_is_sealed_from_where_it_begins(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    await log_keeper(stores, tmp_path).look()
    before = (await stores.seals.checkpoints(34, 1))[0].entry(35)
    await stores.pool.execute("truncate audit_checkpoints")
    await seal_all(sealer(stores))
    checkpoints = await stores.seals.checkpoints(0, 10)
    assert (checkpoints[0].first_seq, checkpoints[0].entry(35)) == (31, before), "the chain is the same"
    assert (await verify_part(stores.log, stores.seals, 0, None)).report.valid


async def test_archives_are_deleted_when_they_are_old_enough(stores: Stores, tmp_path: Path) -> None:
    await _written(stores)
    clock = ManualClock(LATER)
    keeper = log_keeper(stores, tmp_path, clock=clock)
    await keeper.look()
    await clock.advance(91 * DAY_S)
    await keeper.look()
    assert _files(tmp_path) == []
    rows = await stores.log.read(0, 100)
    assert [row.data["first_seq"] for row in rows if row.kind == "retention.archive_deleted"] == [1, 11, 21]
