"""The shell of one region: it carries out what the machine decides, answers the peers, and follows the zone's primary.

It knows neither Ray nor a driver. Each step of the machine is made at once; its effects are carried out in order, beside those of
other steps. What a call of the group or of the database brings back is the next event; a call that fails is none: timers decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cluster.domain.base.errors import Conflict, Fenced, StoreUnavailable, TryLater
from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogRange,
    LogSums,
    PeerReport,
    Refusal,
    ReplicationRefused,
)
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.clock import Clock
from cluster.ports.consensus_group import ConsensusGroup, GroupMembers, GroupView, KeyCompare, KeyPut
from cluster.ports.replication import (
    LeaderStatus,
    LinkLost,
    LinkRefused,
    RegionDatabase,
    RegionLink,
    Replica,
    ReplicationLink,
    ReplicationStatuses,
)
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops, OnFatal, ended, unwatched
from regions.domain import primary, secondary
from regions.domain.group import MEMBERS_KEY, RegionGroup, ZoneRecord
from regions.domain.leadership import (
    AnswerUpTo,
    Appended,
    AskReports,
    CampaignAnswered,
    CloseWrites,
    CreateKey,
    DatabaseRefused,
    Effect,
    Event,
    ForkFound,
    GroupSeen,
    Leadership,
    LogPosition,
    MoveTrust,
    OpenWrites,
    Persisted,
    PrimaryHeard,
    PrimaryTerm,
    ProposalAnswered,
    Propose,
    ReadGroup,
    RegionPhase,
    RegionReport,
    ReleaseKey,
    RememberVersion,
    Renewed,
    RenewLease,
    ReportReceived,
    Tick,
    TransferAsked,
    WritesClosed,
    WritesOpened,
)
from regions.domain.machine import step
from regions.replication.receiver import ReplicationReceiver
from regions.replication.source import ReplicationSource
from regions.replication.surplus import SurplusFiles

_logger = logging.getLogger(__name__)
#: What tells of a commit. Its own word to the region's processes tells of none.
_COMMITS = tuple(topic for topic in WakeTopic if topic is not WakeTopic.REPLICATED)
#: The logs differ, or the rows are not kept: this region's rows might be lost by a copy, so an operator decides.
_FOR_OPERATORS = (Refusal.FORK, Refusal.LOST, Refusal.SCHEMA)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellParts:
    """What a shell acts through. ``links``: to each peer that holds data. Without ``surplus`` a log that has forked is left as it
    is. ``statuses``: where the region's other processes look what they may do; None if there are none."""

    group: ConsensusGroup
    database: RegionDatabase
    replica: Replica
    source: ReplicationSource
    links: Mapping[str, RegionLink]
    doorbell: Doorbell
    clock: Clock
    surplus: SurplusFiles | None = None
    statuses: ReplicationStatuses | None = None


