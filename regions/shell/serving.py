"""What this region answers its peers: what follows in the log, a copy, how far it is, and a transfer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cluster.domain.replication.batch import (
    Batch,
    CopyBeginning,
    CopyPiece,
    CopyProgress,
    Follower,
    LogPosition,
    LogRange,
    LogSums,
    PeerReport,
    Refusal,
    ReplicationRefused,
)
from cluster.ports.replication import RegionDatabase
from regions.domain import primary
from regions.domain.leadership import Appended, ForkFound, Persisted, PrimaryTerm, RegionPhase
from regions.replication.source import ReplicationSource
from regions.replication.surplus import SurplusFiles
from regions.shell.machine_runner import MachineRunner

_logger = logging.getLogger(__name__)
#: How long a watermark waits for rows that bring it to the peers along. Alone it costs a question and an answer of each.
WATERMARK_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """``last``: the row up to which the peer has the log of ``epoch``, if it has taken the answer. ``commits``: how many commits
    had been told of when that was the log's end; None if it was not."""

    epoch: int
    last: LogPosition
    commits: int | None


class PeerAnswers:
    """The `ReplicationEnd` that the peers ask. ``transfer`` begins a planned one to the peer that is named. ``zones``: the zone
    of residency that each peer is in; one that is missing is in none."""

    def __init__(
        self,
        runner: MachineRunner,
        database: RegionDatabase,
        source: ReplicationSource,
        surplus: SurplusFiles | None,
        transfer: Callable[[str], None],
        zones: Mapping[str, str],
    ) -> None:
        self._runner = runner
        self._database = database
        self._source = source
        self._surplus = surplus
        self._transfer = transfer
        self._zones = zones
        #: How often a commit was told of.
        self._commits = 0
        #: How many questions wait for a commit.
        self._parked = 0
        #: By peer, the last row that its log shares with this one, since this process knows; while it is copied, from where on it
        #: will take the log.
        self.positions: dict[str, int] = {}
        #: By peer, what it was answered last.
        self._sent: dict[str, _Sent] = {}
        #: What is being read, after which row and commit, in which phase and for which zone of residency. `_read` sets it,
        #: `_read_ended` clears it.
        self._reading: tuple[tuple[LogPosition, int, bool, str | None], asyncio.Future[Batch]] | None = None

    def committed(self) -> bool:
        """Something was committed. Returns whether a peer waits, for whom the log is read now."""
        self._commits += 1
        self._runner.nudge()
        return self._parked > 0

    async def batch(self, peer: str, follower: Follower) -> Batch:
        """Whoever asks confirms; if there is nothing new, it waits for a heartbeat's time.

        Raises: `ReplicationRefused`, `StoreUnavailable`."""
        sent = self._sent.pop(peer, None)
        batch: Batch | None = None
        if sent is None or (sent.epoch, sent.last) != (follower.epoch, follower.position):
            commits = self._commits
            batch = await self._read_batch(peer, follower)
            sent = _sent(batch, commits)
        # Else it has just what it was sent, so its log is this one, and what it confirms need not wait for a read.
        self.positions[peer] = follower.position.seq
        told, seq = self._term(sent.epoch).answered, follower.position.seq
        if follower.epoch == sent.epoch:
            self._runner.take(Persisted(region=peer, epoch=sent.epoch, seq=seq, is_whole=follower.is_whole))
            if batch is None or not batch.rows:
                batch = await self._news(peer, follower, sent, told)
            else:
                self._sent[peer] = sent
        assert batch is not None
        return replace(batch, watermark=self._term(batch.epoch).answered)

    async def _news(self, peer: str, follower: Follower, sent: _Sent, told: int) -> Batch:
        """The next rows as soon as there are any. Without rows after a heartbeat's time, or when there is another watermark and
        rows do not follow soon, which would bring it along."""
        until = self._runner.now() + self._runner.state.timers.heartbeat_s
        commits = sent.commits
        while True:
            if commits == self._commits:
                until = await self._wait_for_commit(sent.epoch, told, until)
            commits = self._commits
            batch = await self._read_batch(peer, follower)
            if batch.rows or batch.epoch != sent.epoch or self._runner.now() >= until:
                self._sent[peer] = _sent(batch, commits)
                return batch

    async def _wait_for_commit(self, epoch: int, told: int, until: float) -> float:
        """Returns until when a peer may be kept waiting: sooner, once there is another watermark."""
        commits, is_moved = self._commits, False
        self._parked += 1
        try:
            while commits == self._commits and self._runner.now() < until:
                if self._term(epoch).answered != told and not is_moved:
                    is_moved, until = True, min(until, self._runner.now() + WATERMARK_S)
                await self._runner.change_within(until - self._runner.now())
        finally:
            self._parked -= 1
        self._term(epoch)
        return until

    async def _read_batch(self, peer: str, follower: Follower) -> Batch:
        try:
            is_draining = self._runner.state.phase is RegionPhase.DRAINING
            batch = await self._read(follower.position, is_draining, self._zones.get(peer))
        except ReplicationRefused as refused:
            if refused.refusal in (Refusal.FORK, Refusal.LOST):
                self._check_outside(peer)
            raise
        term = self._term(batch.epoch)
        if batch.images_at > term.head and not is_draining:
            self._runner.take(Appended(seq=batch.images_at))
        return batch

    async def _read(self, position: LogPosition, is_draining: bool, residency: str | None) -> Batch:
        """Peers of a zone that are equally far read once: all of them were woken by one commit."""
        key = position, self._commits, is_draining, residency
        if self._reading is None or self._reading[0] != key:
            reading = asyncio.ensure_future(self._source.batch(position, residency, is_draining=is_draining))
            self._reading = key, reading
            reading.add_done_callback(self._read_ended)
        return await asyncio.shield(self._reading[1])

    def _read_ended(self, reading: asyncio.Future[Batch]) -> None:
        """Keeps no batch, which may have megabytes. Its error is for those who wait, of whom there may be none any more."""
        if self._reading is not None and self._reading[1] is reading:
            self._reading = None
        if not reading.cancelled():
            reading.exception()

    def _term(self, epoch: int) -> PrimaryTerm:
        """A database that is primary without a term was opened by a process that is no more."""
        term = self._runner.state.term
        if term is None or term.epoch != epoch:
            raise ReplicationRefused(Refusal.NOT_PRIMARY)
        return term

    def _check_outside(self, peer: str) -> None:
        """A region that has to be copied anew leaves the in-sync set first: meanwhile it lacks rows that were answered. Whether
        it is in the set is what the primary says, not what the region has read."""
        term, record = self._runner.state.term, self._runner.state.record
        if term is None or record is None:
            raise ReplicationRefused(Refusal.NOT_PRIMARY)
        if peer in primary.counted(record, term.proposal):
            self._runner.take(ForkFound(region=peer))
            raise ReplicationRefused(Refusal.COUNTED)

    async def tail(self, peer: str) -> CopyBeginning:
        """Raises: `ReplicationRefused`, `StoreUnavailable`."""
        self._check_outside(peer)
        return await self._source.tail()

    async def piece(self, peer: str, progress: CopyProgress) -> CopyPiece:
        """Raises: `ReplicationRefused`, `StoreUnavailable`."""
        self._check_outside(peer)
        piece = await self._source.piece(progress, self._zones.get(peer))
        self.positions[peer] = progress.tail.seq
        return piece

    async def report(self, peer: str) -> PeerReport:
        """Raises: `StoreUnavailable`."""
        return await self._database.report()

    async def sums(self, peer: str, of: LogRange) -> LogSums:
        """Raises: `StoreUnavailable`."""
        count, digest = await self._source.sums(of)
        surplus = 0 if self._surplus is None else len(self._surplus.files())
        return LogSums(count=count, digest=digest, surplus=surplus)

    async def hand_over(self, peer: str) -> None:
        """Raises: `Conflict` if this region is not primary, or the peer cannot take over; `TryLater` if it cannot yet."""
        _logger.warning("region %s asks for the zone", peer)
        self._transfer(peer)


def _sent(batch: Batch, commits: int) -> _Sent:
    return _Sent(epoch=batch.epoch, last=batch.last, commits=commits if batch.is_tail else None)
