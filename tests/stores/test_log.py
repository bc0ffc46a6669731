"""The log under fire: order of commit, no gaps, nothing lost, and an epoch that fences."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from cluster.domain.base.errors import Fenced
from cluster.domain.base.log import LogRow
from cluster.log.follower import LogFollower
from cluster.ports.log import LogFilter, LogPage
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.log import Epoch, PostgresRegion
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from tests.support.probes import eventually
from tests.support.samples import new_task, system_event
from tests.support.stores import StoreUrls

ROOT = Path(__file__).parents[2]


class _NoBell:
    """A doorbell that never rings: the follower lives on its own polling."""

    async def notify(self, *topics: WakeTopic) -> None: ...

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = ()) -> bool:
        await asyncio.sleep(0.005)
        return False


class _Writer:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.acked: dict[int, str] = {}
        self.fenced = False
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            words = line.decode().split()
            if words == ["fenced"]:
                self.fenced = True
            elif len(words) == 3:  # a killed writer's last line may be cut
                self.acked[int(words[1])] = words[2]


async def _start(urls: StoreUrls, schema: str, name: str, batches: int) -> _Writer:
    command = [sys.executable, "-m", "tests.support.log_writer", urls.database, schema, name, str(batches)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    return _Writer(process)


async def test_every_committed_row_is_seen_once_in_order_whatever_happens_to_writers(
    store_urls: StoreUrls, schema: str, stores: Stores
) -> None:
    seen: list[LogRow] = []

    async def apply(rows: Sequence[LogRow]) -> None:
        seen.extend(rows)

    follower = LogFollower(stores.log, _NoBell(), SystemClock(), after=0, apply=apply, batch=7)
    following = asyncio.create_task(follower.run())
    endless = 1_000_000
    writers = [await _start(store_urls, schema, f"w{n}", endless) for n in range(4)]
    frozen, killed, fenced_later = writers[0], writers[1], writers[2:]
    await eventually(lambda: all(len(writer.acked) > 50 for writer in writers))

    os.kill(frozen.process.pid, signal.SIGSTOP)
    mark = follower.cursor
    await eventually(lambda: follower.cursor > mark + 300, what="others write while one writer is frozen")
    os.kill(killed.process.pid, signal.SIGKILL)
    mark = follower.cursor
    await eventually(lambda: follower.cursor > mark + 300, what="others write after one writer was killed")

    raised = await stores.region.raise_epoch("test")
    os.kill(frozen.process.pid, signal.SIGCONT)
    await asyncio.gather(*(writer.process.wait() for writer in writers))
    await asyncio.gather(*(writer.reader for writer in writers))
    assert frozen.fenced, "a write that began under the old epoch must not commit under the new one"
    assert all(writer.fenced for writer in fenced_later)

    head = await stores.log.head()
    await eventually(lambda: follower.cursor == head)
    following.cancel()
    assert [row.seq for row in seen] == list(range(1, head + 1)), "in order, without gaps, each once"
    by_seq = {row.seq: row.entity for row in seen}
    for writer in writers:
        assert writer.acked.items() <= by_seq.items(), "what was answered is in the log at the number that was answered"
    assert raised == 2
    assert [row.kind for row in seen][-1] == "region.epoch_raised", "nothing of the old epoch after it was raised"
    submitted = [row.entity for row in seen if row.kind == "task.submitted"]
    assert len(submitted) == len(set(submitted))
    assert await stores.pool.value("select count(*) from tasks") == len(submitted)


async def test_an_older_epoch_writes_nothing_until_it_reads_the_new_one(
    store_urls: StoreUrls, schema: str, stores: Stores
) -> None:
    other = await open_stores(store_urls.database, schema, "test-region", max_connections=2)
    await other.region.raise_epoch("elsewhere")
    with pytest.raises(Fenced):
        await stores.tasks.submit([SubmitItem(task=new_task())])
    assert await stores.pool.value("select count(*) from tasks") == 0
    await stores.region.epoch()
    await stores.tasks.submit([SubmitItem(task=new_task())])
    await other.close()


async def test_reading_can_be_filtered_by_workspace_entity_and_kind(stores: Stores) -> None:
    task = new_task()
    await stores.tasks.submit([SubmitItem(task=task)])
    assert await stores.log.append([system_event("e1"), system_event("e2")]) == [2, 3]
    assert [r.entity for r in await stores.log.read(0, 10, LogFilter(entities=("e2", task.id)))] == [task.id, "e2"]
    assert [r.seq for r in await stores.log.read(0, 10, LogFilter(kind_prefix="system."))] == [2, 3]
    assert await stores.log.read(0, 10, LogFilter(workspace="nobody")) == []
    assert [r.seq for r in await stores.log.read(1, 1)] == [2]


async def test_a_filter_does_not_hold_a_followers_cursor_back(stores: Stores) -> None:
    kinds = ["task.submitted", "task.claimed", "agent.registered", "task_submitted"]
    await stores.log.append([replace(system_event(kind), kind=kind) for kind in kinds * 3])
    only = LogFilter(kinds=("task.submitted", "agent."))
    page = await stores.log.page(0, 100, only)
    assert [row.kind for row in page.rows] == ["task.submitted", "agent.registered"] * 3
    assert page.cursor == 12
    first = await stores.log.page(0, 3, only)
    assert (len(first.rows), first.cursor) == (3, 5)
    rest = await stores.log.page(first.cursor, 100, only)
    assert [row.seq for row in rest.rows] == [7, 9, 11]
    assert (await stores.log.page(12, 100, only)) == LogPage(rows=[], cursor=12)
    assert (await stores.log.page(0, 2)).cursor == 2


async def test_processes_that_first_ask_at_once_have_the_same_epoch(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    """One of them makes the region's row, and the other, which waits for it, must not go on without an epoch."""
    region = PostgresRegion(stores.pool, Epoch(region="new"))
    first = await asyncpg.connect(store_urls.database)
    try:
        await first.execute(f'set search_path to "{schema}"')
        made = first.transaction()
        await made.start()
        await first.execute("insert into region_state (region, epoch) values ('new', 1)")
        asked = asyncio.ensure_future(region.epoch())
        waits = "select count(*) from pg_stat_activity where $1 = any (pg_blocking_pids(pid))"
        await eventually(lambda: first.fetchval(waits, first.get_server_pid()))
        await made.commit()
        assert await asked == 1
    finally:
        await first.close()
