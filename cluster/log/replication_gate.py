"""Nothing leaves one region of several before it is replicated: answers, frames of streams and calls to agents wait here.

Who lets something out does not say which rows it rests on. It has seen none that was committed after the moment in which it
asks, so it waits until the region's whole log of that moment is replicated. The alternative, a number that every commit, memory
and read hands on to its answer, would have to be right in each of some hundred places; this is right in one, and costs a wait
for a few rows that others have committed meanwhile. Commits themselves wait for nothing.

A region alone has no gate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cluster.domain.base.errors import StoreUnavailable, TryLater
from cluster.domain.residency import AwayRegion, away_region
from cluster.ports.clock import Clock
from cluster.ports.replication import ReplicationStatus, ReplicationStatuses
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops, OnFatal, unwatched
from cluster.process.waits import AWAY_S

_logger = logging.getLogger(__name__)
#: While somebody waits, the database is asked so often, in case the doorbell is lost.
POLL_S = 0.1
PRIMARY = "primary"
#: The code of what the zone's primary alone can do.
NOT_PRIMARY = "not_primary"


class LogReplaced(Exception):
    """The region is copied anew, so what this process remembers may be of rows that no region has."""


@dataclass(slots=True)
class _Barrier:
    """Whoever asks between two reads of the status waits for the same row. ``seq``: None until a read that began later.
    ``asking``: how many wait for it."""

    asking: int = 0
    seq: int | None = None
    passed: asyncio.Event = field(default_factory=asyncio.Event)


class ReplicationGate:
    """``stale_s``: a secondary that has heard nothing of its primary for longer answers no reads. ``urls``: where the API of each
    region is, by name. ``on_epoch`` is told each epoch under which this region writes."""

    def __init__(
        self,
        statuses: ReplicationStatuses,
        doorbell: Doorbell,
        clock: Clock,
        *,
        heartbeat_s: float,
        stale_s: float,
        urls: Mapping[str, str],
        on_epoch: Callable[[int], None] | None = None,
        on_fatal: OnFatal = unwatched,
    ) -> None:
        self._statuses = statuses
        self._doorbell = doorbell
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._stale_s = stale_s
        self._urls = urls
        self._on_epoch = on_epoch
        self._loops = Loops(on_fatal)
        self._status = ReplicationStatus()
        self._read_at = float("-inf")
        #: What is true of all that this process remembers: how many copies had begun, and whether the last had ended.
        self._remembers: tuple[int, bool] | None = None
        #: The barrier of those who ask before the next read begins, and those that are read and not passed.
        self._asking = _Barrier()
        self._waiting: list[_Barrier] = []
        #: Set by who asks and by the doorbell: the status is read at once.
        self._wake = asyncio.Event()
        #: Set and replaced whenever role, epoch or primary have changed.
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Reads the status, before anything else of the region is read.

        Raises: `StoreUnavailable`."""
        self._take(await self._statuses.read())
        self._loops.start(
            self._read_forever(),
            self._listen(WakeTopic.LED, lambda: True),
            # At each commit; most processes have let nothing out that rests on it.
            self._listen(WakeTopic.REPLICATED, lambda: bool(self._waiting)),
        )

    async def stop(self) -> None:
        """Ends the loops; who waits gets no answer."""
        await self._loops.stop()

    # --- what may leave -----------------------------------------------------------------------------------------------

    async def passed(self, within_s: float | None = AWAY_S) -> None:
        """Returns when all that this process can have seen up to now is replicated. ``within_s``: None waits for as long as it
        takes.

        Raises: `TryLater` (``not_replicated``) if that is not known in time."""
        barrier = self._asking
        barrier.asking += 1
        self._wake.set()
        try:
            async with asyncio.timeout(within_s):
                await barrier.passed.wait()
        except TimeoutError:
            raise TryLater(
                "What this answer rests on is not replicated yet, so the outcome of a write is not known; repeat the call with "
                "the same idempotency key.",
                "not_replicated",
            ) from None
        finally:
            barrier.asking -= 1

    def why_not_write(self) -> TryLater | None:
        """Why a write is refused before it is committed; None if it is not. The commit itself is checked by the database."""
        told = self._status.told
        if not self.is_primary or told is None or told.refusal == NOT_PRIMARY:
            return self.not_primary()
        if told.refusal is not None:
            return TryLater(
                "No other region holds the acknowledged rows now, so a write could be lost; try again when a region is back, or "
                "let an operator set the replication mode to async.",
                told.refusal,
            )
        return None

    def why_not_read(self) -> TryLater | None:
        """Why a read is not answered here; None if it is."""
        if not self._status.whole:
            return TryLater(
                f"This region is being copied, so it cannot answer yet; {self._where()}.", "copy_incomplete"
            )
        staleness_s = self.staleness_s()
        if not self.is_primary and (staleness_s is None or staleness_s > self._stale_s):
            return TryLater(
                f"This region has not heard of its primary for too long to answer reads; {self._where()}.",
                "stale_region",
            )
        return None

    def not_primary(self) -> TryLater:
        """The error of what the primary alone can do."""
        return TryLater(f"This region does not write for the zone now; {self._where()}.", NOT_PRIMARY)

    def _where(self) -> str:
        primary, url = self.primary
        if primary is None:
            return "try again in a moment"
        return f"ask its primary, {primary}{'' if url is None else f' at {url}'}, or try again in a moment"

    @property
    def is_primary(self) -> bool:
        """Whether this region writes for the zone, as the database said last."""
        return self._status.role == PRIMARY

    @property
    def is_copied(self) -> bool:
        """Whether a full copy of this region is under way, so that a part of the tables is there."""
        return not self._status.whole

    @property
    def writes_under(self) -> int | None:
        """The epoch under which this region writes, as the database said last; None if it does not."""
        return self._status.epoch if self.is_primary else None

    @property
    def primary(self) -> tuple[str | None, str | None]:
        """The zone's primary, and where its API is; None for what is not known."""
        name = _named(self._status)
        return name, None if name is None else self._urls.get(name)

    async def names_another(self, primary: str) -> None:
        """Returns when the zone's primary is another region, or is not known."""
        while self.primary[0] == primary:
            await self._changed.wait()

    def staleness_s(self) -> float | None:
        """How long ago this region last heard of its primary; None if it never has."""
        silent_s = self._status.silent_s
        return None if silent_s is None else silent_s + self._clock.now() - self._read_at

    def away(self) -> AwayRegion | None:
        """The region that gives out tasks, if this one follows it and does not hear it."""
        return None if self.is_primary else away_region(self.primary[0], self.staleness_s(), self._heartbeat_s)

    # --- who runs only at the primary ---------------------------------------------------------------------------------

    async def becomes_primary(self) -> int:
        """Returns the epoch as soon as this region writes for the zone."""
        while not self.is_primary:
            await self._changed.wait()
        return self._status.epoch

    async def ceases(self, epoch: int) -> None:
        """Returns when this region does not write under the epoch any more."""
        while self.is_primary and self._status.epoch == epoch:
            await self._changed.wait()

    # --- loops --------------------------------------------------------------------------------------------------------

    async def _listen(self, topic: WakeTopic, concerns: Callable[[], bool]) -> None:
        while True:
            if await self._doorbell.wait(self._heartbeat_s, (topic,)) and concerns():
                self._wake.set()

    async def _read_forever(self) -> None:
        while True:
            await self._woken(POLL_S if self._waiting else self._heartbeat_s)
            # Whoever asks from now on may have seen rows that this read does not show.
            if self._asking.asking:
                self._waiting.append(self._asking)
                self._asking = _Barrier()
            try:
                self._take(await self._statuses.read())
            except StoreUnavailable as error:
                _logger.warning("this region's status cannot be read, will try again: %s", error)
                await self._clock.sleep(POLL_S)
                continue
            if self._waiting:
                await self._doorbell.notify(WakeTopic.COMMITTED)

    async def _woken(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    def _take(self, status: ReplicationStatus) -> None:
        before, self._status, self._read_at = self._status, status, self._clock.now()
        state = status.copies, status.whole
        self._remembers = self._remembers or state
        if state != self._remembers:
            raise LogReplaced("This region is copied anew; the process ends and reads its state again.")
        is_epoch_new = (before.role, before.epoch) != (status.role, status.epoch)
        if is_epoch_new and self.is_primary and self._on_epoch is not None:
            self._on_epoch(status.epoch)
        if is_epoch_new or _named(before) != _named(status):
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        for barrier in self._waiting:
            if barrier.seq is None:
                barrier.seq = status.head
            if status.is_replicated(barrier.seq):
                barrier.passed.set()
        self._waiting = [barrier for barrier in self._waiting if barrier.asking and not barrier.passed.is_set()]


def _named(status: ReplicationStatus) -> str | None:
    return None if status.told is None else status.told.primary
