"""The sealer: seals each row once and in order, whenever it is killed and however many there are, and hides no change."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import pytest

from actors.sealer import Sealer, SealingKey
from cluster.domain.audit.checkpoint import Checkpoint
from cluster.domain.audit.verify import AuditReport, AuditVerifier
from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.base.log import LogRecord
from cluster.ports.audit import Seals
from cluster.postgres.audit import PostgresSeals
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import ManualClock, SystemClock
from tests.support.first_form import old_writer
from tests.support.probes import eventually
from tests.support.receipts import SIGNER
from tests.support.samples import NOW, new_task, system_event
from tests.support.stores import StoreUrls


class Faulty(PostgresSeals):
    """The real store; a seal can be lost before it is made, or its answer after."""

    fault = ""

    async def seal(self, checkpoint: Checkpoint) -> bool:
        fault, self.fault = self.fault, ""
        if fault == "before":
            raise StoreUnavailable("away")
        sealed = await super().seal(checkpoint)
        if fault == "after":
            raise StoreUnavailable("the answer was lost")
        return sealed


def sealer(stores: Stores, seals: Seals | None = None, *, batch: int = 1000, **options: object) -> Sealer:
    async def key() -> SealingKey:
        return SealingKey(SIGNER, self_signed=False)

    values = {"clock": SystemClock(), "key": key, **options}
    return Sealer(
        zone=stores.epoch.region,
        seals=seals or stores.seals,
        region=stores.region,
        batch=batch,
        **values,  # type: ignore[arg-type]
    )


async def write(stores: Stores, count: int, entity: str = "e") -> None:
    await stores.log.append([system_event(f"{entity}{n}") for n in range(count)])


async def seal_all(*sealers: Sealer) -> None:
    for actor in sealers:
        while await actor.seal_once():
            pass


async def verified(stores: Stores, against: list[Checkpoint] | None = None) -> AuditReport:
    """The report on the stored log, against its own checkpoints or those that have left."""
    checkpoints = await stores.seals.checkpoints(0, 100_000) if against is None else against
    verifier = AuditVerifier(checkpoints)
    for row in await stores.log.read(0, 100_000):
        verifier.add(row)
    return verifier.report()


async def pushed(stores: Stores) -> list[Checkpoint]:
    return await stores.seals.checkpoints(0, 100_000)


async def test_rows_are_sealed_in_batches_and_verify(stores: Stores) -> None:
    await write(stores, 25)
    await seal_all(sealer(stores, batch=10))
    bounds = [(checkpoint.first_seq, checkpoint.last_seq) for checkpoint in await pushed(stores)]
    assert bounds == [(1, 10), (11, 20), (21, 25)]
    report = await verified(stores)
    assert report.valid
    assert report.uncovered_from == 26
    assert {checkpoint.head["zone"] for checkpoint in await pushed(stores)} == {"test-region"}


async def test_a_sealer_begins_anew_after_a_full_copy_has_emptied_the_checkpoints(stores: Stores) -> None:
    await write(stores, 5)
    one = sealer(stores)
    await seal_all(one)
    await stores.pool.execute("truncate audit_checkpoints")
    await write(stores, 2)
    await one.seal_once()
    assert await pushed(stores) == [], "a checkpoint without those before it proves nothing"
    await one.seal_once()
    assert [(found.first_seq, found.last_seq) for found in await pushed(stores)] == [(1, 7)]


async def test_a_checkpoint_begins_with_each_epoch_and_says_so(stores: Stores) -> None:
    await write(stores, 3)
    await stores.region.raise_epoch("another")
    await write(stores, 2)
    await seal_all(sealer(stores, batch=4))
    await stores.region.raise_epoch("a third")
    await seal_all(sealer(stores))
    found = await pushed(stores)
    declared = [(each.first_seq, each.last_seq, each.fork and (each.fork.seq, each.fork.epoch)) for each in found]
    assert declared == [(1, 3, (0, 1)), (4, 6, (3, 2)), (7, 7, (6, 3))]
    assert (await verified(stores)).valid


async def test_an_empty_log_and_no_new_rows_seal_nothing(stores: Stores) -> None:
    one = sealer(stores)
    await one.seal_once()
    assert await pushed(stores) == []
    await write(stores, 1)
    await one.seal_once()
    await one.seal_once()
    assert len(await pushed(stores)) == 1


async def test_rows_of_earlier_builds_are_sealed_from_the_first_on(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    async with old_writer(store_urls.database, schema) as before:
        await before.submit(new_task())
    await write(stores, 2)
    await seal_all(sealer(stores))
    assert (await pushed(stores))[0].first_seq == 1
    assert {row.v for row in await stores.log.read(0, 100)} == {1, 2}
    assert (await verified(stores)).valid
    await stores.pool.execute("update log set cause = 'forged' where v = 1")
    fault = (await verified(stores)).fault
    assert fault is not None
    assert fault.seq == 1, "what the first form does not cover cannot be changed unseen"


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_seal_of_unknown_outcome_repeats_and_skips_nothing(stores: Stores, fault: str) -> None:
    await write(stores, 12)
    seals = Faulty(stores.pool)
    one = sealer(stores, seals, batch=5)
    await one.seal_once()
    seals.fault = fault
    with pytest.raises(StoreUnavailable):
        await one.seal_once()
    await seal_all(one)
    assert [checkpoint.last_seq for checkpoint in await pushed(stores)] == [5, 10, 12]
    assert (await verified(stores)).valid


async def test_a_successor_goes_on_where_the_killed_one_stopped(stores: Stores) -> None:
    await write(stores, 7)
    await seal_all(sealer(stores, batch=5))
    await write(stores, 5)
    await seal_all(sealer(stores, batch=5))
    assert [checkpoint.last_seq for checkpoint in await pushed(stores)] == [5, 7, 12]
    assert (await verified(stores)).valid


async def test_a_sealer_that_is_killed_again_and_again_repeats_and_skips_nothing(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    """Real processes and SIGKILL, in the midst of sealing."""
    await write(stores, 200)
    command = [sys.executable, "-m", "tests.support.sealer_process", store_urls.database, schema, "test-region"]
    for _ in range(2):
        before, _ = await stores.seals.sealed()
        process = await asyncio.create_subprocess_exec(*command)

        async def goes_on(before: int = before) -> bool:
            sealed, _ = await stores.seals.sealed()
            if await stores.log.head() < sealed + 200:  # it has rows again, however seldom this is asked
                await write(stores, 200)
            return sealed > before + 100

        try:
            await eventually(goes_on)
        finally:
            process.kill()
            await process.wait()
    await seal_all(sealer(stores))
    report, head = await verified(stores), await stores.log.head()
    assert report.valid
    assert report.uncovered_from == head + 1
    covered = [seq for found in await pushed(stores) for seq in range(found.first_seq, found.last_seq + 1)]
    assert covered == list(range(1, head + 1))


async def test_of_two_sealers_each_row_is_sealed_by_one(stores: Stores) -> None:
    await write(stores, 200)
    two = [sealer(stores, batch=7), sealer(stores, batch=5)]

    async def work(actor: Sealer) -> None:
        while (await actor.status())["sealed"] < 200:
            await actor.seal_once()

    await asyncio.gather(*map(work, two))
    assert (await verified(stores)).valid
    assert (await pushed(stores))[-1].last_seq == 200


async def test_a_sealer_that_was_not_the_first_goes_on_at_once(stores: Stores) -> None:
    first, second = sealer(stores, batch=3), sealer(stores)
    await second.seal_once()
    await write(stores, 7)
    await first.seal_once()
    assert await second.seal_once(), "nothing was sealed by this one, and four rows are left"
    await seal_all(second)
    assert [(found.first_seq, found.last_seq) for found in await pushed(stores)] == [(1, 3), (4, 7)]


async def test_a_raised_epoch_is_taken_over_and_an_old_one_seals_nothing(
    stores: Stores, store_urls: StoreUrls, schema: str
) -> None:
    await write(stores, 1)
    one = sealer(stores)
    await one.seal_once()
    other = await open_stores(store_urls.database, schema, "test-region")
    try:
        await other.region.raise_epoch("another")
        await one.seal_once()
        assert len(await pushed(stores)) == 1
        await one.seal_once()
    finally:
        await other.close()
    assert [checkpoint.head["epoch"] for checkpoint in await pushed(stores)] == [1, 2]
    assert (await verified(stores)).valid


async def test_a_region_that_is_not_primary_waits(stores: Stores) -> None:
    await write(stores, 1)
    await stores.pool.execute("update region_state set role = 'secondary'")
    one = sealer(stores)
    await one.seal_once()
    assert await pushed(stores) == []
    assert (await one.status())["warnings"] == []
    await stores.pool.execute("update region_state set role = 'primary'")
    await one.seal_once()
    assert len(await pushed(stores)) == 1


async def test_two_writers_of_ten_thousand_rows_verify(stores: Stores, store_urls: StoreUrls, schema: str) -> None:
    """While they are sealed."""
    other = await open_stores(store_urls.database, schema, "test-region")
    one = sealer(stores)

    async def writes(to: Stores, name: str) -> None:
        for part in range(100):
            await write(to, 50, f"{name}{part}-")

    async def seals() -> None:
        while (await one.status())["sealed"] < 10_000:
            await one.seal_once()

    try:
        await asyncio.gather(writes(stores, "a"), writes(other, "b"), seals())
    finally:
        await other.close()
    report = await verified(stores)
    assert report.valid
    assert (report.checked_through, report.uncovered_from) == (10_000, 10_001)


async def _bad_seq(stores: Stores, against: list[Checkpoint]) -> int | None:
    fault = (await verified(stores, against)).fault
    return None if fault is None else fault.seq


async def test_a_changed_byte_is_named(stores: Stores) -> None:
    await write(stores, 20)
    await seal_all(sealer(stores, batch=8))
    kept = await pushed(stores)
    await stores.pool.execute("update log set entity = 'E11' where seq = 12")
    assert await _bad_seq(stores, kept) == 12
    row = (await stores.log.read(11, 1))[0]
    # Somebody who knows the form makes the digest fit too, and seals anew from there with the same key.
    record = LogRecord(at=row.at, workspace=row.workspace, kind=row.kind, entity="E11")
    digest = record.digest(epoch=row.epoch, zone=row.zone, data_json=row.data_json, private_digest=None)
    await stores.pool.execute("update log set digest = $1 where seq = 12", digest)
    await stores.pool.execute("delete from audit_checkpoints where last_seq >= 12")
    await seal_all(sealer(stores, batch=8))
    assert (await verified(stores)).valid, "by itself the database looks sound"
    assert await _bad_seq(stores, kept) == 12


async def test_a_deleted_last_row_is_named(stores: Stores) -> None:
    await write(stores, 20)
    await seal_all(sealer(stores))
    kept = await pushed(stores)
    await stores.pool.execute("delete from log where seq = 20")
    assert await _bad_seq(stores, kept) == 20
    await write(stores, 1)
    assert await _bad_seq(stores, kept) == 20, "also if another row has taken its number"


async def test_an_older_tail_restored_with_its_checkpoints_is_named(stores: Stores) -> None:
    await write(stores, 15)
    await seal_all(sealer(stores))
    await write(stores, 10)
    await seal_all(sealer(stores))
    kept = await pushed(stores)
    # A backup of row 15 is restored, and work goes on.
    await stores.pool.execute("delete from log where seq > 15")
    await stores.pool.execute("delete from audit_checkpoints where last_seq > 15")
    await write(stores, 30, "restored")
    await seal_all(sealer(stores))
    assert (await verified(stores)).valid, "by itself the database looks sound"
    assert await _bad_seq(stores, kept) == 16


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("delete from log where seq = 5", "Row 5 of the log is not the one that was sealed"),
        ("update log set digest = '\\x00' where seq = 5", "Row 5 of the log is not the one that was sealed"),
        ("delete from log where seq = 6", "Row 6 of the log is missing"),
        ("update audit_checkpoints set signature = '\\x00'", "was changed after it was signed"),
        ("update audit_checkpoints set head = 'x'", "The last checkpoint of the audit was changed"),
    ],
)
async def test_a_log_that_was_changed_is_not_sealed_on(stores: Stores, change: str, sentence: str) -> None:
    await write(stores, 5)
    await seal_all(sealer(stores))
    await write(stores, 3)
    await stores.pool.execute(change)
    one = sealer(stores)
    assert not await one.seal_once()
    (warning,) = (await one.status())["warnings"]
    assert sentence in warning
    assert await stores.pool.value("select max(last_seq) from audit_checkpoints") == 5


async def test_erased_words_do_not_stop_the_sealer(stores: Stores) -> None:
    await stores.log.append([replace(system_event("a"), private={"summary": "Some words."})])
    await seal_all(sealer(stores))
    await stores.pool.execute("update log set private = null")
    await write(stores, 1)
    await seal_all(sealer(stores))
    report = await verified(stores)
    assert report.valid
    assert report.erased == 1


async def test_the_lag_is_told(stores: Stores) -> None:
    clock = ManualClock(NOW)
    one = sealer(stores, Faulty(stores.pool), clock=clock)
    await one.seal_once()
    await write(stores, 3)
    await clock.advance(31.0)
    assert (await one.status())["warnings"] == ["The audit is 31 s behind the log."]
    await one.seal_once()
    assert (await one.status())["warnings"] == []


async def test_the_running_sealer_survives_stores_that_are_away(stores: Stores) -> None:
    clock, seals = ManualClock(NOW), Faulty(stores.pool)
    seals.fault = "before"
    await write(stores, 3)
    one = sealer(stores, seals, clock=clock)
    await one.start()
    try:

        async def sealed() -> bool:
            await clock.advance(1.0)
            return (await stores.seals.sealed())[0] == 3

        await eventually(sealed)
        assert (await one.status())["serving"]
    finally:
        await one.stop()
