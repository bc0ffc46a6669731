"""Replication between two real databases: what one commits the other has, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cluster.domain.audit.erasure import COMPLETED, Scope
from cluster.domain.base.errors import ControlPlaneError, Fenced, StoreUnavailable
from cluster.domain.base.log import Origin, record_for
from cluster.domain.consensus.outcomes import Outcome
from cluster.domain.replication.batch import (
    START,
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogPosition,
    PeerReport,
    ReplicationRefused,
    TextRow,
)
from cluster.domain.replication.tables import TABLES
from cluster.ports.replication import SourceSnapshot
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import OF_REGIONS, WakeTopic
from cluster.postgres.migrate import migrate
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.replication_source import PostgresReplicationReads
from cluster.postgres.stores import Stores, open_stores
from regions.replication.receiver import ReplicationReceiver
from regions.replication.source import ReplicationSource, SourceBounds
from tests.support.outcomes import new_outcome
from tests.support.probes import eventually
from tests.support.replicating import RESIDENCY, RandomChanges, secret_of, tables_of
from tests.support.samples import NOW, new_task, system_event
from tests.support.stores import StoreUrls, fresh_name

ZONE = "test-region"


@dataclass
class Bell:
    """Remembers what it was rung for."""

    rung: list[WakeTopic] = field(default_factory=list)

    async def notify(self, *topics: WakeTopic) -> None:
        self.rung += topics

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = ()) -> bool:
        return False


class Link:
    """The source, in this process. It keeps what it sent, so that a test may send it again."""

    def __init__(self, stores: Stores, bounds: SourceBounds | None = None, residency: str | None = RESIDENCY) -> None:
        reads = PostgresReplicationReads(stores.pool)
        self.source = ReplicationSource(reads, ZONE, bounds)
        self._residency = residency
        self.batches: list[Batch] = []
        self.pieces: list[CopyPiece] = []

    async def batch(self, follower: Follower) -> Batch:
        self.batches.append(await self.source.batch(follower.position, self._residency))
        return self.batches[-1]

    async def tail(self) -> CopyBeginning:
        return await self.source.tail()

    async def piece(self, progress: CopyProgress) -> CopyPiece:
        self.pieces.append(await self.source.piece(progress, self._residency))
        return self.pieces[-1]

    async def report(self) -> PeerReport:
        raise AssertionError("a receiver asks for no report")


class Region:
    """A database that may be either end."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.replica = PostgresReplica(stores.pool, ZONE)
        self.bell = Bell()

    def receiver(self, link: Link) -> ReplicationReceiver:
        return ReplicationReceiver(self.replica, link, self.bell)

    async def role(self, role: str, epoch: int, trusted_s: float | None = None) -> None:
        assert await self.replica.set_role(role, epoch, trusted_s)
        await self.stores.region.epoch()


@pytest.fixture
def primary(stores: Stores) -> Region:
    return Region(stores)


@pytest.fixture
async def secondary(store_urls: StoreUrls) -> AsyncIterator[Region]:
    schema = fresh_name()
    await migrate(store_urls.database, schema)
    opened = await open_stores(store_urls.database, schema, ZONE, max_connections=4)
    region = Region(opened)
    await region.role("secondary", 1)
    yield region
    await opened.close()


async def _equal(primary: Region, secondary: Region) -> None:
    theirs, ours = await tables_of(primary.stores), await tables_of(secondary.stores)
    for table, rows in theirs.items():
        assert ours[table] == rows, table
    assert (await secondary.replica.state()).is_whole


async def _refused(secondary: Region, batch: Batch) -> str:
    """The code with which the batch is refused; nothing was applied."""
    before = await tables_of(secondary.stores)
    with pytest.raises(ReplicationRefused) as refused:
        await secondary.replica.apply(batch)
    assert await tables_of(secondary.stores) == before
    return refused.value.code


