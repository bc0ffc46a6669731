"""What every adapter of `ReplicationLink` does: the one in memory, and TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.replication.batch import (
    START,
    CopyProgress,
    Follower,
    LogPosition,
    LogRange,
    LogSums,
    PeerReport,
    ReplicationRefused,
)
from cluster.ports.replication import LinkLost, RegionLink, ReplicationEnd
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.migrate import migrate
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.replication_source import PostgresReplicationReads
from cluster.postgres.stores import Stores, open_stores
from regions.links.frames import LinkBounds
from regions.replication.receiver import ReplicationReceiver
from regions.replication.source import ReplicationSource, SourceBounds
from tests.support.links import ListEnd, ListFollower, MemoryLink, RegionIssuer, SourceEnd, linked, serving
from tests.support.replicating import RandomChanges, tables_of
from tests.support.stores import StoreUrls, fresh_name

ZONE = "test-region"


@dataclass
class Links:
    """Makes a link of region west to an end of region east."""

    kind: str
    issuer: RegionIssuer
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def to(self, end: ReplicationEnd) -> RegionLink:
        if self.kind == "memory":
            return MemoryLink(end, "west")
        bounds = LinkBounds(connect_s=5.0, stall_s=5.0, answer_s=10.0)
        server = await self.stack.enter_async_context(serving(end, self.issuer.files("east"), bounds=bounds))
        west = linked(server.port, self.issuer.files("west"), bounds=bounds)
        return await self.stack.enter_async_context(west)


@pytest.fixture(params=["memory", "tls"])
async def links(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Links]:
    found = Links(request.param, RegionIssuer(tmp_path))
    async with found.stack:
        yield found


class NoBell:
    async def notify(self, *topics: WakeTopic) -> None:
        return None

    async def wait(self, timeout_s: float, topics: object = ()) -> bool:
        return False


async def test_a_database_is_copied_and_follows_over_a_link(
    links: Links, stores: Stores, store_urls: StoreUrls
) -> None:
    schema = fresh_name()
    await migrate(store_urls.database, schema)
    target = await open_stores(store_urls.database, schema, ZONE, max_connections=2)
    replica = PostgresReplica(target.pool, ZONE)
    await replica.set_role("secondary", 1, None)
    changes = RandomChanges(stores, 11)
    await changes.begin()
    end = SourceEnd(ReplicationSource(PostgresReplicationReads(stores.pool), ZONE, SourceBounds(rows=9, size=10**5)))
    receiver = ReplicationReceiver(replica, await links.to(end), NoBell())
    for _ in range(3):
        for _ in range(25):
            await changes.change_something()
        await receiver.catch_up()
        assert await tables_of(target) == await tables_of(stores)
    assert end.asked_by == {"west"}
    await target.close()


async def test_rows_arrive_in_order_and_once(links: Links) -> None:
    end, follower = ListEnd(), ListFollower()
    link = await links.to(end)
    for count in (1, 20, 3):
        end.add(count)
        while await follower.advance(link):
            pass
        assert follower.rows == end.rows
    assert end.asked[-1] == Follower(position=follower.position, is_whole=True)


async def test_a_batch_without_rows_is_a_heartbeat_with_the_watermark(links: Links) -> None:
    end = ListEnd()
    end.add(3)
    link = await links.to(end)
    end.watermark = 2
    follower = Follower(position=ListFollower(end.rows).position, is_whole=False)
    batch = await link.batch(follower)
    assert (batch.rows, batch.watermark, batch.epoch, batch.images_at) == ((), 2, 1, 3)
    assert end.asked == [follower]


async def test_logs_are_compared_and_the_zone_is_asked_for(links: Links) -> None:
    end = ListEnd()
    link = await links.to(end)
    with pytest.raises(ReplicationRefused):
        await link.hand_over()
    end.add(9)
    await link.hand_over()
    assert end.heirs == ["west"]
    assert await link.sums(LogRange(after=2, upto=6)) == LogSums(count=4, digest="of west", surplus=2)


async def test_refusals_arrive_by_name(links: Links) -> None:
    end = ListEnd()
    end.add(3)
    link = await links.to(end)
    other = LogPosition(epoch=1, seq=2, digest="\\x00")
    with pytest.raises(ReplicationRefused) as forked:
        await link.batch(Follower(position=other, is_whole=True))
    assert forked.value.code == "log_fork"
    with pytest.raises(ReplicationRefused) as no_copy:
        await link.piece(CopyProgress(tail=START, table="tasks", key=("ü", None, '"')))
    assert no_copy.value.code == "no_copy"


async def test_a_report_and_a_beginning_arrive_as_they_are(links: Links) -> None:
    end = ListEnd()
    end.add(2)
    link = await links.to(end)
    position = ListFollower(end.rows).position
    assert await link.report() == PeerReport(epoch=1, version=1, position=position, is_whole=True)
    assert (await link.tail()) == await end.tail("west")


async def test_an_error_of_the_end_is_a_loss(links: Links) -> None:
    class Failing(ListEnd):
        async def tail(self, peer: str) -> object:  # type: ignore[override]
            raise StoreUnavailable("The database does not answer; try again in a moment.")

        async def report(self, peer: str) -> PeerReport:
            raise ZeroDivisionError("a secret")

    link = await links.to(Failing())
    with pytest.raises(LinkLost, match="database does not answer"):
        await link.tail()
    with pytest.raises(LinkLost) as lost:
        await link.report()
    assert "secret" not in str(lost.value)


async def test_reports_do_not_wait_for_a_question_for_rows(links: Links) -> None:
    end = ListEnd(waits_s=30.0)
    end.add(1)
    link = await links.to(end)
    waiting = asyncio.ensure_future(link.batch(Follower(position=ListFollower(end.rows).position, is_whole=True)))
    assert (await link.report()).epoch == 1
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    end.add(1)
    batch = await link.batch(Follower(position=START, is_whole=True))
    assert len(batch.rows) == 2, "who was interrupted asks anew"