class RegionShell:
    """``key`` is the value by which this process holds the campaign key; no two lives of a process have the same. It is the
    `ReplicationEnd` that the peers ask."""

    def __init__(
        self,
        region: str,
        zone: str,
        key: str,
        timers: RegionTimers,
        parts: ShellParts,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._parts = parts
        self._zone = ZoneRecord(zone=zone)
        self._state = Leadership(region=region, key=key, timers=timers)
        self._loops = Loops(on_fatal)
        self._lease: str | None = None
        self._database_lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._must_close = False
        self._problem: Refusal | None = None
        self._logged = ""
        self._group_seen = (float("-inf"), 0)
        self._group_members: GroupMembers | None = None
        self._follows = True
        self._patience_s = timers.election_s
        self._effects: dict[type[Effect], Callable[[Any], Awaitable[None]]] = {
            ReadGroup: self._read_group,
            AskReports: self._ask_reports,
            CreateKey: self._create_key,
            Propose: self._propose,
            ReleaseKey: self._release_key,
            OpenWrites: self._open_writes,
            CloseWrites: self._close_writes,
            RenewLease: self._renew_lease,
            MoveTrust: self._move_trust,
            AnswerUpTo: self._answer_up_to,
            RememberVersion: self._remember_version,
        }

    @property
    def state(self) -> Leadership:
        return self._state

    @property
    def problem(self) -> Refusal | None:
        """Why this region cannot follow the primary before an operator has done something; None if it can."""
        return self._problem

    @property
    def group_members(self) -> GroupMembers | None:
        """Who keeps the group's store, as of the last look; None if that found nobody."""
        return self._group_members

    async def start(self) -> None:
        """A process that starts knows no term, so what an earlier one left open is closed first.

        Raises: `StoreUnavailable` if the region's database does not answer."""
        await self._parts.database.remember_version(0)
        await self._parts.database.close_writes()
        self._loops.start(self._tick_forever(), self._follow_forever(), self._watch_commits())
        self._loops.start(self._watch_group(), self._lead_elsewhere())
        if self._parts.statuses is not None:
            self._loops.start(self._tell_forever(self._parts.statuses))

    async def stop(self) -> None:
        """Ends all work where it is, as a killed process does; the lease ends by itself."""
        await self._loops.stop()

    # --- what the region's own processes ask --------------------------------------------------------------------------

    def why_not_write(self) -> TryLater | None:
        """Why a write is refused before the local commit; None if it is not."""
        return primary.why_not_write(self._state)

    def committed(self, seq: int) -> None:
        """A commit of this region, whose last row is ``seq``. Others are found by the doorbell, or at the next heartbeat."""
        self._take(Appended(seq=seq))

    async def replicated(self, epoch: int, seq: int, timeout_s: float) -> None:
        """Returns when whatever rests on rows of this epoch up to ``seq`` may leave the region.

        Raises: `TryLater` if that is not known in time: the write may be there or not, and the caller's key decides."""
        try:
            async with asyncio.timeout(timeout_s):
                while (term := self._state.term) is not None and term.epoch == epoch:
                    if term.answered >= seq:
                        return
                    await self._change()
        except TimeoutError:
            pass
        raise TryLater(
            "The write is not replicated yet, so its outcome is not known; repeat it with the same key.",
            "not_replicated",
        )

    # --- what an operator asks ----------------------------------------------------------------------------------------

    def transfer(self, heir: str) -> None:
        """Begins a planned transfer: writes close, and ``heir`` takes the zone when it holds every row.

        Raises: `Conflict` if this region is not primary, or the heir cannot take over; `TryLater` if it cannot yet."""
        if self._state.phase is not RegionPhase.PRIMARY:
            raise Conflict("This region is not the zone's primary; give the command at the primary.", "not_primary")
        self._take(TransferAsked(heir=heir))

    def follow(self, follows: bool) -> None:
        """Whether this region takes what the primary sends. One that does not is late, and so leaves the in-sync set."""
        self._follows = follows

    async def until(self, condition: Callable[[Leadership], bool], timeout_s: float) -> bool:
        """Waits until the condition holds; False after the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(self._state):
                    await self._change()
        except TimeoutError:
            return False
        return True

    # --- the machine --------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _take(self, event: Event) -> None:
        self._state, effects = step(self._state, event, self._now())
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if effects:
            self._loops.start(self._carry_out(effects))

    async def _change(self) -> None:
        await self._changed.wait()

    async def _change_within(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._change()
        except TimeoutError:
            return

    async def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            await self._effects[type(effect)](effect)

    async def _tick_forever(self) -> None:
        while True:
            report = self._state.own
            try:
                if self._must_close:
                    await self._close_writes(CloseWrites())
                report = _region_report(await self._parts.database.report())
            except StoreUnavailable:
                _logger.warning("the region's database does not answer its leader")
            self._take(Tick(own=report))
            await self._parts.clock.sleep(self._state.timers.heartbeat_s)

    async def _watch_commits(self) -> None:
        while True:
            await self._parts.doorbell.wait(self._state.timers.heartbeat_s, _COMMITS)
            if self._state.phase is RegionPhase.PRIMARY:
                try:
                    self.committed((await self._parts.database.report()).position.seq)
                except StoreUnavailable:
                    await self._parts.clock.sleep(self._state.timers.heartbeat_s)

    # --- what the region's processes are told ---------------------------------------------------------------------------

    async def _tell_forever(self, statuses: ReplicationStatuses) -> None:
        """Tells what is new at once, and all of it at each heartbeat: what was told may be lost."""
        told, told_at = None, float("-inf")
        heartbeat_s = self._state.timers.heartbeat_s
        while True:
            news = self._told()
            if news == told and self._now() < told_at + heartbeat_s:
                await self._change_within(told_at + heartbeat_s - self._now())
                continue
            try:
                await statuses.tell(news, self._silent_s())
            except StoreUnavailable:
                await self._parts.clock.sleep(heartbeat_s)
                continue
            if news != told:
                await self._parts.doorbell.notify(WakeTopic.REPLICATED)
            told, told_at = news, self._now()

    def _told(self) -> LeaderStatus:
        state, refused = self._state, self.why_not_write()
        term, record = state.term, state.record
        return LeaderStatus(
            epoch=state.heard_epoch if term is None else term.epoch,
            watermark=state.watermark if term is None else term.answered,
            primary=None if record is None else record.primary,
            refusal=None if refused is None else refused.code,
        )

    def _silent_s(self) -> float | None:
        """For how long nothing was heard of the primary; None if nothing ever was."""
        if self._state.phase is RegionPhase.PRIMARY:
            return 0.0
        heard_at = self._state.heard_at
        return None if heard_at == float("-inf") else self._now() - heard_at

    # --- effects at the group -----------------------------------------------------------------------------------------

    async def _watch_group(self) -> None:
        """What changes is seen at once. The reads at each heartbeat go on, since a watch that hangs says nothing."""
        async with aclosing(self._parts.group.watch("")) as views:
            async for view in views:
                self._saw(view)

    async def _read_group(self, effect: ReadGroup) -> None:
        began = self._now()
        try:
            view = await self._parts.group.read("")
        except StoreUnavailable:
            return
        self._saw(view, began)

    def _saw(self, view: GroupView, began: float = float("-inf")) -> None:
        """``began``: when the read did. One that a later one has overtaken is not taken. The revision alone does not say so: that
        of a store that was restored is older for good."""
        seen_at, revision = self._group_seen
        if began <= seen_at and view.revision < revision:
            return
        self._group_seen = self._now(), view.revision
        members, record = view.value(MEMBERS_KEY), view.value(self._zone.key)
        if members is not None and record is not None:
            holder = view.value(self._zone.leader_key)
            group = RegionGroup.decode(members)
            self._take(GroupSeen(group=group, record=ZoneRecord.decode(record), holder=holder))

    async def _ask_reports(self, effect: AskReports) -> None:
        for region, link in self._parts.links.items():
            self._loops.start(self._ask_report(region, link.report))
        self._loops.start(self._ask_report(self._state.region, self._parts.database.report))

    async def _ask_report(self, region: str, ask: Callable[[], Awaitable[PeerReport]]) -> None:
        try:
            report = _region_report(await ask())
        except (LinkLost, LinkRefused, StoreUnavailable):
            report = None
        self._take(ReportReceived(region=region, report=report))

    async def _create_key(self, effect: CreateKey) -> None:
        ttl_s = None
        started = 0.0
        try:
            started = await self._parts.database.clock()
            lease = await self._parts.group.grant(self._state.timers.election_s)
            key = self._zone.leader_key
            put = KeyPut(key=key, value=self._state.key, lease=lease.id)
            if await self._parts.group.swap([KeyCompare(key=key, value=None)], [put]):
                self._lease, ttl_s = lease.id, lease.ttl_s
            else:
                await self._parts.group.revoke(lease.id)
        except StoreUnavailable:
            pass  # if the key was created nevertheless, it ends with its lease
        self._take(CampaignAnswered(started=started, ttl_s=ttl_s))

    async def _propose(self, effect: Propose) -> None:
        compares = [KeyCompare(key=self._zone.key, value=effect.compared.encode())]
        if effect.with_key:
            compares.append(KeyCompare(key=self._zone.leader_key, value=self._state.key))
        puts = [KeyPut(key=self._zone.key, value=effect.after.encode())]
        deletes = [self._zone.leader_key] if effect.delete_key else []
        try:
            succeeded: bool | None = await self._parts.group.swap(compares, puts, deletes)
        except StoreUnavailable:
            succeeded = None
        self._take(ProposalAnswered(after=effect.after, succeeded=succeeded))

    async def _release_key(self, effect: ReleaseKey) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            try:
                await self._parts.group.revoke(lease)
            except StoreUnavailable:
                return  # it ends by itself

    async def _renew_lease(self, effect: RenewLease) -> None:
        lease, ttl_s = self._lease, None
        try:
            started = await self._parts.database.clock()
            if lease is not None:
                ttl_s = await self._parts.group.renew(lease)
        except StoreUnavailable:
            return
        self._take(Renewed(sent_at=effect.sent_at, started=started, ttl_s=ttl_s))

    async def _lead_elsewhere(self) -> None:
        """While this region is primary, its member does not lead the group's store: whoever loses the region would wait for the
        store's election as well before that of the zone begins. It looks after each election, and every few renewals.

        This is no effect of the machine: no decision rests on who leads the store, and what a change of it does to the leases
        is a fault of the simulation."""
        logged = ""
        while True:
            term = self._state.term
            why = await self._led_elsewhere()
            if why not in ("", logged):
                _logger.warning("the leader of etcd is not moved out of the primary's region: %s", why)
            logged = why

            def is_elected(state: Leadership, before: PrimaryTerm | None = term) -> bool:
                return state.term is not None and (before is None or state.term.epoch != before.epoch)

            await self.until(is_elected, self._state.timers.election_s)

    async def _led_elsewhere(self) -> str:
        """Looks, and moves the store's leader if it has to be. Returns why that cannot be done; empty if it is."""
        group, region = self._parts.group, self._state.region
        try:
            self._group_members = await group.members()
            if self._state.phase is RegionPhase.PRIMARY and self._group_members.leader == region:
                await group.move_leader(region)
                self._group_members = await group.members()
        except StoreUnavailable as error:
            self._group_members = None
            return error.message
        return ""

    # --- effects at the database --------------------------------------------------------------------------------------

    async def _open_writes(self, effect: OpenWrites) -> None:
        async with self._database_lock:
            try:
                head = await self._parts.database.open_writes(effect.epoch, effect.trusted_until)
            except (Fenced, StoreUnavailable):
                head = None
            if head is None:
                self._take(DatabaseRefused())
                return
            if self._state.phase is RegionPhase.OPENING:
                self._take(WritesOpened(epoch=effect.epoch, head=head))
                return
        await self._close_writes(CloseWrites())  # the machine has given up meanwhile

    async def _close_writes(self, effect: CloseWrites) -> None:
        async with self._database_lock:
            try:
                head = await self._parts.database.close_writes()
            except StoreUnavailable:
                self._must_close = True  # trust ends by itself, and the next heartbeat tries again
                return
            self._must_close = False
        self._take(WritesClosed(head=head))

    async def _move_trust(self, effect: MoveTrust) -> None:
        try:
            await self._parts.database.move_trust(effect.epoch, effect.trusted_until)
        except StoreUnavailable:
            return

    async def _remember_version(self, effect: RememberVersion) -> None:
        try:
            await self._parts.database.remember_version(effect.version)
        except StoreUnavailable:
            return

    async def _answer_up_to(self, effect: AnswerUpTo) -> None:
        """Who waits looks at the term itself."""

    # --- what peers ask -----------------------------------------------------------------------------------------------

    async def batch(self, peer: str, follower: Follower) -> Batch:
        """Whoever asks confirms; if there is nothing new, it waits for a heartbeat's time.

        Raises: `ReplicationRefused`, `StoreUnavailable`."""
        batch = await self._read_batch(peer, follower)
        if follower.epoch == batch.epoch:
            told, seq = self._term(batch.epoch).answered, follower.position.seq
            self._take(Persisted(region=peer, epoch=batch.epoch, seq=seq, is_whole=follower.is_whole))
            if not batch.rows:
                await self._wait_for_news(batch.epoch, seq, told)
                batch = await self._read_batch(peer, follower)
        return replace(batch, watermark=self._term(batch.epoch).answered)

    async def _wait_for_news(self, epoch: int, seq: int, told: int) -> None:
        """Returns at once if there are rows after ``seq``, or another watermark; else after a heartbeat's time."""
        try:
            async with asyncio.timeout(self._state.timers.heartbeat_s):
                while (term := self._term(epoch)).head <= seq and term.answered == told:
                    await self._change()
        except TimeoutError:
            return

    async def _read_batch(self, peer: str, follower: Follower) -> Batch:
        try:
            is_draining = self._state.phase is RegionPhase.DRAINING
            batch = await self._parts.source.batch(follower.position, is_draining=is_draining)
        except ReplicationRefused as refused:
            if refused.refusal in (Refusal.FORK, Refusal.LOST):
                self._check_outside(peer)
            raise
        self._term(batch.epoch)
        return batch

    def _term(self, epoch: int) -> PrimaryTerm:
        """A database that is primary without a term was opened by a process that is no more."""
        term = self._state.term
        if term is None or term.epoch != epoch:
            raise ReplicationRefused(Refusal.NOT_PRIMARY)
        return term

    def _check_outside(self, peer: str) -> None:
        """A region that has to be copied anew leaves the in-sync set first: meanwhile it lacks rows that were answered. Whether
        it is in the set is what the primary says, not what the region has read."""
        term, record = self._state.term, self._state.record
        if term is None or record is None:
            raise ReplicationRefused(Refusal.NOT_PRIMARY)
        if peer in primary.counted(record, term.proposal):
            self._take(ForkFound(region=peer))
            raise ReplicationRefused(Refusal.COUNTED)

    async def tail(self, peer: str) -> CopyBeginning:
        """Raises: `ReplicationRefused`, `StoreUnavailable`."""
        self._check_outside(peer)
        return await self._parts.source.tail()

    async def piece(self, peer: str, progress: CopyProgress) -> CopyPiece:
        """Raises: `ReplicationRefused`, `StoreUnavailable`."""
        self._check_outside(peer)
        return await self._parts.source.piece(progress)

    async def report(self, peer: str) -> PeerReport:
        """Raises: `StoreUnavailable`."""
        return await self._parts.database.report()

    async def sums(self, peer: str, of: LogRange) -> LogSums:
        """Raises: `StoreUnavailable`."""
        count, digest = await self._parts.source.sums(of)
        surplus = 0 if self._parts.surplus is None else len(self._parts.surplus.files())
        return LogSums(count=count, digest=digest, surplus=surplus)

    async def hand_over(self, peer: str) -> None:
        """Raises: as `transfer`."""
        _logger.warning("region %s asks for the zone", peer)
        self.transfer(peer)

    # --- following ----------------------------------------------------------------------------------------------------

    async def _follow_forever(self) -> None:
        while True:
            leader = self._leader()
            follows = False
            if leader is not None:
                try:
                    follows = await self._follow(leader)
                except ReplicationRefused as refused:
                    self._refused(refused)
                except (LinkLost, LinkRefused, StoreUnavailable) as error:
                    self._log_once(str(error))

            def another_leads(_: Leadership, before: str | None = leader) -> bool:
                return self._leader() != before

            if not follows:
                await self.until(another_leads, self._state.timers.heartbeat_s / 4)

    def _leader(self) -> str | None:
        leader = secondary.leader_of(self._state) if self._follows else None
        return leader if leader in self._parts.links else None

    def _refused(self, refused: ReplicationRefused) -> None:
        self._problem = refused.refusal if refused.refusal in _FOR_OPERATORS else None
        self._log_once(str(refused))

    def _log_once(self, why: str) -> None:
        """Once for each reason: it is tried again several times in a second."""
        if why != self._logged:
            _logger.warning("the zone's primary is not followed now: %s", why)
        self._logged = why

    async def _follow(self, leader: str) -> bool:
        """Takes what comes next. Returns whether there may be more at once."""
        replica = self._parts.replica
        found = await replica.state()
        if found.role != "secondary":
            async with self._database_lock:
                # With its own epoch: a later one is the primary's to tell, and an election that was won meanwhile is not undone.
                if self._leader() != leader or not await replica.set_role("secondary", found.epoch or 0, None):
                    return False
        link = _LedLink(self._parts.links[leader], partial(self._batch_of, leader), partial(self._while_led, leader))
        receiver = ReplicationReceiver(replica, _HeardLink(link, self._hear), self._parts.doorbell)
        try:
            await receiver.advance()
        except ReplicationRefused as refused:
            if refused.refusal is Refusal.IMAGES:
                await receiver.copy()
            elif refused.refusal is not Refusal.FORK or not await self._keep_surplus(link):
                raise
            else:
                await receiver.copy()
        self._problem, self._logged = None, ""
        return True

    async def _while_led(self, leader: str, question: Awaitable[Any], timeout_s: float | None = None) -> Any:
        """The answer of a primary, while it is that. One that sleeps, or that no packet reaches, may answer never, and its
        successor counts on this region's confirmations meanwhile.

        Raises: `LinkLost` as soon as this region follows it no more, and after the time-out."""
        asking, left = asyncio.ensure_future(question), asyncio.ensure_future(self._left(leader))
        try:
            await asyncio.wait((asking, left), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise LinkLost(f"Region {leader} has not answered in time, or is the zone's primary no more.")
            return asking.result()
        finally:
            await ended(asking, left)

    async def _batch_of(self, leader: str, follower: Follower) -> Batch:
        """A primary answers at each heartbeat, so a connection on which nothing comes for an election timeout may be half open.
        It may also have much to read: each time it is given twice the time, so that a slow one is not asked for ever."""
        began, patience_s = self._now(), self._patience_s
        try:
            batch: Batch = await self._while_led(leader, self._parts.links[leader].batch(follower), patience_s)
        except LinkLost:
            if self._now() >= began + patience_s:
                self._patience_s = 2 * patience_s
            raise
        self._patience_s = self._state.timers.election_s
        return batch

    async def _left(self, leader: str) -> None:
        while self._leader() == leader:
            await self._change()

    async def _keep_surplus(self, link: ReplicationLink) -> bool:
        """Keeps the rows that the primary never had, so that this region may be copied anew. False if that is not all that
        differs: a log that shares no row with the primary's is another deployment's, and an operator decides.

        Raises: `ReplicationRefused` while the primary counts this region in the in-sync set, which it leaves first."""
        surplus = self._parts.surplus
        if surplus is None:
            return False
        fork, shared = await surplus.fork((await link.tail()).history)
        if shared is None or fork.surplus == 0:
            return False
        try:
            await link.batch(Follower(position=shared, is_whole=False))
        except ReplicationRefused as refused:
            if refused.refusal is Refusal.FORK:
                return False
            raise
        try:
            kept = await surplus.save(fork)
        except OSError as error:
            raise StoreUnavailable(f"The surplus of a fork cannot be kept, so nothing is copied: {error}.") from error
        _logger.warning("%d rows past a fork are kept in %s; this region is copied anew", kept.rows, kept.name)
        return True

    def _hear(self, batch: Batch) -> None:
        """Raises: `LinkLost` if this region does not follow any more, so that the batch is not applied."""
        if self._leader() is None:
            raise LinkLost("This region follows nobody now: the zone's primary has lost the campaign key.")
        self._take(PrimaryHeard(epoch=batch.epoch, watermark=batch.watermark))


class _LedLink:
    """A link whose questions are given up when ``batch`` and ``while_led`` say so."""

    def __init__(
        self,
        link: ReplicationLink,
        batch: Callable[[Follower], Awaitable[Batch]],
        while_led: Callable[[Awaitable[Any]], Awaitable[Any]],
    ) -> None:
        self._link = link
        self._batch = batch
        self._while_led = while_led

    async def batch(self, follower: Follower) -> Batch:
        return await self._batch(follower)

    async def tail(self) -> CopyBeginning:
        beginning: CopyBeginning = await self._while_led(self._link.tail())
        return beginning

    async def piece(self, progress: CopyProgress) -> CopyPiece:
        piece: CopyPiece = await self._while_led(self._link.piece(progress))
        return piece

    async def report(self) -> PeerReport:
        return await self._link.report()


class _HeardLink:
    """A link whose batches are also signs of life."""

    def __init__(self, link: ReplicationLink, hear: Callable[[Batch], None]) -> None:
        self._link = link
        self._hear = hear
        self.tail = link.tail
        self.piece = link.piece
        self.report = link.report

    async def batch(self, follower: Follower) -> Batch:
        batch = await self._link.batch(follower)
        self._hear(batch)
        return batch


def _region_report(report: PeerReport) -> RegionReport:
    position = LogPosition(epoch=report.position.epoch, seq=report.position.seq)
    return RegionReport(epoch=report.epoch, version=report.version, position=position, is_whole=report.is_whole)


async def found_zone(group: ConsensusGroup, members: RegionGroup, record: ZoneRecord) -> bool:
    """Writes the first record of a zone, and the members. False if there is one. Its epoch is at least that of every database.

    Raises: `StoreUnavailable`."""
    compares = [KeyCompare(key=MEMBERS_KEY, value=None), KeyCompare(key=record.key, value=None)]
    puts = [KeyPut(key=MEMBERS_KEY, value=members.encode()), KeyPut(key=record.key, value=record.encode())]
    return await group.swap(compares, puts)