@pytest.mark.parametrize("seed", range(4))
async def test_two_databases_are_equal_after_random_runs(primary: Region, secondary: Region, seed: int) -> None:
    chance, changes = random.Random(seed), RandomChanges(primary.stores, seed)
    await changes.begin()
    sent: list[Batch] = []
    for _ in range(40):
        for _ in range(chance.randint(0, 6)):
            await changes.change_something()
        link = Link(primary.stores, SourceBounds(rows=chance.randint(1, 9), size=chance.choice((1, 3_000, 10**6))))
        what = chance.random()
        if what < 0.2 and sent:
            await _again(secondary, chance.choice(sent))
        elif what < 0.4:
            await _killed(secondary, link, chance)
        elif what < 0.45:
            await primary.stores.pool.execute("delete from log where seq < (select max(seq) from log)")
            await secondary.receiver(link).copy()
        elif what < 0.8:
            await secondary.receiver(link).advance()
        else:
            await secondary.receiver(link).catch_up()
            await _equal(primary, secondary)
        sent += link.batches
    await secondary.receiver(Link(primary.stores)).catch_up()
    await _equal(primary, secondary)
    assert set(secondary.bell.rung) == set(WakeTopic) - OF_REGIONS, "followers were woken"


async def _again(secondary: Region, batch: Batch) -> None:
    """Sends a batch out of its turn. It is refused, or nothing of it is new, or it is cut anew."""
    refused: ControlPlaneError | None = None
    try:
        await secondary.replica.apply(batch)
    except ReplicationRefused as error:
        refused = error
    assert refused is None or refused.code in ("log_gap", "copy_incomplete")


async def _killed(secondary: Region, link: Link, chance: random.Random) -> None:
    """Ends the receiver at some await, often within its transaction."""
    task = asyncio.create_task(secondary.receiver(link).advance())
    for _ in range(chance.randint(0, 60)):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_copy_is_made_while_the_source_writes_and_is_resumed(primary: Region, secondary: Region) -> None:
    changes = RandomChanges(primary.stores, 7)
    await changes.begin()
    for _ in range(80):
        await changes.change_something()
    await secondary.role("primary", 1)
    await secondary.stores.tasks.submit([SubmitItem(task=new_task(id="stale"))])
    await secondary.role("secondary", 1)

    link = Link(primary.stores, SourceBounds(rows=3))
    await secondary.replica.begin_copy(await link.tail())
    progress = (await secondary.replica.state()).copying
    while progress is not None:
        await changes.change_something()
        piece = await link.piece(progress)
        await secondary.replica.apply_piece(piece)
        with pytest.raises(ReplicationRefused, match="copy"):
            await secondary.replica.apply_piece(piece)
        assert not (await secondary.replica.state()).is_whole
        progress = (await secondary.replica.state()).copying  # a new receiver begins where the database is
    assert not (await secondary.replica.state()).is_whole, "it has pieces that are later than its log"
    await secondary.receiver(link).catch_up()
    await _equal(primary, secondary)


async def test_an_erased_workspace_keeps_nothing_of_its_own_in_another_region(
    primary: Region, secondary: Region
) -> None:
    """What each region keeps for itself is not in the images, so it is deleted by the row that ends the erasure."""
    pool = secondary.stores.pool

    async def ended(scope: Scope) -> None:
        row = record_for(Origin(workspace="w"), NOW, COMPLETED, "erasure_1", {"scope": scope.value})
        await primary.stores.erasures.note("w", row)
        await secondary.receiver(Link(primary.stores)).catch_up()

    await ended(Scope.SUBJECT)
    for workspace in ("w", "other"):
        secret = "insert into secrets (name, sealed, workspace, revision) values ($1, 'x', $2, 1)"
        await pool.execute(secret, f"credential/{workspace}/key", workspace)
        told = {
            "id": workspace,
            "workspace": workspace,
            "channel": "c",
            "event": "e",
            "severity": "info",
            "entity": "x",
        }
        numbers = {"seq": 1, "at": NOW, "data": {}, "created_at": NOW, "status": "sent", "attempts": 1, "repeats": 0}
        notification = (
            "insert into notifications select * from json_populate_record(null::notifications, $1::text::json)"
        )
        await pool.execute(notification, json.dumps(told | numbers))
        answer = "insert into idempotency values ($1, 'route', 'key', 'x', '{\"words\": 1}', $2)"
        await pool.execute(answer, workspace, NOW)
    for scope in (Scope.SUBJECT, Scope.WORKSPACE):
        await ended(scope)
        left = {"other"} if scope is Scope.WORKSPACE else {"w", "other"}
        for table in ("secrets", "notifications", "idempotency"):
            found = await pool.rows(f"select workspace from {table} where workspace is not null")
            assert {row["workspace"] for row in found} == left, table


