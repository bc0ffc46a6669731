"""What a region reads in the group and writes to it: the campaign key with its lease, the zone's record, the peers' reports.

What a call brings back is the next event; a call that fails is none, but where the machine waits for its outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.replication.batch import PeerReport
from cluster.ports.consensus_group import ConsensusGroup, GroupView, KeyCompare, KeyPut
from cluster.ports.replication import LinkLost, LinkRefused, RegionDatabase, RegionLink
from regions.domain.group import MEMBERS_KEY, RegionGroup, ZoneRecord
from regions.domain.leadership import (
    AskReports,
    CampaignAnswered,
    CreateKey,
    GroupSeen,
    LogPosition,
    ProposalAnswered,
    Propose,
    ReadGroup,
    RegionReport,
    ReleaseKey,
    Renewed,
    RenewLease,
    ReportReceived,
)
from regions.shell.machine_runner import Carried, MachineRunner


class GroupAccess:
    """``database`` is the region's own: its clock says from when on a lease is trusted."""

    def __init__(
        self,
        runner: MachineRunner,
        zone: str,
        group: ConsensusGroup,
        database: RegionDatabase,
        links: Mapping[str, RegionLink],
    ) -> None:
        self._runner = runner
        self._zone = ZoneRecord(zone=zone)
        self._group = group
        self._database = database
        self._links = links
        #: Of the campaign key that this process may hold. ``_create_key`` sets it, ``_release_key`` takes it.
        self._lease: str | None = None
        #: When the newest view that was taken was read, and its revision.
        self._seen = (float("-inf"), 0)

    def carried(self) -> Carried:
        """The effects that are carried out here."""
        return {
            ReadGroup: self._read,
            AskReports: self._ask_reports,
            CreateKey: self._create_key,
            Propose: self._propose,
            ReleaseKey: self._release_key,
            RenewLease: self._renew_lease,
        }

    async def watch(self) -> None:
        """What changes is seen at once. The reads at each heartbeat go on, since a watch that hangs says nothing."""
        async with aclosing(self._group.watch("")) as views:
            async for view in views:
                self._saw(view)

    async def _read(self, effect: ReadGroup) -> None:
        began = self._runner.now()
        try:
            view = await self._group.read("")
        except StoreUnavailable:
            return
        self._saw(view, began)

    def _saw(self, view: GroupView, began: float = float("-inf")) -> None:
        """``began``: when the read did. One that a later one has overtaken is not taken. The revision alone does not say so: that
        of a store that was restored is older for good."""
        seen_at, revision = self._seen
        if began <= seen_at and view.revision < revision:
            return
        self._seen = self._runner.now(), view.revision
        members, record = view.value(MEMBERS_KEY), view.value(self._zone.key)
        if members is not None and record is not None:
            holder = view.value(self._zone.leader_key)
            group = RegionGroup.decode(members)
            self._runner.take(GroupSeen(group=group, record=ZoneRecord.decode(record), holder=holder))

    async def _ask_reports(self, effect: AskReports) -> None:
        for region, link in self._links.items():
            self._runner.loops.start(self._ask_report(region, link.report))
        self._runner.loops.start(self._ask_report(self._runner.state.region, self._database.report))

    async def _ask_report(self, region: str, ask: Callable[[], Awaitable[PeerReport]]) -> None:
        try:
            report = region_report(await ask())
        except (LinkLost, LinkRefused, StoreUnavailable):
            report = None
        self._runner.take(ReportReceived(region=region, report=report))

    async def _create_key(self, effect: CreateKey) -> None:
        ttl_s = None
        started = 0.0
        try:
            started = await self._database.clock()
            lease = await self._group.grant(self._runner.state.timers.election_s)
            key = self._zone.leader_key
            put = KeyPut(key=key, value=self._runner.state.key, lease=lease.id)
            if await self._group.swap([KeyCompare(key=key, value=None)], [put]):
                self._lease, ttl_s = lease.id, lease.ttl_s
            else:
                await self._group.revoke(lease.id)
        except StoreUnavailable:
            pass  # if the key was created nevertheless, it ends with its lease
        self._runner.take(CampaignAnswered(started=started, ttl_s=ttl_s))

    async def _propose(self, effect: Propose) -> None:
        compares = [KeyCompare(key=self._zone.key, value=effect.compared.encode())]
        if effect.with_key:
            compares.append(KeyCompare(key=self._zone.leader_key, value=self._runner.state.key))
        puts = [KeyPut(key=self._zone.key, value=effect.after.encode())]
        deletes = [self._zone.leader_key] if effect.delete_key else []
        try:
            succeeded: bool | None = await self._group.swap(compares, puts, deletes)
        except StoreUnavailable:
            succeeded = None
        self._runner.take(ProposalAnswered(after=effect.after, succeeded=succeeded))

    async def _release_key(self, effect: ReleaseKey) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                await self._group.revoke(lease)
            except StoreUnavailable:
                return  # it ends by itself

    async def _renew_lease(self, effect: RenewLease) -> None:
        lease, ttl_s = self._lease, None
        try:
            started = await self._database.clock()
            if lease is not None:
                ttl_s = await self._group.renew(lease)
        except StoreUnavailable:
            return
        self._runner.take(Renewed(sent_at=effect.sent_at, started=started, ttl_s=ttl_s))


def region_report(report: PeerReport) -> RegionReport:
    """A region's report as the machine takes it."""
    position = LogPosition(epoch=report.position.epoch, seq=report.position.seq)
    return RegionReport(epoch=report.epoch, version=report.version, position=position, is_whole=report.is_whole)


async def found_zone(group: ConsensusGroup, members: RegionGroup, record: ZoneRecord) -> bool:
    """Writes the first record of a zone, and the members unless an earlier zone has brought them. False if there is a record, or
    the members have changed meanwhile. Its epoch is at least that of every database of the zone.

    Raises: `StoreUnavailable`."""
    found = (await group.read(MEMBERS_KEY)).value(MEMBERS_KEY)
    compares = [KeyCompare(key=MEMBERS_KEY, value=found), KeyCompare(key=record.key, value=None)]
    puts = [KeyPut(key=record.key, value=record.encode())]
    if found is None:
        puts.append(KeyPut(key=MEMBERS_KEY, value=members.encode()))
    return await group.swap(compares, puts)
