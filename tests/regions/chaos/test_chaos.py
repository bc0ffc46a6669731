"""A short run of faults, drawn from a seed; `make chaos-regions` is the long one. Each mutant is found."""

from __future__ import annotations

import pytest

from tests.regions.chaos.checker import check
from tests.regions.chaos.run import chaos
from tests.support.etcd import needs_etcd
from tests.support.region_mutants import ACKNOWLEDGE_EARLY, CURSOR_RESET, EPOCH_UNCHECKED, PROMOTE_ANY

pytestmark = [needs_etcd, pytest.mark.slow]
KILL = "kill the primary's process"
#: A mistake shows if a client reads in a certain moment of the fault: mostly in the first run, on a busy machine in a later one.
MOST_RUNS = 4


async def test_a_killed_primary_is_replaced_and_nothing_is_lost() -> None:
    history = await chaos(1, faults=1, names=[KILL])
    assert check(history) == []
    assert {write.region for write in history.acknowledged} > {"east"}
    assert history.reads


@pytest.mark.longer
async def test_every_kind_of_fault_loses_nothing() -> None:
    history = await chaos(1, seconds=240.0)
    assert check(history) == []


@pytest.mark.longer
@pytest.mark.parametrize(
    ("mutant", "kind", "invariant"),
    [
        (ACKNOWLEDGE_EARLY, "kill the primary while both others sleep", "I2"),
        (PROMOTE_ANY, "only a stale heir", "I2"),
        (EPOCH_UNCHECKED, "freeze the primary's process", "I1"),
        (CURSOR_RESET, KILL, "I5"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_mistake_is_found(mutant: str, kind: str, invariant: str) -> None:
    found: set[str] = set()
    for seed in range(1, MOST_RUNS + 1):
        history = await chaos(seed, faults=1, names=[kind], mutant=mutant)
        found |= {violation.invariant for violation in check(history)}
        if invariant in found:
            return
    pytest.fail(f"{invariant} was not found in {MOST_RUNS} runs, but {found}")
