"""One region of the simulation in one zone: its leader (the machine, and the shell that carries its effects out), its writer, its
receiver. Each can be paused by itself, as SIGSTOP does: what is due meanwhile happens when it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from cluster.domain.base.errors import Conflict, TryLater
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.consensus_group import GroupView, KeyCompare, KeyPut
from regions.domain import primary, rejoin, secondary
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
    MoveTrust,
    OpenWrites,
    Persisted,
    PrimaryHeard,
    ProposalAnswered,
    Propose,
    ReadGroup,
    RegionPhase,
    ReleaseKey,
    RememberVersion,
    Renewed,
    RenewLease,
    ReportReceived,
    Tick,
    WritesClosed,
    WritesOpened,
)
from regions.domain.machine import TRANSITIONS, step
from tests.regions.simulation.checker import Checker
from tests.regions.simulation.database import CommitRefused, Database, RegionRole, StoredRow
from tests.regions.simulation.network import GROUP, Network, Schedule
from tests.regions.simulation.store import MemoryGroup

#: Few, so that images are often later than the rows of a batch.
MOST_ROWS = 6
GROUP_TIMEOUT_S = 0.6


@dataclass(slots=True)
class World:
    """What the regions of one zone share. Of all zones are schedule, network, random numbers and the group's store."""

    #: Names the zone's keys of the group.
    zone: ZoneRecord
    schedule: Schedule
    network: Network
    random: Random
    store: MemoryGroup
    checker: Checker
    timers: RegionTimers
    regions: dict[str, SimulatedRegion] = field(default_factory=dict)
    #: What a fault may be aimed at: called with the region that proposes a change of the set, or that begins to be rebuilt.
    on_proposal: Callable[[SimulatedRegion], None] = lambda region: None
    on_rebuild: Callable[[SimulatedRegion], None] = lambda region: None

    def tell_watches(self) -> None:
        view = GroupView(entries=dict(self.store.entries), revision=self.store.revision)
        for region in self.regions.values():
            if not self.store.down and region.watches:
                region.watch_brings(view)


@dataclass(slots=True)
class Batch:
    """What a primary sends: rows after ``after``, its history, and what is replicated everywhere."""

    sender: str
    epoch: int
    history: rejoin.LogHistory
    after: int
    rows: list[StoredRow]
    images_at: int
    watermark: int
    in_sync: bool


