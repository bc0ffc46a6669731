"""Schedules from seeds: a group of regions, clients, faults, and a time of healing after which writes must be acknowledged again.

.venv/bin/python -m tests.regions.simulation.run --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cluster.domain.replication.quorum import ReplicationMode
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.consensus_group import KeyPut
from regions.domain.group import MEMBERS_KEY, RegionGroup, RegionMember, ZoneRecord, founded
from regions.domain.leadership import LogPosition, RegionReport, TransferAsked
from regions.domain.transactions import AcceptLoss, MarkRestored, SetMode, ZoneChange, changed
from tests.regions.simulation.checker import Breach, Checker
from tests.regions.simulation.database import Database
from tests.regions.simulation.mutants import MUTANTS, RARE
from tests.regions.simulation.network import GROUP, Network, Schedule
from tests.regions.simulation.region import ZONE, SimulatedRegion, World
from tests.regions.simulation.store import MemoryGroup

TIMERS = RegionTimers(heartbeat_s=0.4, election_s=2.0, stale_s=6.0, sync_s=1.0, margin_s=0.2)
FAULTS_UNTIL_S = 12.0
#: After the faults: two leases, elections, a rebuild, and the way back into the set.
HEALED_WITHIN_S = 25.0
NAMES = ("east", "north", "west")


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    events: int
    answered: int
    reads: int
    elections: int


def build(random: Random) -> World:
    """Three data regions, or two and a witness, which is a member of the store and no region here."""
    schedule = Schedule()
    network = Network(schedule, random)
    store = MemoryGroup(late_s=0.5 * random.random())
    world = World(schedule=schedule, network=network, random=random, store=store, checker=Checker(), timers=TIMERS)
    names = NAMES if random.random() < 0.75 else NAMES[:2]
    members = tuple(RegionMember(region=name, data=name in names) for name in NAMES)
    record = founded(ZONE.zone, names[0], names, ReplicationMode.SYNC)
    puts = [
        KeyPut(key=MEMBERS_KEY, value=RegionGroup(members=members).encode()),
        KeyPut(key=ZONE.key, value=record.encode()),
    ]
    store.swap([], puts, (), 0.0)
    for name in names:
        # Over an election's time two clocks differ by less than the margin.
        database = Database(region=name, rate=1 + 0.02 * (random.random() - 0.5), offset_s=100 * random.random())
        world.regions[name] = SimulatedRegion(world, database)
    store.on_change = world.tell_watches
    return world


class Clients:
    """Write and read at random regions, until the schedule ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = 0
        self.acknowledged_at = 0.0
        self._write()
        self._read()

    def _region(self) -> SimulatedRegion:
        writing = [region for region in self._world.regions.values() if region.state.term is not None]
        random = self._world.random
        return random.choice(writing if writing and random.random() < 0.8 else list(self._world.regions.values()))

    def _write(self) -> None:
        self._number += 1
        self._region().write(f"row-{self._number}", self._acknowledged)
        self._world.schedule.after(0.02 + 0.25 * self._world.random.random(), self._write)

    def _acknowledged(self) -> None:
        self.acknowledged_at = self._world.schedule.now

    def _read(self) -> None:
        self._region().read()
        self._world.schedule.after(0.05 + 0.3 * self._world.random.random(), self._read)


