"""The zones of a simulated group: each has its own record, databases and invariants; regions, network and store are shared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cluster.domain.replication.quorum import ReplicationMode
from cluster.domain.replication.timers import RegionTimers
from cluster.ports.consensus_group import KeyPut
from regions.domain.group import MEMBERS_KEY, RegionGroup, RegionMember, ZoneRecord, founded
from regions.domain.zones import first_primary, zones_of
from tests.regions.simulation.checker import Checker
from tests.regions.simulation.database import Database, RegionRole
from tests.regions.simulation.network import Network, Schedule
from tests.regions.simulation.region import SimulatedRegion, World
from tests.regions.simulation.store import MemoryGroup

TIMERS = RegionTimers(heartbeat_s=0.4, election_s=2.0, stale_s=6.0, sync_s=1.0, margin_s=0.2)
NAMES = ("east", "north", "west")
#: The zone of residency of some of them.
RESIDENCY = "eu"


@dataclass(slots=True)
class Zones:
    """A group of regions, each with a part in every zone. What ends or pauses a region does so in all zones, since its parts are
    one process on one host. ``worlds``: by zone."""

    schedule: Schedule
    network: Network
    random: Random
    store: MemoryGroup
    group: RegionGroup
    names: tuple[str, ...]
    worlds: dict[str, World] = field(default_factory=dict)

    def parts(self, name: str) -> list[SimulatedRegion]:
        """A region's part in each zone."""
        return [world.regions[name] for world in self.worlds.values()]

    def crash(self, name: str) -> None:
        for part in self.parts(name):
            part.crash()

    def start(self, name: str) -> None:
        """Unless it is up."""
        for part in self.parts(name):
            if not part.up:
                part.start()

    def is_mixed(self) -> bool:
        """Whether a region is primary of one zone and secondary of another now."""
        roles = [{part.db.role for part in self.parts(name)} for name in self.names]
        return any({RegionRole.PRIMARY, RegionRole.SECONDARY} <= found for found in roles)


def drawn(random: Random, names: tuple[str, ...]) -> frozenset[str]:
    """The regions of a zone of residency: two, one, or none, so that there is no such zone."""
    return frozenset(random.sample(names, random.choice([0, 1, 2])))


def build(
    random: Random, resident: Callable[[tuple[str, ...]], frozenset[str]], names: tuple[str, ...] | None = None
) -> Zones:
    """The zones of a group, founded. ``names``: the data regions; None draws three, or two and a witness, which is a member of
    the store and no region here. ``resident``: which of them are in the zone of residency. One zone is drawn the same whatever
    other zones there are elsewhere: nobody else draws from ``random`` before it runs."""
    schedule = Schedule()
    network = Network(schedule, random)
    store = MemoryGroup(late_s=0.5 * random.random())
    if names is None:
        names = NAMES if random.random() < 0.75 else NAMES[:2]
    inside = resident(names)
    members = tuple(
        RegionMember(region=name, data=name in names, residency=RESIDENCY if name in inside else None) for name in NAMES
    )
    group = RegionGroup(members=members)
    store.swap([], [KeyPut(key=MEMBERS_KEY, value=group.encode())], (), 0.0)
    zones = Zones(schedule, network, random, store, group, names)
    clocks: dict[str, tuple[float, float]] = {}
    for zone in zones_of(group):
        record = founded(zone, str(first_primary(group, zone, names[0])), group.counting(zone), ReplicationMode.SYNC)
        store.swap([], [KeyPut(key=record.key, value=record.encode())], (), 0.0)
        world = zones.worlds[zone] = World(
            zone=ZoneRecord(zone=zone),
            schedule=schedule,
            network=network,
            random=random,
            store=store,
            checker=Checker(inside if zone == RESIDENCY else frozenset(names)),
            timers=TIMERS,
        )
        for name in names:
            if name not in clocks:  # over an election's time two clocks differ by less than the margin
                clocks[name] = (1 + 0.02 * (random.random() - 0.5), 100 * random.random())
            rate, offset_s = clocks[name]
            world.regions[name] = SimulatedRegion(world, Database(region=name, rate=rate, offset_s=offset_s))

    def tell_watches() -> None:
        for world in zones.worlds.values():
            world.tell_watches()

    store.on_change = tell_watches
    return zones
