"""The shell of one region: it carries out what the machine decides, answers the peers, and follows the zone's primary.

It knows neither Ray nor a driver. What a call of the group or of the database brings back is the next event; a call that fails is
none: timers decide.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cluster.domain.base.errors import Conflict, StoreUnavailable, TryLater
from cluster.domain.replication.batch import Refusal
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.clock import Clock
from cluster.ports.consensus_group import ConsensusGroup, GroupMembers
from cluster.ports.replication import LeaderStatus, RegionDatabase, RegionLink, Replica, ReplicationStatuses
from cluster.ports.wake_ups import Doorbell, WakeTopic
from cluster.process.loops import Loops, OnFatal, unwatched
from regions.domain import primary
from regions.domain.leadership import AnswerUpTo, Appended, Leadership, RegionPhase, TransferAsked
from regions.replication.source import ReplicationSource
from regions.replication.surplus import SurplusFiles
from regions.shell.following import Following
from regions.shell.group_access import GroupAccess
from regions.shell.machine_runner import MachineRunner
from regions.shell.serving import PeerAnswers
from regions.shell.store_leader import StoreLeader
from regions.shell.write_gate import WriteGate

#: Between two words of the primary about how far the others are.
CURSORS_S: Final = 30.0
#: What tells of a commit. Its own word to the region's processes tells of none.
_COMMITS = tuple(topic for topic in WakeTopic if topic not in (WakeTopic.REPLICATED, WakeTopic.LED))


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
    zones: Mapping[str, str] = field(default_factory=dict)


class RegionShell:
    """``key`` is the value by which this process holds the campaign key; no two lives of a process have the same. ``peers``: what
    the peers ask."""

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
        self._loops = Loops(on_fatal)
        runner = self._runner = MachineRunner(Leadership(region=region, key=key, timers=timers), self._loops)
        self._group = GroupAccess(runner, zone, parts.group, parts.database, parts.links)
        self._store_leader = StoreLeader(runner, parts.group)
        self._gate = WriteGate(runner, parts.database, parts.replica, parts.clock)
        self._following = Following(runner, self._gate, parts.replica, parts.links, parts.doorbell, parts.surplus)
        self.peers = PeerAnswers(runner, parts.database, parts.source, parts.surplus, self.transfer, parts.zones)
        runner.carry_out({**self._group.carried(), **self._gate.carried(), AnswerUpTo: _answer_up_to})

    @property
    def state(self) -> Leadership:
        return self._runner.state

    @property
    def problem(self) -> Refusal | None:
        """Why this region cannot follow the primary before an operator has done something; None if it can."""
        return self._following.problem

    @property
    def group_members(self) -> GroupMembers | None:
        """Who keeps the group's store, as of the last look; None if that found nobody."""
        return self._store_leader.members

    async def start(self) -> None:
        """Raises: `Conflict` if the region's database keeps another zone; `StoreUnavailable` if it does not answer."""
        await self._gate.close_earlier()
        self._loops.start(self._gate.tick_forever(), self._following.run(), self._watch_commits())
        self._loops.start(self._group.watch(), self._store_leader.run())
        if self._parts.statuses is not None:
            self._loops.start(self._tell_forever(self._parts.statuses), self._tell_cursors(self._parts.statuses))

    async def stop(self) -> None:
        """Ends all work where it is, as a killed process does; the lease ends by itself."""
        await self._loops.stop()

    # --- what the region's own processes ask --------------------------------------------------------------------------

    def why_not_write(self) -> TryLater | None:
        """Why a write is refused before the local commit; None if it is not."""
        return primary.why_not_write(self.state)

    def committed(self, seq: int) -> None:
        """A commit of this region, whose last row is ``seq``. Others are found by the doorbell, or at the next heartbeat."""
        self._runner.take(Appended(seq=seq))

    async def replicated(self, epoch: int, seq: int, timeout_s: float) -> None:
        """Returns when whatever rests on rows of this epoch up to ``seq`` may leave the region.

        Raises: `TryLater` if that is not known in time: the write may be there or not, and the caller's key decides."""
        try:
            async with asyncio.timeout(timeout_s):
                while (term := self.state.term) is not None and term.epoch == epoch:
                    if term.answered >= seq:
                        return
                    await self._runner.change()
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
        if self.state.phase is not RegionPhase.PRIMARY:
            raise Conflict("This region is not the zone's primary; give the command at the primary.", "not_primary")
        self._runner.take(TransferAsked(heir=heir))

    def follow(self, follows: bool) -> None:
        """Whether this region takes what the primary sends. One that does not is late, and so leaves the in-sync set."""
        self._following.takes_part = follows

    async def until(self, condition: Callable[[Leadership], bool], timeout_s: float) -> bool:
        """Waits until the condition holds; False after the time-out."""
        return await self._runner.until(condition, timeout_s)

    # --- what the region's processes tell, and are told ---------------------------------------------------------------

    async def _watch_commits(self) -> None:
        while True:
            await self._parts.doorbell.wait(self.state.timers.heartbeat_s, _COMMITS)
            if self.state.phase is RegionPhase.PRIMARY and not self.peers.committed():
                try:
                    self.committed((await self._parts.database.report()).position.seq)
                except StoreUnavailable:
                    await self._parts.clock.sleep(self.state.timers.heartbeat_s)

    async def _tell_forever(self, statuses: ReplicationStatuses) -> None:
        """Tells what is new at once, and all of it at each heartbeat: what was told may be lost."""
        told, told_at = None, float("-inf")
        heartbeat_s = self.state.timers.heartbeat_s
        while True:
            news = self._told()
            if news == told and self._runner.now() < told_at + heartbeat_s:
                await self._runner.change_within(told_at + heartbeat_s - self._runner.now())
                continue
            try:
                await statuses.tell(news, self._silent_s())
            except StoreUnavailable:
                await self._parts.clock.sleep(heartbeat_s)
                continue
            if told is None or news != replace(told, watermark=news.watermark):
                await self._parts.doorbell.notify(WakeTopic.REPLICATED, WakeTopic.LED)
            elif news != told:
                await self._parts.doorbell.notify(WakeTopic.REPLICATED)
            told, told_at = news, self._runner.now()

    async def _tell_cursors(self, statuses: ReplicationStatuses) -> None:
        """While this region is primary: for which rows of the log the others may still ask. At once after an election and when a
        region comes to be known, and then now and then: whoever keeps the log for them looks a few times in an hour, and an
        older word keeps more."""
        told: _Cursors | None = None
        told_at = float("-inf")
        while True:
            news = self._cursors()
            if news is not None and news != told:
                is_due = told is None or told.known != news.known or self._runner.now() >= told_at + CURSORS_S
                if is_due:
                    with contextlib.suppress(StoreUnavailable):  # told at the next look
                        await statuses.tell_cursors(news.epoch, news.cursors)
                        told, told_at = news, self._runner.now()
            await self._parts.clock.sleep(self.state.timers.heartbeat_s)

    def _cursors(self) -> _Cursors | None:
        """None while this region is not primary."""
        state = self.state
        if state.phase is not RegionPhase.PRIMARY or state.term is None or state.group is None:
            return None
        found = {**self.peers.positions, state.region: state.term.head}
        return _Cursors(state.term.epoch, {region: found.get(region) for region in state.group.data_regions()})

    def _told(self) -> LeaderStatus:
        state, refused = self.state, self.why_not_write()
        term, record = state.term, state.record
        return LeaderStatus(
            epoch=state.heard_epoch if term is None else term.epoch,
            watermark=state.watermark if term is None else term.answered,
            primary=None if record is None else record.primary,
            refusal=None if refused is None else refused.code,
        )

    def _silent_s(self) -> float | None:
        """For how long nothing was heard of the primary; None if nothing ever was."""
        if self.state.phase is RegionPhase.PRIMARY:
            return 0.0
        heard_at = self.state.heard_at
        return None if heard_at == float("-inf") else self._runner.now() - heard_at


@dataclass(frozen=True, slots=True)
class _Cursors:
    """Each data region with its last row, None if that is not known."""

    epoch: int
    cursors: Mapping[str, int | None]

    @property
    def known(self) -> tuple[int, frozenset[str], frozenset[str]]:
        """What of it is told at once if it changes."""
        known = frozenset(region for region, seq in self.cursors.items() if seq is not None)
        return self.epoch, frozenset(self.cursors), known


async def _answer_up_to(effect: AnswerUpTo) -> None:
    """Who waits looks at the term itself."""
