"""The gate of one process of a region of several, on a real database whose leader is the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cluster.log.replication_gate import ReplicationGate
from cluster.ports.replication import LeaderStatus, ReplicationStatus
from cluster.postgres.region_database import PostgresRegionDatabase
from cluster.postgres.replication_statuses import PostgresReplicationStatuses
from cluster.postgres.stores import Stores
from cluster.process.clock import SystemClock
from tests.support.probes import eventually
from tests.support.samples import system_event
from tests.support.shells import Bell

ZONE = "test-region"
LONG_S = 60.0
URLS = {"west": "https://west.example.com"}


class SeenStatuses(PostgresReplicationStatuses):
    """Counts the reads that have begun, and those that have ended."""

    begun = 0
    reads = 0

    async def read(self) -> ReplicationStatus:
        self.begun += 1
        found = await super().read()
        self.reads += 1
        return found


@dataclass
class GatedRegion:
    stores: Stores
    database: PostgresRegionDatabase
    statuses: SeenStatuses
    bell: Bell
    gate: ReplicationGate
    deaths: list[BaseException] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    async def becomes_primary(self, epoch: int) -> int:
        """Opens writes, and returns the row that says so."""
        head = await self.database.open_writes(epoch, await self.database.clock() + LONG_S)
        assert head is not None
        self.stores.epoch.value = epoch
        return head

    async def commit(self) -> int:
        (seq,) = await self.stores.log.append([system_event("e")])
        return seq

    async def tell(
        self,
        epoch: int,
        watermark: int,
        refusal: str | None = None,
        primary: str = "east",
        silent_s: float | None = 0.0,
    ) -> None:
        told = LeaderStatus(epoch=epoch, watermark=watermark, primary=primary, refusal=refusal)
        await self.statuses.tell(told, silent_s)
        await self.seen()

    async def seen(self) -> None:
        """Returns when the gate has read all that is so now."""
        before = self.statuses.reads
        await self.bell.notify()
        await eventually(lambda: self.statuses.reads > before + 1)


@asynccontextmanager
async def gated(
    stores: Stores, urls: Mapping[str, str] = URLS, heartbeat_s: float = 0.05
) -> AsyncIterator[GatedRegion]:
    """A region that was never primary. ``urls``: where the APIs of regions are."""
    database = PostgresRegionDatabase(stores.pool, ZONE, "east")
    await database.close_writes()
    statuses, bell = SeenStatuses(stores.pool, ZONE), Bell()
    deaths: list[BaseException] = []
    epochs: list[int] = []
    gate = ReplicationGate(
        statuses,
        bell,
        SystemClock(),
        heartbeat_s=heartbeat_s,
        stale_s=30.0,
        urls=urls,
        on_epoch=epochs.append,
        on_fatal=deaths.append,
    )
    await gate.start()
    yield GatedRegion(stores, database, statuses, bell, gate, deaths, epochs)
    await gate.stop()
