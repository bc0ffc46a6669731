"""Short segments of the log, and the part that removes them, on a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.log_keeper import LogKeeper
from cluster.domain.audit.log_retention import Archive, archive_name
from cluster.domain.audit.retention import DAY_S
from cluster.postgres.stores import Stores
from cluster.process.clock import ManualClock
from tests.support.samples import NOW

#: Rows of a segment, so that a test need not write a hundred thousand.
LENGTH = 10
#: A month after the rows that `system_event` makes.
LATER = NOW + 31 * DAY_S


async def short_segments(stores: Stores, length: int = LENGTH) -> None:
    """Lets the segments of an empty log have so many numbers."""
    await stores.pool.execute(
        "create or replace function log_segment_length(p_last bigint, p_age_s double precision) returns bigint "
        f"language sql immutable as 'select {length}::bigint'"
    )
    end = length + 1
    await stores.pool.execute(
        "alter table log detach partition log_1; "
        f"alter table log attach partition log_1 for values from (minvalue) to ({end}); "
        f"update log_segments set end_seq = {end}; select log_last_reads('log_1', {end})"
    )


async def segments(stores: Stores) -> list[tuple[int, int, int]]:
    """(number, first, end) of each, which are those of its table."""
    rows = await stores.pool.rows("select number, first_seq, end_seq from log_segments order by number")
    tables = await stores.pool.rows(
        "select c.relname::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "where i.inhparent = 'log'::regclass order by c.oid"
    )
    assert [row["name"] for row in tables] == [f"log_{row['number']}" for row in rows]
    return [(row["number"], row["first_seq"], row["end_seq"]) for row in rows]


async def all_read(stores: Stores) -> None:
    """Makes the cursors of all readers those of a log that was read to its end."""
    head = await stores.log.head()
    await stores.pool.execute("update telemetry set cursor = $1", head)
    for table in ("notification_cursors", "workflow_cursors"):
        await stores.pool.execute(
            f"insert into {table} (region, epoch, seq) values ($1, $2, $3) "
            "on conflict (region) do update set epoch = excluded.epoch, seq = excluded.seq",
            *(stores.epoch.region, stores.epoch.value, head),
        )


def log_keeper(stores: Stores, directory: Path | None, **parts: Any) -> LogKeeper:
    return LogKeeper(
        **{
            "zone": stores.epoch.region,
            "log": stores.log,
            "trail": stores.seals,
            "segments": stores.log_segments,
            "region": stores.region,
            "days": 30.0,
            "directory": directory,
            "archive_days": 90.0,
            "clock": ManualClock(LATER),
            **parts,
        }
    )


def an_archive(first_seq: int, last_seq: int) -> Archive:
    return Archive(
        first_seq=first_seq,
        last_seq=last_seq,
        name=archive_name(first_seq, last_seq),
        digest=b"\x01",
        entry=b"\x02",
        epochs=((1, last_seq),),
        first_form=False,
    )
