"""A short run of the simulation; `make regions` is the long one."""

from __future__ import annotations

from random import Random

import pytest

from cluster.domain.replication.quorum import DEFAULT_ZONE
from regions.domain.zones import records_of
from tests.regions.simulation.mutants import MUTANTS, Mutant
from tests.regions.simulation.run import Clients, first_breach, simulate
from tests.regions.simulation.zones import NAMES, RESIDENCY, Zones, build

SCHEDULES = range(1, 61)


def test_every_invariant_holds_in_sixty_schedules() -> None:
    assert first_breach(SCHEDULES) is None


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert simulate(42) == simulate(42)


def test_schedules_elect_answer_and_read() -> None:
    outcomes = [simulate(seed) for seed in range(1, 6)]
    assert sum(outcome.elections for outcome in outcomes) > len(outcomes)
    assert min(outcome.answered for outcome in outcomes) > 0
    assert min(outcome.reads for outcome in outcomes) > 0


def test_schedules_have_one_zone_or_two_and_regions_of_both_roles() -> None:
    outcomes = [simulate(seed) for seed in range(1, 13)]
    assert {outcome.zones for outcome in outcomes} == {1, 2}
    assert any(outcome.mixed for outcome in outcomes)


def _records(zones: Zones) -> dict[str, tuple[str | None, int]]:
    """By zone, its primary and epoch."""
    entries = {key: entry.value for key, entry in zones.store.entries.items()}
    return {zone: (record.primary, record.epoch) for zone, record in records_of(entries).items()}


@pytest.mark.parametrize(
    ("resident", "lost", "elects"),
    [
        ({"north", "west"}, "east", {DEFAULT_ZONE}),
        ({"north", "west"}, "north", {RESIDENCY}),
        ({"east", "west"}, "east", {DEFAULT_ZONE, RESIDENCY}),
        ({"west"}, "east", {DEFAULT_ZONE}),
    ],
)
def test_the_loss_of_a_primary_elects_in_its_zones_only(resident: set[str], lost: str, elects: set[str]) -> None:
    for seed in range(1, 3):
        zones = build(Random(seed), lambda _: frozenset(resident), NAMES)
        clients = {zone: Clients(world) for zone, world in zones.worlds.items()}
        zones.schedule.run(6.0)
        before = _records(zones)
        assert {zone for zone, (primary, _) in before.items() if primary == lost} == elects
        zones.crash(lost)
        zones.schedule.run(16.0)
        after = _records(zones)
        assert {zone for zone in after if after[zone] != before[zone]} == elects
        for zone in elects:
            (primary, epoch), (_, epoch_before) = after[zone], before[zone]
            assert primary in zones.group.leading(zone) - {lost}
            assert epoch > epoch_before
        for zone, of_zone in clients.items():  # who is alone in the set writes nothing
            assert (of_zone.acknowledged_at > 15.0) == (len(zones.group.counting(zone) - {lost}) > 1)
        zones.start(lost)
        zones.schedule.run(30.0)
        assert min(of_zone.acknowledged_at for of_zone in clients.values()) > 29.0


def test_a_zone_of_one_region_waits_for_it() -> None:
    """Others keep what it holds but payloads, so what it answers rests on them, and none of them takes over."""
    zones = build(Random(1), lambda _: frozenset({"west"}), NAMES)
    clients = {zone: Clients(world) for zone, world in zones.worlds.items()}
    zones.schedule.run(6.0)
    before = _records(zones)[RESIDENCY]
    assert before[0] == "west"
    assert clients[RESIDENCY].acknowledged_at > 5.0
    zones.crash("west")
    zones.schedule.run(16.0)
    assert _records(zones)[RESIDENCY] == before
    assert clients[RESIDENCY].acknowledged_at < 8.0
    assert clients[DEFAULT_ZONE].acknowledged_at > 15.0
    zones.start("west")
    zones.schedule.run(26.0)
    assert _records(zones)[RESIDENCY] == ("west", before[1] + 1)
    assert clients[RESIDENCY].acknowledged_at > 25.0


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_machine_with_a_mistake_is_found(mutant: Mutant) -> None:
    with mutant.applied():
        breach = first_breach(range(1, 401), mutant.only, zoned=mutant.zoned)
    assert breach is not None
    assert breach.invariant in mutant.breaks
