"""As secondary a region follows the zone's primary: it takes one batch after the other, and the copy that a new region needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import TypeVar

from cluster.domain.base.errors import StoreUnavailable
from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogPosition,
    PeerReport,
    Refusal,
    ReplicationRefused,
)
from cluster.ports.replication import LinkLost, LinkRefused, RegionLink, Replica, ReplicationLink
from cluster.ports.wake_ups import Doorbell
from cluster.process.loops import ended
from regions.domain import rejoin, secondary
from regions.domain.leadership import Leadership, PrimaryHeard
from regions.domain.rejoin import (
    AskToLeave,
    ForkPoint,
    HistoriesCompared,
    Rebuild,
    Rebuilt,
    RejoinEvent,
    Rejoining,
    SaveSurplus,
    SurplusSaved,
)
from regions.replication.receiver import ReplicationReceiver
from regions.replication.surplus import SurplusFiles
from regions.shell.machine_runner import MachineRunner
from regions.shell.write_gate import WriteGate

_logger = logging.getLogger(__name__)
#: The logs differ, or the rows are not kept, and it cannot be told what a copy would lose: an operator decides.
_FOR_OPERATORS = (Refusal.FORK, Refusal.LOST, Refusal.SCHEMA)
_Answer = TypeVar("_Answer")


class Following:
    """``problem``: why this region cannot follow the primary before an operator has done something; None if it can. Without
    ``surplus`` a log that has forked is left as it is."""

    def __init__(
        self,
        runner: MachineRunner,
        gate: WriteGate,
        replica: Replica,
        links: Mapping[str, RegionLink],
        doorbell: Doorbell,
        surplus: SurplusFiles | None,
    ) -> None:
        self._runner = runner
        self._gate = gate
        self._replica = replica
        self._links = links
        self._doorbell = doorbell
        self._surplus = surplus
        self.problem: Refusal | None = None
        #: Whether this region takes what the primary sends. An operator may stop it.
        self.takes_part = True
        self._logged = ""
        #: For how long a primary is waited for, in seconds. ``batch`` doubles it for a slow one, and puts it back.
        self._patience_s = runner.state.timers.election_s

    async def run(self) -> None:
        while True:
            leader = self.leader()
            follows = False
            if leader is not None:
                try:
                    follows = await self._follow(leader)
                except ReplicationRefused as refused:
                    self._refused(refused)
                except (LinkLost, LinkRefused, StoreUnavailable) as error:
                    self._log_once(str(error))

            def another_leads(_: Leadership, before: str | None = leader) -> bool:
                return self.leader() != before

            if not follows:
                await self._runner.until(another_leads, self._runner.state.timers.heartbeat_s / 4)

    def leader(self) -> str | None:
        """Whom this region follows now."""
        leader = secondary.leader_of(self._runner.state) if self.takes_part else None
        return leader if leader in self._links else None

    def _refused(self, refused: ReplicationRefused) -> None:
        self.problem = refused.refusal if refused.refusal in _FOR_OPERATORS else None
        self._log_once(str(refused))

    def _log_once(self, why: str) -> None:
        """Once for each reason: it is tried again several times in a second."""
        if why != self._logged:
            _logger.warning("the zone's primary is not followed now: %s", why)
        self._logged = why

    async def _follow(self, leader: str) -> bool:
        """Takes one batch after the other while it is followed. Returns whether there may be more at once."""

        def goes_on() -> bool:
            self.problem, self._logged = None, ""
            return self.leader() == leader

        if not await self._gate.become_secondary(lambda: self.leader() == leader):
            return False
        link = _LedLink(self._links[leader], leader, self)
        receiver = ReplicationReceiver(self._replica, _HeardLink(link, self), self._doorbell)
        try:
            await receiver.follow(goes_on)
        except ReplicationRefused as refused:
            if refused.refusal is Refusal.IMAGES:
                await receiver.copy()
            elif refused.refusal not in (Refusal.FORK, Refusal.LOST) or not await self._rejoin(
                link, receiver, is_lost=refused.refusal is Refusal.LOST
            ):
                raise
        self.problem, self._logged = None, ""
        return True

    async def while_led(self, leader: str, question: Awaitable[_Answer], timeout_s: float | None = None) -> _Answer:
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

    async def batch(self, leader: str, link: ReplicationLink, follower: Follower) -> Batch:
        """A primary answers at each heartbeat, so a connection on which nothing comes for an election timeout may be half open.
        It may also have much to read: each time it is given twice the time, so that a slow one is not asked for ever.

        Raises: `LinkLost`, and what the link raises."""
        began, patience_s = self._runner.now(), self._patience_s
        try:
            batch = await self.while_led(leader, link.batch(follower), patience_s)
        except LinkLost:
            if self._runner.now() >= began + patience_s:
                self._patience_s = 2 * patience_s
            raise
        self._patience_s = self._runner.state.timers.election_s
        return batch

    async def _left(self, leader: str) -> None:
        while self.leader() == leader:
            await self._runner.change()

    async def _rejoin(self, link: ReplicationLink, receiver: ReplicationReceiver, *, is_lost: bool) -> bool:
        """Carries out what ``rejoin.step`` decides about this log, which is not the primary's, or (``is_lost``) ends before the
        first row that the primary keeps. False if that is nothing: a log that shares no row with the primary's is another
        deployment's, and an operator decides. It keeps nothing: one that is interrupted begins anew, or goes on with its copy.

        Raises: `ReplicationRefused` while the primary counts this region in the in-sync set, which it leaves first."""
        record = self._runner.state.record
        if self._surplus is None or record is None:
            return False
        mine, _ = await self._surplus.compared(())
        # A primary that refuses rows does not say whether it counts this region. Asked for its log, it refuses while it does,
        # and takes that as the request to leave.
        event: RejoinEvent = HistoriesCompared(mine=mine, theirs=(), epoch=record.epoch, in_sync=True, is_lost=is_lost)
        rejoining, effects = rejoin.step(Rejoining(), event)
        while effects:
            (effect,) = effects
            match effect:
                case AskToLeave():
                    beginning = await link.tail()
                    mine, shared = await self._surplus.compared(beginning.history)
                    if shared is None or not await _shares(link, shared):
                        return False
                    event = HistoriesCompared(
                        mine=mine, theirs=beginning.history, epoch=beginning.epoch, in_sync=False, is_lost=is_lost
                    )
                case SaveSurplus():
                    assert rejoining.fork is not None, "it was compared"
                    await self._save(self._surplus, rejoining.fork)
                    event = SurplusSaved()
                case Rebuild():
                    if is_lost:
                        _logger.warning(
                            "the primary does not keep the rows after this log any more; this region is copied anew"
                        )
                    await receiver.copy()
                    event = Rebuilt()
            rejoining, effects = rejoin.step(rejoining, event)
        return isinstance(event, Rebuilt)

    async def _save(self, surplus: SurplusFiles, fork: ForkPoint) -> None:
        try:
            kept = await surplus.save(fork)
        except OSError as error:
            raise StoreUnavailable(f"The surplus of a fork cannot be kept, so nothing is copied: {error}.") from error
        _logger.warning("%d rows past a fork are kept in %s; this region is copied anew", kept.rows, kept.name)

    def hear(self, batch: Batch) -> None:
        """Raises: `LinkLost` if this region does not follow any more, so that the batch is not applied."""
        if self.leader() is None:
            raise LinkLost("This region follows nobody now: the zone's primary has lost the campaign key.")
        self._runner.take(PrimaryHeard(epoch=batch.epoch, watermark=batch.watermark))


async def _shares(link: ReplicationLink, shared: LogPosition) -> bool:
    """Whether the primary has this row too, as far as it can tell: of one that it keeps no more the histories have told. Raises:
    `ReplicationRefused` if it refuses for another reason."""
    try:
        await link.batch(Follower(position=shared, is_whole=False))
    except ReplicationRefused as refused:
        if refused.refusal is Refusal.FORK:
            return False
        if refused.refusal is not Refusal.LOST:
            raise
    return True


class _LedLink:
    """A link to the primary whose questions are given up when ``following`` follows it no more."""

    def __init__(self, link: ReplicationLink, leader: str, following: Following) -> None:
        self._link = link
        self._leader = leader
        self._following = following

    async def batch(self, follower: Follower) -> Batch:
        return await self._following.batch(self._leader, self._link, follower)

    async def tail(self) -> CopyBeginning:
        return await self._following.while_led(self._leader, self._link.tail())

    async def piece(self, progress: CopyProgress) -> CopyPiece:
        return await self._following.while_led(self._leader, self._link.piece(progress))

    async def report(self) -> PeerReport:
        return await self._link.report()


class _HeardLink:
    """A link whose batches are also signs of life."""

    def __init__(self, link: ReplicationLink, following: Following) -> None:
        self._link = link
        self._following = following
        self.tail = link.tail
        self.piece = link.piece
        self.report = link.report

    async def batch(self, follower: Follower) -> Batch:
        batch = await self._link.batch(follower)
        self._following.hear(batch)
        return batch
