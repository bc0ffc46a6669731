"""What this region answers its peers: what follows in the log, a copy, how far it is, and a transfer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

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
from cluster.ports.replication import RegionDatabase
from regions.domain import primary
from regions.domain.leadership import ForkFound, Persisted, PrimaryTerm, RegionPhase
from regions.replication.source import ReplicationSource
from regions.replication.surplus import SurplusFiles
from regions.shell.machine_runner import MachineRunner

_logger = logging.getLogger(__name__)


class PeerAnswers:
    """The `ReplicationEnd` that the peers ask. ``transfer`` begins a planned one to the peer that is named."""

    def __init__(
        self,
        runner: MachineRunner,
        database: RegionDatabase,
        source: ReplicationSource,
        surplus: SurplusFiles | None,
        transfer: Callable[[str], None],
    ) -> None:
        self._runner = runner
        self._database = database
        self._source = source
        self._surplus = surplus
        self._transfer = transfer

    async def batch(self, peer: str, follower: Follower) -> Batch:
        """Whoever asks confirms; if there is nothing new, it waits for a heartbeat's time.

        Raises: `ReplicationRefused`, `StoreUnavailable`."""
        batch = await self._read_batch(peer, follower)
        if follower.epoch == batch.epoch:
            told, seq = self._term(batch.epoch).answered, follower.position.seq
            self._runner.take(Persisted(region=peer, epoch=batch.epoch, seq=seq, is_whole=follower.is_whole))
            if not batch.rows:
                await self._wait_for_news(batch.epoch, seq, told)
                batch = await self._read_batch(peer, follower)
        return replace(batch, watermark=self._term(batch.epoch).answered)

    async def _wait_for_news(self, epoch: int, seq: int, told: int) -> None:
        """Returns at once if there are rows after ``seq``, or another watermark; else after a heartbeat's time."""
        try:
            async with asyncio.timeout(self._runner.state.timers.heartbeat_s):
                while (term := self._term(epoch)).head <= seq and term.answered == told:
                    await self._runner.change()
        except TimeoutError:
            return

    async def _read_batch(self, peer: str, follower: Follower) -> Batch:
        try:
            is_draining = self._runner.state.phase is RegionPhase.DRAINING
            batch = await self._source.batch(follower.position, is_draining=is_draining)
        except ReplicationRefused as refused:
            if refused.refusal in (Refusal.FORK, Refusal.LOST):
                self._check_outside(peer)
            raise
        self._term(batch.epoch)
        return batch

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
        return await self._source.piece(progress)

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