async def test_a_batch_that_does_not_follow_is_refused_by_name(primary: Region, secondary: Region) -> None:
    link = Link(primary.stores)
    await primary.stores.log.append([system_event("e1"), system_event("e2")])
    await secondary.receiver(link).catch_up()
    head = (await secondary.replica.state()).head
    await primary.stores.tasks.submit([SubmitItem(task=new_task()), SubmitItem(task=new_task())])
    batch = await link.source.batch(head)
    first = replace(batch, rows=batch.rows[:1])
    assert await _refused(secondary, replace(batch, after=first.last, rows=batch.rows[1:])) == "log_gap"
    assert await _refused(secondary, replace(batch, rows=batch.rows[1:])) == "log_gap"
    assert await _refused(secondary, replace(batch, after=replace(head, digest="\\x00"))) == "log_fork"
    assert await _refused(secondary, replace(batch, after=replace(head, epoch=9))) == "log_fork"
    assert await _refused(secondary, replace(batch, schema_version=batch.schema_version - 1)) == "schema_mismatch"
    assert await _refused(secondary, replace(batch, schema_version=batch.schema_version + 1)) == "schema_mismatch"
    assert await _refused(secondary, replace(batch, epoch=0)) == "epoch_replaced"
    await secondary.role("fenced", 1)
    assert await _refused(secondary, batch) == "not_secondary"
    await secondary.role("secondary", 1)
    for _ in range(2):  # a repeat changes nothing
        applied = await secondary.replica.apply(batch)
        assert applied.head == batch.last
        assert applied.as_follower == (await secondary.replica.state()).as_follower
    await _equal(primary, secondary)


async def test_a_copy_of_another_schema_is_refused_before_tables_are_emptied(
    primary: Region, secondary: Region
) -> None:
    link = Link(primary.stores)
    await primary.stores.tasks.submit([SubmitItem(task=new_task())])
    await secondary.receiver(link).catch_up()
    before, beginning = await tables_of(secondary.stores), await link.tail()
    for other, code in (
        (replace(beginning, schema_version=beginning.schema_version - 1), "schema_mismatch"),
        (replace(beginning, schema_version=beginning.schema_version + 1), "schema_mismatch"),
        (replace(beginning, epoch=0), "epoch_replaced"),
    ):
        with pytest.raises(ReplicationRefused) as refused:
            await secondary.replica.begin_copy(other)
        assert refused.value.code == code
        assert await tables_of(secondary.stores) == before
    await secondary.replica.begin_copy(beginning)
    assert (await secondary.replica.state()).copying is not None


async def test_a_batch_that_fails_in_its_last_statement_leaves_nothing(primary: Region, secondary: Region) -> None:
    await primary.stores.log.append([system_event("e1")])
    # Its images are later than its row, which is what it writes last.
    receiver = secondary.receiver(Link(primary.stores, SourceBounds(rows=1)))
    await receiver.catch_up()
    await primary.stores.tasks.submit([SubmitItem(task=new_task()), SubmitItem(task=new_task())])
    before = await tables_of(secondary.stores)
    fails = "create function fails() returns trigger language plpgsql as 'begin raise exception using errcode = ''57014''; end'"
    await secondary.stores.pool.execute(fails)
    await secondary.stores.pool.execute(
        "create trigger fails before insert or update on replicas execute function fails()"
    )
    with pytest.raises(StoreUnavailable):
        await receiver.advance()
    assert await tables_of(secondary.stores) == before
    await secondary.stores.pool.execute("drop trigger fails on replicas")
    await receiver.catch_up()
    await _equal(primary, secondary)


async def test_no_batch_waits_for_the_doorbell(primary: Region, secondary: Region) -> None:
    class Hanging(Bell):
        async def notify(self, *topics: WakeTopic) -> None:
            await super().notify(*topics)
            await asyncio.Event().wait()

    await primary.stores.log.append([system_event("e1")])
    await secondary.receiver(Link(primary.stores)).catch_up()
    for name in ("e2", "e3", "e4"):
        await primary.stores.log.append([system_event(name)])
    head, secondary.bell = await primary.stores.log.head(), Hanging()
    link = Link(primary.stores, SourceBounds(rows=1))
    await secondary.receiver(link).follow(lambda: link.batches[-1].last.seq < head)
    assert secondary.bell.rung
    await _equal(primary, secondary)


