"""The log's rows in both forms: what their digests bind, what may be deleted, and that old rows stay as they are."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from cluster.domain.base.log import FIRST_FORM, SECOND_FORM, LogRow, Origin, record_for
from cluster.domain.tasks.task import TaskStatus
from cluster.ports.tasks import SubmitItem
from cluster.postgres.migrate import migrate, shipped
from cluster.postgres.stores import Stores, open_stores
from tests.support.first_form import old_writer
from tests.support.samples import ASKER, NOW, new_task, registration, system_event
from tests.support.stores import StoreUrls, fresh_name

CAUSED = Origin(workspace="w", principal="user:tester", cause="trace-1")


async def _row(stores: Stores) -> LogRow:
    """A row with something in each of its columns."""
    record = record_for(CAUSED, NOW, "task.failed", "task_1", {"task_type": "echo"}, {"error": "Out of paper."})
    await stores.log.append([replace(record, attempt=2)])
    (row,) = await stores.log.read(0, 10)
    return row


async def test_a_row_names_its_cause_epoch_and_zone(stores: Stores) -> None:
    await stores.region.raise_epoch("test")
    await stores.tasks.submit([SubmitItem(task=new_task(origin=CAUSED))])
    raised, submitted = await stores.log.read(0, 10)
    assert (submitted.v, submitted.epoch, submitted.zone, submitted.cause) == (SECOND_FORM, 2, "test-region", "trace-1")
    assert (raised.v, raised.epoch, raised.zone, raised.cause) == (SECOND_FORM, 2, "test-region", "")
    assert raised.verifies()
    assert submitted.verifies()


async def test_a_digest_binds_every_column_and_the_words(stores: Stores) -> None:
    row = await _row(stores)
    assert row.private == {"error": "Out of paper."}
    assert row.whole_data() == {"error": "Out of paper.", "task_type": "echo"}
    assert row.private_json is not None
    assert row.verifies()
    changes = {
        "at": row.at + 1e-6,
        "workspace": "v",
        "kind": "task.done",
        "entity": "task_2",
        "attempt": None,
        "principal": "user:another",
        "data_json": '{"task_type":"other"}',
        "epoch": 7,
        "cause": "trace-2",
        "zone": "elsewhere",
        "private_json": row.private_json.replace("paper", "ink"),
        "private_digest": bytes(32),
        "digest": bytes(32),
        "v": FIRST_FORM,
    }
    unbound = {"seq", "data"}  # the sealer binds the order; data is what data_json says
    assert changes.keys() | unbound == set(LogRow.__dataclass_fields__), "a new column is bound, or is named here"
    for name, value in changes.items():
        assert not replace(row, **{name: value}).verifies(), name  # type: ignore[arg-type]


async def test_words_can_be_deleted_and_the_row_still_verifies(stores: Stores) -> None:
    row = await _row(stores)
    await stores.pool.execute("update log set private = null")
    (left,) = await stores.log.read(0, 10)
    assert left.private == {}
    assert left.whole_data() == {"task_type": "echo"}
    assert left.verifies()
    assert left.digest == row.digest
    await stores.pool.execute("update log set private_digest = null")
    (cut,) = await stores.log.read(0, 10)
    assert not cut.verifies(), "that there were words is part of what is bound"


async def test_equal_words_have_unequal_hashes(stores: Stores) -> None:
    record = record_for(CAUSED, NOW, "task.failed", "task_1", private={"error": "yes"})
    await stores.log.append([record, record, system_event("e1")])
    first, second, silent = await stores.log.read(0, 10)
    assert first.private == second.private
    assert first.private_digest != second.private_digest
    assert first.private_json is not None
    assert len(json.loads(first.private_json)["salt"]) == 32
    assert (silent.private_json, silent.private_digest) == (None, None)


async def test_rows_of_the_first_form_verify_after_the_migration(store_urls: StoreUrls) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema, [migration for migration in shipped() if migration.version <= 4])
    task, late = new_task(target_agent="a1"), new_task()
    async with old_writer(store_urls.database, schema) as before:
        await before.submit(task)
        await before.register(registration("a1"))
        await migrate(store_urls.database, schema)
        stores = await open_stores(store_urls.database, schema, "test-region", max_connections=1)
        await stores.tasks.submit([SubmitItem(task=new_task(origin=CAUSED))])
        await before.submit(late)  # a process of the version before that has not been replaced yet
    try:
        rows = await stores.log.read(0, 10)
        assert [row.seq for row in rows] == [1, 2, 3, 4]
        assert [row.v for row in rows] == [FIRST_FORM, FIRST_FORM, SECOND_FORM, FIRST_FORM]
        assert [(row.epoch, row.zone, row.cause, row.private_digest) for row in rows if row.v == FIRST_FORM] == [
            (0, "", "", None)
        ] * 3
        assert all(row.verifies() for row in rows)
        for row in rows:
            for name in ("entity", "principal", "data_json"):
                assert not replace(row, **{name: "other"}).verifies()
        found = await stores.tasks.get_many("w", [task.id, late.id])
        assert {task.status for task in found.values()} == {TaskStatus.PENDING}
        assert await stores.agents.get("w", "a1") is not None
        fence = await stores.tasks.take_generation("main", "test")
        cursor, batches = await stores.tasks.open_tasks(fence.shard)
        assert cursor == 4
        assert sum([len(batch) async for batch in batches]) == 3
    finally:
        await stores.close()


async def test_raises_of_the_epoch_at_once_are_each_one_more(stores: Stores) -> None:
    raised = await asyncio.gather(*(stores.region.raise_epoch(f"leader-{n}") for n in range(4)))
    assert sorted(raised) == [2, 3, 4, 5]
    rows = await stores.log.read(0, 10)
    assert [row.epoch for row in rows] == [2, 3, 4, 5]
    assert all(row.verifies() for row in rows)


async def test_no_row_is_committed_under_an_older_epoch(stores: Stores) -> None:
    """The digest covers the epoch, so a row is never committed under another than it was made for."""
    await stores.tasks.submit([SubmitItem(task=new_task(origin=ASKER))])
    await stores.region.raise_epoch("test")
    await stores.tasks.submit([SubmitItem(task=new_task(origin=ASKER))])
    rows = await stores.log.read(0, 10)
    assert [row.epoch for row in rows] == [1, 2, 2]
    assert all(row.verifies() for row in rows)