class Faults:
    """One fault after the other, some at once; each ends by itself or by ``heal``. ``only``: names of the kinds that happen, and
    faults are aimed at every chance; empty for all kinds."""

    def __init__(self, world: World, only: tuple[str, ...] = ()) -> None:
        self._world = world
        self._snapshot: MemoryGroup | None = None
        self._kinds: list[Callable[[], None]] = [
            *(self.crash, self.crash, self.pause, self.pause, self.pause_host),
            *(self.isolate, self.cut, self.one_way, self.lossy, self.slow),
            *(self.drop_lease, self.change_store_leader, self.stop_store, self.transfer),
        ]
        self._aim = world.random.choice([0.0, 0.0, 0.5])
        world.on_proposal, world.on_rebuild = self.deafen, self.crash_sender
        if only:
            self._kinds, self._aim = [getattr(self, name) for name in only], 0.8
        elif world.random.random() < 0.1:
            self._kinds += [self.restore, self.set_async, self.accept_loss]

    def next(self) -> None:
        if self._world.schedule.now < FAULTS_UNTIL_S:
            self._world.random.choice(self._kinds)()
            self._world.schedule.after(0.1 + 2.5 * self._world.random.random(), self.next)

    def _any(self) -> SimulatedRegion:
        regions = list(self._world.regions.values())
        leading = [region for region in regions if region.state.term is not None]
        return self._world.random.choice(leading if leading and self._world.random.random() < 0.5 else regions)

    def _duration(self) -> float:
        return 0.2 + 3 * TIMERS.election_s * self._world.random.random() ** 2

    def crash(self) -> None:
        region = self._any()
        if region.up:
            region.crash()
            self._world.schedule.after(self._duration(), lambda: None if region.up else region.start())

    def pause(self) -> None:
        component = self._world.random.choice(["leader", "writer", "receiver"])
        self._any().paused_until[component] = self._world.schedule.now + self._duration()

    def pause_host(self) -> None:
        region, until = self._any(), self._world.schedule.now + self._duration()
        region.paused_until = dict.fromkeys(region.paused_until, until)

    def _cut(self, pairs: set[tuple[str, str]]) -> None:
        self._world.network.cuts |= pairs
        self._world.schedule.after(self._duration(), lambda: self._world.network.cuts.difference_update(pairs))

    def isolate(self) -> None:
        name = self._any().name
        others = [*self._world.regions, GROUP]
        self._cut({(name, other) for other in others} | {(other, name) for other in others})

    def cut(self) -> None:
        sender, receiver = self._world.random.sample([*self._world.regions, GROUP], 2)
        self._cut({(sender, receiver), (receiver, sender)})

    def one_way(self) -> None:
        sender, receiver = self._world.random.sample([*self._world.regions, GROUP], 2)
        self._cut({(sender, receiver)})

    def deafen(self, region: SimulatedRegion) -> None:
        """The primary does not hear how its change of the set ended, and loses a member."""
        if self._world.schedule.now < FAULTS_UNTIL_S and self._world.random.random() < self._aim:
            other = self._world.random.choice([name for name in self._world.regions if name != region.name])
            self._cut({(GROUP, region.name), (region.name, other), (other, region.name)})

    def crash_sender(self, region: SimulatedRegion) -> None:
        if region.up and self._world.schedule.now < FAULTS_UNTIL_S and self._world.random.random() < self._aim:
            region.crash()
            self._world.schedule.after(2 * self._duration(), lambda: None if region.up else region.start())

    def lossy(self) -> None:
        self._world.network.loss = 0.4 * self._world.random.random()

    def slow(self) -> None:
        self._world.network.slow = 0.5 * self._world.random.random()

    def drop_lease(self) -> None:
        """etcd 3.4: a lease is revoked although it is renewed."""
        for lease in list(self._world.store.leases):
            self._world.checker.keys_dropped = True
            self._world.store.revoke(lease)

    def change_store_leader(self) -> None:
        self._world.store.change_leader(self._world.schedule.now)

    def stop_store(self) -> None:
        self._world.group_down = True
        self._world.schedule.after(self._duration(), self._start_store)

    def _start_store(self) -> None:
        self._world.group_down = False
        self._world.store.change_leader(self._world.schedule.now)

    def transfer(self) -> None:
        region = self._any()
        heir = self._world.random.choice(list(self._world.regions))
        if region.up:
            region.due("leader", lambda: region.transfer(TransferAsked(heir=heir)))

    # --- what operators do --------------------------------------------------------------------------------------------

    def _operate(self, change: ZoneChange) -> None:
        store, now = self._world.store, self._world.schedule.now
        view = store.read("", now)
        text, members = view.value(ZONE.key), view.value(MEMBERS_KEY)
        assert text is not None
        assert members is not None
        record = ZoneRecord.decode(text)
        after = changed(record, RegionGroup.decode(members), change)
        deletes = [ZONE.leader_key] if isinstance(change, AcceptLoss) else []
        store.swap([], [KeyPut(key=ZONE.key, value=after.encode())], deletes, now)
        self._world.checker.swapped(record, after, operator=True)

    def restore(self) -> None:
        """Takes a snapshot of the store, and later goes back to it by the runbook: revokes all leases, and marks the zone."""
        self._snapshot = self._world.store.snapshot()
        self._world.schedule.after(3 * self._world.random.random(), self._restored)

    def _restored(self) -> None:
        assert self._snapshot is not None
        store = self._world.store
        store.restore(self._snapshot, self._world.schedule.now)
        for lease in list(store.leases):
            store.revoke(lease)
        self._world.checker.keys_dropped = True
        self._operate(MarkRestored())
        self._world.schedule.after(self._duration(), self.accept_loss)

    def set_async(self) -> None:
        self._world.checker.lossy = True
        self._operate(SetMode(mode=ReplicationMode.ASYNC))
        self._world.schedule.after(self._duration(), lambda: self._operate(SetMode(mode=ReplicationMode.SYNC)))

    def accept_loss(self) -> None:
        """Names the most advanced region, as the runbook says."""
        self._world.checker.lossy = self._world.checker.keys_dropped = True
        reports = {region.name: region.db.report() for region in self._world.regions.values()}
        chosen = max(reports, key=lambda name: _order(reports[name].position))
        self._operate(AcceptLoss(candidate=chosen, epochs=_epochs(reports), versions=_versions(reports)))

    def heal(self) -> None:
        self._world.network.heal()
        if self._world.group_down:
            self._start_store()
        for region in self._world.regions.values():
            region.paused_until = dict.fromkeys(region.paused_until, 0.0)
            if not region.up:
                region.start()