async def test_a_later_epoch_of_the_source_is_the_targets_too(primary: Region, secondary: Region) -> None:
    link = Link(primary.stores)
    await primary.stores.log.append([system_event("e1")])
    await secondary.receiver(link).catch_up()
    older = await link.source.batch((await secondary.replica.state()).head)
    await primary.stores.region.raise_epoch("test")
    await secondary.receiver(link).catch_up()
    assert (await secondary.replica.state()).epoch == 2
    assert await _refused(secondary, older) == "epoch_replaced"


async def test_images_of_an_earlier_primary_are_not_built_upon(primary: Region, secondary: Region) -> None:
    """They may be of rows that the primary lost with its region, and that no row of the new one names."""
    await primary.stores.log.append([system_event("e1")])
    await secondary.receiver(Link(primary.stores)).catch_up()
    await primary.stores.tasks.submit([SubmitItem(task=new_task(id=f"t{n}")) for n in range(4)])
    await secondary.receiver(Link(primary.stores, SourceBounds(rows=2))).advance()
    state = await secondary.replica.state()
    assert (state.is_whole, state.head.seq, state.images_at) == (False, 3, 5)
    await primary.stores.region.raise_epoch("another region")
    receiver = secondary.receiver(Link(primary.stores))
    with pytest.raises(ReplicationRefused) as refused:
        await receiver.advance()
    assert refused.value.code == "images_ahead"
    assert (await secondary.replica.state()).epoch == 1, "its epoch still says of whom the images are"
    await receiver.copy()
    await receiver.catch_up()
    await _equal(primary, secondary)


async def test_the_source_refuses_what_its_log_has_not(primary: Region) -> None:
    link = Link(primary.stores)
    await primary.stores.log.append([system_event(f"e{n}") for n in range(5)])
    for after, code in (
        (LogPosition(epoch=1, seq=9, digest="\\x00"), "log_fork"),
        (LogPosition(epoch=1, seq=5, digest="\\x00"), "log_fork"),
    ):
        with pytest.raises(ReplicationRefused) as refused:
            await link.source.batch(after)
        assert refused.value.code == code
    await primary.stores.pool.execute("delete from log where seq < 4")
    with pytest.raises(ReplicationRefused) as refused:
        await link.source.batch(START)
    assert refused.value.code == "cursor_lost"
    await primary.role("fenced", 1)
    with pytest.raises(ReplicationRefused) as refused:
        await link.tail()
    assert refused.value.code == "not_primary"


async def test_images_are_of_the_snapshot_that_the_rows_are_of(primary: Region) -> None:
    """A commit between the two reads would show a row of a task whose submit is not in the batch's log."""
    stores = primary.stores
    await stores.tasks.submit([SubmitItem(task=new_task(id="t1"))])

    class Meddling(PostgresReplicationReads):
        @asynccontextmanager
        async def snapshot(self) -> AsyncIterator[SourceSnapshot]:
            async with super().snapshot() as snapshot:
                read = snapshot.log_rows

                async def log_rows(after: int, limit: int, withheld: Collection[str]) -> Sequence[TextRow]:
                    rows = await read(after, limit, withheld)
                    await stores.pool.execute("update tasks set error = 'later' where id = 't1'")
                    return rows

                snapshot.log_rows = log_rows  # type: ignore[method-assign]
                yield snapshot

    batch = await ReplicationSource(Meddling(stores.pool), ZONE).batch(START)
    assert (len(batch.rows), batch.images_at) == (1, 1)
    (image,) = [row for images in batch.images if images.table == "tasks" for row in images.rows]
    assert "later" not in image


