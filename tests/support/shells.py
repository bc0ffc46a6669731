"""Regions in one process: each has a real database, a shell, and links to the others that a test may cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.replication.quorum import ReplicationMode
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.consensus_group import ConsensusGroup, GroupLease, GroupMembers, GroupView, KeyCompare, KeyPut
from cluster.ports.replication import LinkLost, ReplicationLink
from cluster.ports.tasks import SubmitItem
from cluster.ports.wake_ups import WakeTopic
from cluster.postgres.migrate import migrate
from cluster.postgres.region_database import PostgresRegionDatabase
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.replication_source import PostgresReplicationReads
from cluster.postgres.replication_statuses import PostgresReplicationStatuses
from cluster.postgres.stores import Stores, open_stores
from cluster.process.clock import SystemClock
from regions.domain.group import RegionGroup, RegionMember, ZoneRecord, founded
from regions.domain.leadership import RegionPhase
from regions.domain.zones import first_primary
from regions.replication.source import ReplicationSource
from regions.replication.surplus import SurplusFiles
from regions.shell.group_access import found_zone
from regions.shell.region_shell import RegionShell, ShellParts
from tests.support.links import PATIENT, ZONE, MemoryLink, RegionIssuer, greeting, linked, serving
from tests.support.probes import eventually
from tests.support.samples import new_task
from tests.support.stores import StoreUrls, fresh_name

NAMES = ("east", "north", "west")
TIMERS = RegionTimers(heartbeat_s=0.15, election_s=2.0, stale_s=6.0, sync_s=1.0, margin_s=0.3)
#: For what has processes and TLS between: on a busy machine they are late for longer.
CALM = RegionTimers(heartbeat_s=0.2, election_s=3.5, stale_s=12.0, sync_s=3.0, margin_s=0.3)


class Bell:
    """The doorbell of one process."""

    def __init__(self) -> None:
        #: By task, for what it waits again and again, and whether that was notified.
        self._waiters: dict[asyncio.Task[Any] | None, tuple[Sequence[WakeTopic], asyncio.Event]] = {}

    async def notify(self, *topics: WakeTopic) -> None:
        for heard, notified in self._waiters.values():
            if not topics or set(topics) & set(heard):
                notified.set()

    @property
    def all_heard(self) -> bool:
        """Whether every task that waits has woken up from what it was notified of."""
        return not any(notified.is_set() for _, notified in self._waiters.values())

    async def wait(self, timeout_s: float, topics: Sequence[WakeTopic] = tuple(WakeTopic)) -> bool:
        _, notified = self._waiters.get(asyncio.current_task(), (topics, asyncio.Event()))
        self._waiters[asyncio.current_task()] = topics, notified
        try:
            async with asyncio.timeout(timeout_s):
                await notified.wait()
        except TimeoutError:
            return False
        notified.clear()
        return True


@dataclass
class CutGroup:
    """The group, which a test may take away from one region, or its reads, or its watch. With ``holds`` the next read is on the
    way until ``goes_on`` is set, and no other is answered meanwhile."""

    group: ConsensusGroup
    up: bool = True
    reads: bool = True
    watches: bool = True
    holds: bool = False
    on_the_way: int = 0
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    def _reached(self) -> ConsensusGroup:
        if not self.up:
            raise StoreUnavailable("The group is out of reach.")
        return self.group

    async def read(self, prefix: str) -> GroupView:
        if not self.reads:
            raise StoreUnavailable("Reads of the group are out of reach.")
        view = await self._reached().read(prefix)
        if self.holds:
            self.holds, self.reads = False, False
            self.on_the_way += 1
            await self.goes_on.wait()
            self.on_the_way -= 1
        return view

    async def swap(
        self, compares: Sequence[KeyCompare], puts: Sequence[KeyPut] = (), deletes: Sequence[str] = ()
    ) -> bool:
        return await self._reached().swap(compares, puts, deletes)

    async def grant(self, ttl_s: float) -> GroupLease:
        return await self._reached().grant(ttl_s)

    async def renew(self, lease: str) -> float | None:
        return await self._reached().renew(lease)

    async def revoke(self, lease: str) -> None:
        await self._reached().revoke(lease)

    async def watch(self, prefix: str) -> AsyncGenerator[GroupView, None]:
        """It hangs while the group is away."""
        async with aclosing(self.group.watch(prefix)) as views:
            async for view in views:
                if self.up and self.watches:
                    yield view

    async def members(self) -> GroupMembers:
        return await self._reached().members()

    async def move_leader(self, name: str, avoid: Collection[str] = ()) -> None:
        await self._reached().move_leader(name, avoid)


class CutLink:
    """A link that a test may cut. While ``goes_on`` is not set, answers that bring rows are on the way."""

    def __init__(self, link: ReplicationLink) -> None:
        self._link = link
        self.up = True
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.on_the_way = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._link, name)

        async def cut(*args: Any) -> Any:
            if not self.up:
                raise LinkLost("The link is cut.")
            found = await call(*args)
            if getattr(found, "rows", ()):
                self.on_the_way += 1
                await self.goes_on.wait()
                self.on_the_way -= 1
            if not self.up:
                raise LinkLost("The link was cut.")
            return found

        return cut


@dataclass
class ShellRegion:
    name: str
    stores: Stores
    group: CutGroup
    timers: RegionTimers = TIMERS
    links: dict[str, CutLink] = field(default_factory=dict)
    #: Where it keeps surplus rows; None leaves them to operators.
    surplus: Path | None = None
    #: The zones of residency of all regions.
    zones: Mapping[str, str] = field(default_factory=dict)
    #: The zone whose log it keeps.
    zone: str = ZONE
    life: int = 0
    lives: bool = False
    shell: RegionShell = field(init=False)

    @property
    def statuses(self) -> PostgresReplicationStatuses:
        """What its shell tells."""
        return PostgresReplicationStatuses(self.stores.pool, self.zone)

    def make(self) -> RegionShell:
        """A shell that has not started: a new life of the region's process."""
        self.life += 1
        pool = self.stores.pool
        reads = PostgresReplicationReads(pool)
        # All that is in a zone of residency of its own is resident there, and who may lead it the group says.
        residency = self.zone if self.zone in self.zones.values() else self.zones.get(self.name)
        parts = ShellParts(
            group=self.group,
            database=PostgresRegionDatabase(pool, self.zone, self.name, residency),
            replica=PostgresReplica(pool, self.zone, residency),
            source=ReplicationSource(reads, self.zone),
            links=self.links,  # type: ignore[arg-type]
            doorbell=Bell(),
            clock=SystemClock(),
            statuses=self.statuses,
            surplus=None if self.surplus is None else SurplusFiles(self.surplus, self.name, self.zone, reads),
            zones=self.zones,
        )
        self.shell = RegionShell(self.name, self.zone, f"{self.name}/{self.life}", self.timers, parts)
        return self.shell

    async def start(self) -> None:
        """A new life of the region's process, if it has had one."""
        if self.life > 1 or self.lives:
            self.make()
        await self.shell.start()
        self.lives = True

    async def kill(self) -> None:
        self.lives = False
        self.life += 1
        await self.shell.stop()

    @property
    def is_primary(self) -> bool:
        return self.lives and self.shell.state.phase is RegionPhase.PRIMARY

    async def write(self, *ids: str) -> int:
        """Commits tasks in the region's own database, as its processes do, and returns the last row."""
        await self.stores.region.epoch()
        await self.stores.tasks.submit([SubmitItem(task=new_task(id=name)) for name in ids])
        head = await self.stores.log.head()
        self.shell.committed(head)
        return head

    async def acknowledged(self, *ids: str) -> None:
        head = await self.write(*ids)
        assert self.shell.state.term is not None
        await self.shell.replicated(self.shell.state.term.epoch, head, 20.0)

    async def tasks(self) -> set[str]:
        return {row["id"] for row in await self.stores.pool.rows("select id from tasks")}