def _order(position: LogPosition) -> tuple[int, int]:
    return position.epoch, position.seq


def _epochs(reports: dict[str, RegionReport]) -> tuple[int, ...]:
    return tuple(report.epoch for report in reports.values())


def _versions(reports: dict[str, RegionReport]) -> tuple[int, ...]:
    return tuple(report.version for report in reports.values())


def simulate(seed: int, only: tuple[str, ...] = ()) -> Outcome:
    """Runs one schedule, with all kinds of faults or only some.

    Raises: `Breach` if an invariant does not hold, or nothing is acknowledged after the network has healed."""
    random = Random(seed)
    world = build(random)
    clients, faults = Clients(world), Faults(world, only)
    events = world.schedule.run(2.0)
    faults.next()
    events += world.schedule.run(FAULTS_UNTIL_S + 1.0)
    healed_at = world.schedule.now
    faults.heal()
    while clients.acknowledged_at <= healed_at + 1.0:
        if world.schedule.now > healed_at + HEALED_WITHIN_S:
            raise Breach("a healed network writes again", _described(world))
        events += world.schedule.run(world.schedule.now + 0.5)
    checker = world.checker
    return Outcome(seed, events, len(checker.answered), checker.reads, checker.elections)


def first_breach(seeds: range, only: tuple[str, ...] = ()) -> Breach | None:
    """The first breach among the seeds; None if every invariant holds in all."""
    for seed in seeds:
        try:
            simulate(seed, only)
        except Breach as breach:
            return breach
    return None


def _described(world: World) -> str:
    record = world.store.entries[ZONE.key].value
    return f"{record} {[(r.name, r.state.phase.value, r.db.role.value, r.rejoining.phase.value) for r in world.regions.values()]}"


def _mutants() -> int:
    """Looks for each mutant among ten thousand schedules, and returns how many live."""
    alive = 0
    for mutant in (*MUTANTS, *RARE):
        with mutant.applied():
            breach = first_breach(range(1, 10_001), mutant.only)
        found = breach is not None and breach.invariant in mutant.breaks
        print(f"{mutant.name}: {breach if found else 'NOT FOUND'}", flush=True)
        alive += not found
    return alive


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--mutants", action="store_true", help="then look for every mutant")
    options = parser.parse_args()
    started, seed, totals = time.monotonic(), options.seed, [0, 0, 0, 0]
    while time.monotonic() - started < 60 * options.minutes:
        try:
            outcome = simulate(seed)
        except Breach as breach:
            print(f"seed {seed}: {breach}")
            return 1
        found = (outcome.events, outcome.answered, outcome.reads, outcome.elections)
        totals = [total + value for total, value in zip(totals, found, strict=True)]
        seed += 1
    schedules = seed - options.seed
    a_minute = round(60 * schedules / (time.monotonic() - started))
    print(f"{schedules} schedules from seed {options.seed}, {a_minute} a minute: every invariant holds;", end=" ")
    print("{} events, {} answered rows, {} reads, {} elections".format(*totals))
    return _mutants() if options.mutants else 0


if __name__ == "__main__":
    sys.exit(main())