async def test_payloads_of_a_resident_workspace_do_not_travel(primary: Region, secondary: Region) -> None:
    changes = RandomChanges(primary.stores, 3)
    await changes.begin()
    await primary.stores.pool.execute("insert into workspace_zones values ('eu-w', 'eu'), ('w', 'us')")
    link = Link(primary.stores, SourceBounds(rows=20), "us")
    withholds = {name for name, table in TABLES.items() if table.whole_rows_withheld}
    assert withholds == {
        *("deliberation_events", "schedules", "workflows", "workflow_runs"),
        *("policies", "policy_versions", "hooks", "notification_channels", "notification_rules"),
    }
    whole: Mapping[str, Sequence[Any]] = {}
    filtered: Mapping[str, Sequence[Any]] = {}

    def shows_something(table: str) -> bool:
        """Whether rows of both workspaces are there, one's of which do not travel."""
        return 0 < len(filtered.get(table, ())) < len(whole.get(table, ()))

    shown: set[str] = set()
    for rounds in range(60):
        if rounds > 5 and shown == withholds:
            break
        for _ in range(40):
            await changes.change_something()
        await secondary.receiver(link).catch_up()
        whole, filtered = await tables_of(primary.stores), await tables_of(secondary.stores)
        shown |= set(filter(shows_something, withholds))
    sent = repr((link.batches, link.pieces))
    found = [workspace for workspace in ("w", "eu-w") if secret_of(workspace) in sent]
    assert found == ["w"]
    assert {table: len(rows) for table, rows in whole.items() if table not in withholds} == {
        table: len(rows) for table, rows in filtered.items() if table not in withholds
    }
    assert shown == withholds
    assert all(row.verifies() for row in await secondary.stores.log.read(0, 10_000))


@pytest.mark.parametrize(
    ("role", "trusted_s"), [("secondary", None), ("fenced", None), ("primary", 0.0), ("primary", -1.0)]
)
async def test_nothing_is_committed_without_role_and_trust(primary: Region, role: str, trusted_s: float | None) -> None:
    await primary.role(role, 1, trusted_s)
    before = await tables_of(primary.stores)
    with pytest.raises(Fenced) as refused:
        await primary.stores.tasks.submit([SubmitItem(task=new_task())])
    assert refused.value.code == "not_primary"
    assert await tables_of(primary.stores) == before
    await primary.role("primary", 2, 60.0)
    await primary.stores.tasks.submit([SubmitItem(task=new_task())])
    assert not await primary.replica.set_role("primary", 1, None), "it knows a later epoch"


async def test_no_commit_is_after_the_change_of_the_role(primary: Region) -> None:
    async def write() -> None:
        while True:
            await primary.stores.tasks.submit([SubmitItem(task=new_task())])

    writers = [asyncio.create_task(write()) for _ in range(4)]

    async def written() -> bool:
        return await primary.stores.log.head() > 20

    await eventually(written)
    await primary.replica.set_role("fenced", 1, None)
    head = await primary.stores.log.head()
    ends = await asyncio.gather(*writers, return_exceptions=True)
    assert [type(end) for end in ends] == [Fenced] * 4
    assert await primary.stores.log.head() == head
    assert await primary.stores.pool.value("select count(*) from tasks") == head


async def test_the_roles_change_and_nothing_is_lost(primary: Region, secondary: Region) -> None:
    changes = RandomChanges(primary.stores, 5)
    await changes.begin()
    for _ in range(60):
        await changes.change_something()
    await secondary.receiver(Link(primary.stores)).catch_up()
    await primary.role("secondary", 1)
    await secondary.role("primary", 2)
    await secondary.stores.region.raise_epoch("the other region")
    await secondary.stores.outcomes.record([new_outcome(100, Outcome(votes={"x": "a"}, right="a", options=("a",)))])
    newest = await secondary.stores.pool.rows("select id from outcomes order by n desc limit 1")
    assert newest[0]["id"] == "q100", "numbers go on after those that were received"
    back = RandomChanges(secondary.stores, 6, after=1000)
    for _ in range(60):
        await back.change_something()
    await primary.receiver(Link(secondary.stores)).catch_up()
    await _equal(secondary, primary)
    with pytest.raises(Fenced):
        await primary.stores.log.append([system_event("e")])


async def test_rows_past_a_fork_are_refused_until_the_region_is_copied(primary: Region, secondary: Region) -> None:
    await primary.stores.log.append([system_event("shared")])
    await secondary.receiver(Link(primary.stores)).catch_up()
    await primary.stores.tasks.submit([SubmitItem(task=new_task(id="surplus"))])
    await primary.role("secondary", 1)
    await secondary.role("primary", 2)
    await secondary.stores.log.append([system_event("other"), system_event("more")])
    receiver = primary.receiver(Link(secondary.stores))
    with pytest.raises(ReplicationRefused) as refused:
        await receiver.catch_up()
    assert refused.value.code == "log_fork"
    assert await primary.stores.tasks.get("w", "surplus") is not None, "nothing was lost before it was asked for"
    await receiver.copy()
    await receiver.catch_up()
    await _equal(secondary, primary)
    assert await primary.stores.tasks.get("w", "surplus") is None
