"""Schedules from seeds: a group of regions in one zone or two, clients, faults, and a time of healing after which writes must be
acknowledged again in each zone.

.venv/bin/python -m tests.regions.simulation.run --minutes 10 --seed 1
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from cluster.domain.replication.quorum import ReplicationMode
from cluster.ports.consensus_group import KeyPut
from regions.domain.group import ZoneRecord
from regions.domain.leadership import LogPosition, RegionReport, TransferAsked
from regions.domain.transactions import AcceptLoss, MarkRestored, SetMode, ZoneChange, changed
from tests.regions.simulation.checker import Breach
from tests.regions.simulation.mutants import MUTANTS, RARE
from tests.regions.simulation.network import GROUP
from tests.regions.simulation.region import SimulatedRegion, World
from tests.regions.simulation.store import MemoryGroup
from tests.regions.simulation.zones import TIMERS, Zones, build, drawn

FAULTS_UNTIL_S = 12.0
#: After the faults: two leases, elections, a rebuild, and the way back into the set.
HEALED_WITHIN_S = 25.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """``answered``: rows, in the zone that had fewest. ``mixed``: in how many of the seconds a region was primary of one zone and
    secondary of another."""

    seed: int
    zones: int
    events: int
    answered: int
    reads: int
    elections: int
    mixed: int


class Clients:
    """Write and read at random regions in one zone, until the schedule ends."""

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

    def __init__(self, zones: Zones, only: tuple[str, ...] = ()) -> None:
        self._zones = zones
        self._random = zones.random
        self._schedule = zones.schedule
        self._snapshot: MemoryGroup | None = None
        self._kinds: list[Callable[[], None]] = [
            *(self.crash, self.crash, self.pause, self.pause, self.pause_host),
            *(self.isolate, self.cut, self.one_way, self.lossy, self.slow),
            *(self.drop_lease, self.change_store_leader, self.stop_store, self.transfer),
        ]
        self._aim = self._random.choice([0.0, 0.0, 0.5])
        for world in zones.worlds.values():
            world.on_proposal, world.on_rebuild = self.deafen, self.crash_sender
        if only:
            self._kinds, self._aim = [getattr(self, name) for name in only], 0.8
        elif self._random.random() < 0.1:
            self._kinds += [self.restore, self.set_async, self.accept_loss]

    def next(self) -> None:
        if self._schedule.now < FAULTS_UNTIL_S:
            self._random.choice(self._kinds)()
            self._schedule.after(0.1 + 2.5 * self._random.random(), self.next)

    def _world(self) -> World:
        worlds = list(self._zones.worlds.values())
        return self._random.choice(worlds) if len(worlds) > 1 else worlds[0]

    def _any(self) -> SimulatedRegion:
        """A region, or rather its part in one zone; more often one that leads this."""
        regions = list(self._world().regions.values())
        leading = [region for region in regions if region.state.term is not None]
        return self._random.choice(leading if leading and self._random.random() < 0.5 else regions)

    def _duration(self) -> float:
        return 0.2 + 3 * TIMERS.election_s * self._random.random() ** 2

    def crash(self) -> None:
        region = self._any()
        if region.up:
            self._zones.crash(region.name)
            self._schedule.after(self._duration(), lambda: self._zones.start(region.name))

    def pause(self) -> None:
        component = self._random.choice(["leader", "writer", "receiver"])
        until = self._schedule.now + self._duration()
        for part in self._zones.parts(self._any().name):
            part.paused_until[component] = until

    def pause_host(self) -> None:
        name, until = self._any().name, self._schedule.now + self._duration()
        for part in self._zones.parts(name):
            part.paused_until = dict.fromkeys(part.paused_until, until)

    def _cut(self, pairs: set[tuple[str, str]]) -> None:
        self._zones.network.cuts |= pairs
        self._schedule.after(self._duration(), lambda: self._zones.network.cuts.difference_update(pairs))

    def isolate(self) -> None:
        name = self._any().name
        others = [*self._zones.names, GROUP]
        self._cut({(name, other) for other in others} | {(other, name) for other in others})

    def cut(self) -> None:
        sender, receiver = self._random.sample([*self._zones.names, GROUP], 2)
        self._cut({(sender, receiver), (receiver, sender)})

    def one_way(self) -> None:
        sender, receiver = self._random.sample([*self._zones.names, GROUP], 2)
        self._cut({(sender, receiver)})

    def deafen(self, region: SimulatedRegion) -> None:
        """The primary does not hear how its change of the set ended, and loses a member."""
        if self._schedule.now < FAULTS_UNTIL_S and self._random.random() < self._aim:
            other = self._random.choice([name for name in self._zones.names if name != region.name])
            self._cut({(GROUP, region.name), (region.name, other), (other, region.name)})

    def crash_sender(self, region: SimulatedRegion) -> None:
        if region.up and self._schedule.now < FAULTS_UNTIL_S and self._random.random() < self._aim:
            self._zones.crash(region.name)
            self._schedule.after(2 * self._duration(), lambda: self._zones.start(region.name))

    def lossy(self) -> None:
        self._zones.network.loss = 0.4 * self._random.random()

    def slow(self) -> None:
        self._zones.network.slow = 0.5 * self._random.random()

    def drop_lease(self) -> None:
        """etcd 3.4: a lease is revoked although it is renewed."""
        self._keys_dropped()
        for lease in list(self._zones.store.leases):
            self._zones.store.revoke(lease)

    def change_store_leader(self) -> None:
        self._zones.store.change_leader(self._schedule.now)

    def stop_store(self) -> None:
        self._zones.store.down = True
        self._schedule.after(self._duration(), self._start_store)

    def _start_store(self) -> None:
        self._zones.store.down = False
        self._zones.store.change_leader(self._schedule.now)

    def transfer(self) -> None:
        region = self._any()
        heir = self._random.choice(list(self._zones.names))
        if region.up:
            region.due("leader", lambda: region.transfer(TransferAsked(heir=heir)))

    # --- what operators do --------------------------------------------------------------------------------------------

    def _keys_dropped(self) -> None:
        for world in self._zones.worlds.values():
            world.checker.keys_dropped = True

    def _operate(self, world: World, change: ZoneChange) -> None:
        store, now, zone = self._zones.store, self._schedule.now, world.zone
        text = store.read("", now).value(zone.key)
        assert text is not None
        record = ZoneRecord.decode(text)
        after = changed(record, self._zones.group, change)
        deletes = [zone.leader_key] if isinstance(change, AcceptLoss) else []
        store.swap([], [KeyPut(key=zone.key, value=after.encode())], deletes, now)
        world.checker.swapped(record, after, operator=True)

    def restore(self) -> None:
        """Takes a snapshot of the store, and later goes back to it by the runbook: revokes all leases, and marks each zone."""
        self._snapshot = self._zones.store.snapshot()
        self._schedule.after(3 * self._random.random(), self._restored)

    def _restored(self) -> None:
        assert self._snapshot is not None
        store = self._zones.store
        store.restore(self._snapshot, self._schedule.now)
        for lease in list(store.leases):
            store.revoke(lease)
        self._keys_dropped()
        for world in self._zones.worlds.values():
            self._operate(world, MarkRestored())
            self._schedule.after(self._duration(), partial(self._accept_loss, world))

    def set_async(self) -> None:
        world = self._world()
        world.checker.lossy = True
        self._operate(world, SetMode(mode=ReplicationMode.ASYNC))
        self._schedule.after(self._duration(), lambda: self._operate(world, SetMode(mode=ReplicationMode.SYNC)))

    def accept_loss(self) -> None:
        self._accept_loss(self._world())

    def _accept_loss(self, world: World) -> None:
        """Names the most advanced region that may lead the zone, as the runbook says."""
        world.checker.lossy = world.checker.keys_dropped = True
        reports = {region.name: region.db.report() for region in world.regions.values()}
        leading = sorted(self._zones.group.leading(world.zone.zone))
        chosen = max(leading, key=lambda name: _order(reports[name].position))
        self._operate(world, AcceptLoss(candidate=chosen, epochs=_epochs(reports), versions=_versions(reports)))

    def heal(self) -> None:
        self._zones.network.heal()
        if self._zones.store.down:
            self._start_store()
        for name in self._zones.names:
            for part in self._zones.parts(name):
                part.paused_until = dict.fromkeys(part.paused_until, 0.0)
            self._zones.start(name)


def _order(position: LogPosition) -> tuple[int, int]:
    return position.epoch, position.seq


def _epochs(reports: dict[str, RegionReport]) -> tuple[int, ...]:
    return tuple(report.epoch for report in reports.values())


def _versions(reports: dict[str, RegionReport]) -> tuple[int, ...]:
    return tuple(report.version for report in reports.values())


def simulate(seed: int, only: tuple[str, ...] = (), *, zoned: bool = True) -> Outcome:
    """Runs one schedule, with all kinds of faults or only some. ``zoned``: in one zone or two, as the seed draws; else in one.

    Raises: `Breach` if an invariant does not hold in a zone, or nothing is acknowledged there after the network has healed."""
    random = Random(seed)
    zones = build(random, partial(drawn, Random(f"zones {seed}")) if zoned else lambda names: frozenset())
    clients = {zone: Clients(world) for zone, world in zones.worlds.items()}
    faults = Faults(zones, only)
    events = zones.schedule.run(2.0)
    faults.next()
    mixed = 0
    while zones.schedule.now < FAULTS_UNTIL_S + 1.0:
        events += zones.schedule.run(zones.schedule.now + 1.0)
        mixed += zones.is_mixed()
    healed_at = zones.schedule.now
    faults.heal()
    for zone, of_zone in clients.items():
        while of_zone.acknowledged_at <= healed_at + 1.0:
            if zones.schedule.now > healed_at + HEALED_WITHIN_S:
                raise Breach("a healed network writes again", _described(zones.worlds[zone]))
            events += zones.schedule.run(zones.schedule.now + 0.5)
    checkers = [world.checker for world in zones.worlds.values()]
    return Outcome(
        seed=seed,
        zones=len(checkers),
        events=events,
        answered=min(len(checker.answered) for checker in checkers),
        reads=sum(checker.reads for checker in checkers),
        elections=sum(checker.elections for checker in checkers),
        mixed=mixed,
    )


def first_breach(seeds: range, only: tuple[str, ...] = (), *, zoned: bool = True) -> Breach | None:
    """The first breach among the seeds; None if every invariant holds in all."""
    for seed in seeds:
        try:
            simulate(seed, only, zoned=zoned)
        except Breach as breach:
            return breach
    return None


def _described(world: World) -> str:
    record = world.store.entries[world.zone.key].value
    return f"{record} {[(r.name, r.state.phase.value, r.db.role.value, r.rejoining.phase.value) for r in world.regions.values()]}"


def _mutants() -> int:
    """Looks for each mutant among ten thousand schedules, and returns how many live."""
    alive = 0
    for mutant in (*MUTANTS, *RARE):
        with mutant.applied():
            breach = first_breach(range(1, 10_001), mutant.only, zoned=mutant.zoned)
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
    started, seed, totals = time.monotonic(), options.seed, [0, 0, 0, 0, 0, 0]
    while time.monotonic() - started < 60 * options.minutes:
        try:
            outcome = simulate(seed)
        except Breach as breach:
            print(f"seed {seed}: {breach}")
            return 1
        found = (outcome.zones, outcome.events, outcome.answered, outcome.reads, outcome.elections, outcome.mixed)
        totals = [total + value for total, value in zip(totals, found, strict=True)]
        seed += 1
    schedules = seed - options.seed
    a_minute = round(60 * schedules / (time.monotonic() - started))
    print(f"{schedules} schedules from seed {options.seed}, {a_minute} a minute: every invariant holds;", end=" ")
    print(
        "{} zones, {} events, {} answered rows, {} reads, {} elections, {} s with a region in both roles".format(
            *totals
        )
    )
    return _mutants() if options.mutants else 0


if __name__ == "__main__":
    sys.exit(main())