class SimulatedRegion:
    def __init__(self, world: World, database: Database) -> None:
        self.name = database.region
        self.world = world
        self.db = database
        self.life = 0
        self.up = False
        #: Whether its watch of the group brings anything: one that hangs says nothing.
        self.watches = world.random.random() < 0.8
        self.paused_until = {"leader": 0.0, "writer": 0.0, "receiver": 0.0}
        self.start()

    # --- lives and pauses ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.life += 1
        self.up = True
        self.lease: str | None = None
        key = f"{self.name}/{self.life}"
        self.state = Leadership(region=self.name, key=key, timers=self.world.timers, own=self.db.report())
        self.writer_epoch: int | None = None
        self.waiting: list[tuple[int, Callable[[], None]]] = []
        self.acked: dict[str, int] = {}
        self.rejoining = rejoin.Rejoining()
        if self.db.copying:  # the database remembers that a copy has not ended
            self.db.empty()
            self.rejoining = rejoin.Rejoining(phase=rejoin.RejoinPhase.REBUILDING)
            self.due("receiver", self._rebuilt, 0.3)
        self._tick()

    def crash(self) -> None:
        self.life += 1
        self.up = False

    def due(self, component: str, call: Callable[[], None], delay_s: float = 0.0) -> None:
        """Runs ``call`` in a component, later if it is paused, and not at all if the region has died meanwhile."""
        life = self.life

        def run() -> None:
            if self.life != life:
                return
            left_s = self.paused_until[component] - self.world.schedule.now
            if left_s > 0:
                self.world.schedule.after(left_s, run)
            else:
                call()

        if delay_s == 0.0 and self.paused_until[component] <= self.world.schedule.now:
            run()
        else:
            self.world.schedule.after(delay_s, run)

    def _tick(self) -> None:
        self.take(Tick(own=self.db.report()))
        self.send_rows()
        self.due("leader", self._tick, self.world.timers.heartbeat_s * (0.9 + 0.2 * self.world.random.random()))

    # --- the machine --------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        before = self.state.phase
        self.state, effects = step(self.state, event, self.world.schedule.now)
        assert self.state.phase in TRANSITIONS[before, type(event)].to, (before, event, self.state.phase)
        for effect in effects:
            # Between a decision and its effect a process may stand still.
            self.due("leader", lambda effect=effect: self.carry_out(effect), 0.0005)  # type: ignore[misc]

    def carry_out(self, effect: Effect) -> None:
        _EFFECTS[type(effect)](self, effect)

    def call_group(self, ask: Callable[[MemoryGroup, float], Any], answer: Callable[[Any], None]) -> None:
        """``answer`` gets None if none came in time; the call may still happen after that."""
        answered = False

        def once(value: Any) -> None:
            nonlocal answered
            if not answered:
                answered = True
                answer(value)

        def arrive() -> None:
            if self.world.store.down:
                return
            value = ask(self.world.store, self.world.schedule.now)
            self.world.network.send(GROUP, self.name, lambda: self.due("leader", lambda: once(value)))

        self.world.network.send(self.name, GROUP, arrive)
        self.due("leader", lambda: once(None), GROUP_TIMEOUT_S)

    def read_group(self, effect: ReadGroup) -> None:
        def answer(view: GroupView | None) -> None:
            if view is not None:
                self.sees(view)

        self.call_group(lambda store, now: store.read("", now), answer)

    def watch_brings(self, view: GroupView) -> None:
        """What the group's watch says after a change, if it gets there."""
        if self.up:
            self.world.network.send(GROUP, self.name, lambda: self.due("leader", lambda: self.sees(view)))

    def sees(self, view: GroupView) -> None:
        members, record = view.value(MEMBERS_KEY), view.value(self.world.zone.key)
        assert members is not None
        assert record is not None
        group = RegionGroup.decode(members)
        self.take(
            GroupSeen(group=group, record=ZoneRecord.decode(record), holder=view.value(self.world.zone.leader_key))
        )

    def ask_reports(self, effect: AskReports) -> None:
        for peer in self.world.regions.values():
            if peer is self:
                continue

            def report(peer: SimulatedRegion = peer) -> None:
                def send() -> None:
                    found = peer.db.report() if peer.up else None  # the host of a process that has died refuses
                    event = ReportReceived(region=peer.name, report=found)
                    self.world.network.send(peer.name, self.name, lambda: self.due("leader", lambda: self.take(event)))

                if peer.up:
                    peer.due("receiver", send)
                else:
                    send()

            self.world.network.send(self.name, peer.name, report)
        self.take(ReportReceived(region=self.name, report=self.db.report()))

    def create_key(self, effect: CreateKey) -> None:
        started = self.db.clock(self.world.schedule.now)
        key = self.state.key

        def ask(store: MemoryGroup, now: float) -> Any:
            lease = store.grant(self.world.timers.election_s, now)
            put = KeyPut(key=self.world.zone.leader_key, value=key, lease=lease.id)
            won = store.swap([KeyCompare(key=self.world.zone.leader_key, value=None)], [put], (), now)
            if not won:
                store.revoke(lease.id)
            return lease, won

        def answer(value: Any) -> None:
            won = value is not None and value[1]
            if won:
                self.lease = value[0].id
            self.take(CampaignAnswered(started=started, ttl_s=value[0].ttl_s if won else None))

        self.call_group(ask, answer)

    def propose(self, effect: Propose) -> None:
        compares = [KeyCompare(key=self.world.zone.key, value=effect.compared.encode())]
        if effect.with_key:
            compares.append(KeyCompare(key=self.world.zone.leader_key, value=self.state.key))
        puts = [KeyPut(key=self.world.zone.key, value=effect.after.encode())]
        deletes = [self.world.zone.leader_key] if effect.delete_key else []

        def ask(store: MemoryGroup, now: float) -> bool:
            succeeded = store.swap(compares, puts, deletes, now)
            if succeeded:
                self.world.checker.swapped(effect.compared, effect.after, operator=False)
            return succeeded

        self.call_group(ask, lambda succeeded: self.take(ProposalAnswered(after=effect.after, succeeded=succeeded)))
        if self.state.term is not None:
            self.world.on_proposal(self)

    def release_key(self, effect: ReleaseKey) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            self.call_group(lambda store, now: store.revoke(lease), lambda _: None)

    def open_writes(self, effect: OpenWrites) -> None:
        is_whole = self.db.is_whole
        try:
            head = self.db.open(effect.epoch, effect.trusted_until, self.world.schedule.now)
        except CommitRefused:
            self.take(DatabaseRefused())
            return
        self.world.checker.has_opened(self.db, is_whole)
        self.acked = {}
        self.take(WritesOpened(epoch=effect.epoch, head=head))

    def close_writes(self, effect: CloseWrites) -> None:
        head = self.db.close()
        self.writer_epoch = None
        self.take(WritesClosed(head=head))
        if self.state.phase is not RegionPhase.DRAINING:
            self.waiting = []

    def renew(self, effect: RenewLease) -> None:
        started = self.db.clock(self.world.schedule.now)
        lease = self.lease
        if lease is None:
            self.take(Renewed(sent_at=effect.sent_at, started=started, ttl_s=None))
            return

        def answer(value: Any) -> None:
            if value is not None:
                self.take(Renewed(sent_at=effect.sent_at, started=started, ttl_s=value[0]))

        self.call_group(lambda store, now: (store.renew(lease, now),), answer)

    def move_trust(self, effect: MoveTrust) -> None:
        self.db.move_trust(effect.epoch, effect.trusted_until)

    def answer_up_to(self, effect: AnswerUpTo) -> None:
        ready = [answer for seq, answer in self.waiting if seq <= effect.seq]
        self.waiting = [entry for entry in self.waiting if entry[0] > effect.seq]
        for answer in ready:
            answer()

    def remember_version(self, effect: RememberVersion) -> None:
        self.db.version = max(self.db.version, effect.version)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def send_rows(self) -> None:
        state = self.state
        if state.term is None or state.record is None or state.group is None:
            return
        members = primary.counted(state.record, state.term.proposal)
        for peer in state.group.data_regions():
            if peer == self.name:
                continue
            after = min(self.acked.get(peer, max(0, len(self.db.rows) - 5)), len(self.db.rows))
            batch = Batch(
                sender=self.name,
                epoch=state.term.epoch,
                history=self.db.history,
                after=after,
                rows=self.db.rows[after : after + MOST_ROWS],
                images_at=len(self.db.rows),
                watermark=state.term.answered,
                in_sync=peer in members,
            )
            target = self.world.regions[peer]
            self.world.network.send(self.name, peer, lambda t=target, b=batch: t.receive(b))  # type: ignore[misc]

    def receive(self, batch: Batch) -> None:
        if self.up:
            self.due("receiver", lambda: self._receive(batch))

    def reply(self, call: Callable[[], None]) -> None:
        if self.up:
            self.due("leader", call)

    def _receive(self, batch: Batch) -> None:
        sender = self.world.regions[batch.sender]
        if secondary.leader_of(self.state) != batch.sender:
            return
        if not self.db.follows(batch.epoch):
            self._tell(sender, DatabaseRefused(), only_epoch=batch.epoch)
            return
        compared = rejoin.HistoriesCompared(
            mine=self.db.history, theirs=batch.history, epoch=batch.epoch, in_sync=batch.in_sync
        )
        self._rejoin(compared, sender)
        if self.rejoining.phase is not rejoin.RejoinPhase.STREAMING:
            return
        self.db.apply(batch.after, batch.rows, batch.images_at)
        have, is_whole = len(self.db.rows), self.db.is_whole
        self.due("leader", lambda: self.take(PrimaryHeard(epoch=batch.epoch, watermark=batch.watermark)))

        def confirm() -> None:
            if sender.state.term is not None and sender.state.term.epoch == batch.epoch:
                behind = have < len(sender.db.rows) and sender.acked.get(self.name) != have
                sender.acked[self.name] = have
                sender.take(Persisted(region=self.name, epoch=batch.epoch, seq=have, is_whole=is_whole))
                if behind:
                    sender.send_rows()

        self.world.network.send(self.name, sender.name, lambda: sender.reply(confirm))

    def _tell(self, sender: SimulatedRegion, event: Event, *, only_epoch: int) -> None:
        def tell() -> None:
            if sender.state.term is not None and sender.state.term.epoch == only_epoch:
                sender.take(event)

        self.world.network.send(self.name, sender.name, lambda: sender.reply(tell))

    def _rejoin(self, event: rejoin.RejoinEvent, sender: SimulatedRegion) -> None:
        self.rejoining, effects = rejoin.step(self.rejoining, event)
        for effect in effects:
            if isinstance(effect, rejoin.AskToLeave):
                self._tell(sender, ForkFound(region=self.name), only_epoch=self.db.epoch)
            elif isinstance(effect, rejoin.SaveSurplus):
                self.db.surplus += self.db.rows[effect.after :]
                self.due("receiver", lambda: self._rejoin(rejoin.SurplusSaved(), sender), 0.01)
            else:
                self.db.empty()  # the worst rebuild: until the snapshot is there, it holds nothing
                duration_s = 0.05 + 2 * self.world.random.random() ** 2
                part = sender.db.rows[: self.world.random.randint(0, len(sender.db.rows))]
                self.due("receiver", partial(self.db.copy_rows, part), duration_s / 2)
                self.due("receiver", self._rebuilt, duration_s)
                self.world.on_rebuild(sender)

    def _rebuilt(self) -> None:
        if self.db.copying:
            self.db.empty()
            self.db.copying = False
            self.rejoining, _ = rejoin.step(self.rejoining, rejoin.Rebuilt())

    # --- requests -----------------------------------------------------------------------------------------------------

    def write(self, row_id: str, answer: Callable[[], None]) -> None:
        """A client's write. ``answer`` is called when the acknowledgement leaves the region."""
        if self.up:
            self.due("writer", lambda: self._write(row_id, answer))

    def _write(self, row_id: str, answer: Callable[[], None]) -> None:
        if self.writer_epoch is None and self.state.term is not None and self.state.phase is RegionPhase.PRIMARY:
            self.writer_epoch = self.state.term.epoch  # the leader says what the region is now
        if self.writer_epoch is None or primary.why_not_write(self.state) is not None:
            self.world.checker.refused += 1
            return
        epoch = self.writer_epoch
        # The writer may stand still between its decision and its commit.
        self.due("writer", lambda: self._commit(epoch, row_id, answer), 0.001)

    def _commit(self, epoch: int, row_id: str, answer: Callable[[], None]) -> None:
        try:
            seq = self.db.commit(epoch, row_id, self.world.schedule.now)
        except CommitRefused:
            self.writer_epoch = None
            self.world.checker.refused += 1
            return
        self.world.checker.committed(self.db, epoch)

        def acknowledge() -> None:
            self.world.checker.has_answered(row_id, seq)
            if self.state.term is not None and self.state.record is not None:
                members = primary.counted(self.state.record, self.state.term.proposal)
                copies = {name: self.world.regions[name].db.whole_at for name in members}
                self.world.checker.rests_on(row_id, seq, self.name, copies)
            answer()

        self.waiting.append((seq, acknowledge))
        self.due("leader", lambda: self._appended(epoch, seq), 0.0005)

    def _appended(self, epoch: int, seq: int) -> None:
        if self.state.term is not None and self.state.term.epoch == epoch:
            self.take(Appended(seq=seq))
            self.send_rows()

    def read(self) -> None:
        """A client's read: at the primary when what it saw is replicated, elsewhere only if all of it is."""
        if not self.up:
            return
        if not self.db.rows:
            return
        head, (_, row_id), term = len(self.db.rows), self.db.rows[-1], self.state.term
        if term is None:
            if secondary.why_not_read(self.state, head, self.world.schedule.now) is None:
                self.world.checker.has_shown(head, row_id)
        elif self.db.role is not RegionRole.PRIMARY or self.db.epoch != term.epoch:
            self.world.checker.refused += 1  # a read states the epoch too: a leader that stood still knows another log
        elif head <= term.answered:
            self.world.checker.has_shown(head, row_id)
        else:
            self.waiting.append((head, lambda: self.world.checker.has_shown(head, row_id)))

    def transfer(self, event: Any) -> None:
        try:
            self.take(event)
        except (Conflict, TryLater):
            self.world.checker.refused += 1


_EFFECTS: dict[type[Effect], Callable[[SimulatedRegion, Any], None]] = {
    ReadGroup: SimulatedRegion.read_group,
    AskReports: SimulatedRegion.ask_reports,
    CreateKey: SimulatedRegion.create_key,
    Propose: SimulatedRegion.propose,
    ReleaseKey: SimulatedRegion.release_key,
    OpenWrites: SimulatedRegion.open_writes,
    CloseWrites: SimulatedRegion.close_writes,
    RenewLease: SimulatedRegion.renew,
    MoveTrust: SimulatedRegion.move_trust,
    AnswerUpTo: SimulatedRegion.answer_up_to,
    RememberVersion: SimulatedRegion.remember_version,
}
