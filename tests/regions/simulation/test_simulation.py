"""A short run of the simulation; `make regions` is the long one."""

from __future__ import annotations

import pytest

from tests.regions.simulation.mutants import MUTANTS, Mutant
from tests.regions.simulation.run import first_breach, simulate

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


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_machine_with_a_mistake_is_found(mutant: Mutant) -> None:
    with mutant.applied():
        breach = first_breach(range(1, 401), mutant.only)
    assert breach is not None
    assert breach.invariant in mutant.breaks