@dataclass
class World:
    """Of one zone. ``east`` founds it, or the first that may, alone in its set."""

    group: ConsensusGroup
    regions: dict[str, ShellRegion]
    zone: str = ZONE

    def cut(self, region: str, other: str, *, up: bool = False) -> None:
        for here, there in ((region, other), (other, region)):
            self.regions[here].links[there].up = up

    def isolate(self, name: str, *, up: bool = False) -> None:
        """From the group and from all others."""
        self.regions[name].group.up = up
        for other in self.regions:
            if other != name:
                self.cut(name, other, up=up)

    async def record(self) -> ZoneRecord:
        text = (await self.group.read("")).value(ZoneRecord(zone=self.zone).key)
        assert text is not None
        return ZoneRecord.decode(text)

    async def primary(self, among: Sequence[str] = NAMES) -> ShellRegion:
        """The region that is primary, as soon as there is one, and all of ``among`` are in its set."""

        async def found() -> ShellRegion | None:
            record = await self.record()
            for region in self.regions.values():
                if region.is_primary and record.primary == region.name and set(among) <= record.in_sync:
                    return region
            return None

        region: ShellRegion = await eventually(found, 90.0, f"a primary with {among}")
        return region


@asynccontextmanager
async def shells(
    urls: StoreUrls,
    group: ConsensusGroup,
    issuer: RegionIssuer | None = None,
    timers: RegionTimers = TIMERS,
    zones: Mapping[str, str] | None = None,
    zone: str = ZONE,
) -> AsyncIterator[World]:
    """Three regions that have started. With an ``issuer`` their links are TLS. ``zones``: the zone of residency of each region;
    ``zone``: whose log they keep."""
    async with AsyncExitStack() as stack:
        regions = {}
        for name in NAMES:
            schema = fresh_name()
            await migrate(urls.database, schema)
            opened = await open_stores(urls.database, schema, zone, max_connections=4)
            stack.push_async_callback(opened.close)
            regions[name] = ShellRegion(name, opened, CutGroup(group), timers, zones=zones or {}, zone=zone)
            regions[name].make()
        for here in regions.values():
            for there in regions.values():
                if here is not there:
                    link = await _link(stack, here.name, there, issuer)
                    here.links[there.name] = CutLink(link)
        # What tests keep by default is a zone of all, though not that of the name.
        residency = dict.fromkeys(NAMES, ZONE) if zone == ZONE else zones or {}
        members = RegionGroup(members=tuple(RegionMember(region=name, residency=residency.get(name)) for name in NAMES))
        first = first_primary(members, zone, "east")
        assert first is not None
        record = replace(founded(zone, first, (), ReplicationMode.SYNC), epoch=1)
        assert await found_zone(group, members, record)
        for region in regions.values():
            await region.start()
        try:
            yield World(group, regions, zone)
        finally:
            for region in regions.values():
                await region.shell.stop()


class _Living:
    """The end of whichever shell of the region lives."""

    def __init__(self, region: ShellRegion) -> None:
        self._region = region

    def __getattr__(self, name: str) -> Any:
        return getattr(self._region.shell.peers, name)


async def _link(stack: AsyncExitStack, here: str, there: ShellRegion, issuer: RegionIssuer | None) -> ReplicationLink:
    end: Any = _Living(there)
    if issuer is None:
        return MemoryLink(end, here)
    files = issuer.files(there.name)
    server = await stack.enter_async_context(
        serving(end, files, says=greeting(there.name), peers=(here,), bounds=PATIENT)
    )
    link = linked(server.port, issuer.files(here), says=greeting(here), peer=there.name, bounds=PATIENT)
    return await stack.enter_async_context(link)
