"""A leak is found, and what settles, swings or peaks is none."""

from __future__ import annotations

import math
import random

import pytest

from tests.chaos.growth import MIB, TOLERANCES, slope, trend

#: Samples of half an hour, one every ten seconds.
TIMES = [10.0 * number for number in range(180)]
JUDGED_S = TIMES[-1] - TIMES[60]
NORMAL = {"memory": 150 * MIB, "files": 60, "threads": 30, "tasks": 20, "connections": 6, "disk": 40 * MIB}


def series(seed: int, figure: str, grows: float) -> list[tuple[float, float]]:
    """A figure as a process has it: it fills in the first minutes, swings with the load, peaks now and then, and grows by
    ``grows`` of what is tolerated."""
    rng = random.Random(f"{figure}{seed}")
    normal, allowed = NORMAL[figure], max(TOLERANCES[figure].least, TOLERANCES[figure].share * NORMAL[figure])
    swing, peak = 0.5 * allowed, 5 * allowed
    return [
        (
            at,
            normal * (1 - 0.4 * math.exp(-at / 90))
            + rng.uniform(-swing, swing)
            + peak * (rng.random() < 0.05)
            + grows * allowed * (at - TIMES[60]) / JUDGED_S,
        )
        for at in TIMES
    ]


@pytest.mark.parametrize("figure", sorted(TOLERANCES))
@pytest.mark.parametrize("seed", range(5))
def test_a_steady_figure_with_peaks_does_not_grow(seed: int, figure: str) -> None:
    found = trend(figure, "a process", series(seed, figure, grows=0.0))
    assert not found.grows, found


@pytest.mark.parametrize("figure", sorted(TOLERANCES))
@pytest.mark.parametrize("seed", range(5))
def test_a_leak_of_twice_the_tolerance_is_found(seed: int, figure: str) -> None:
    found = trend(figure, "a process", series(seed, figure, grows=2.0))
    assert found.grows, found


def test_peaks_at_the_end_do_not_tilt_the_slope() -> None:
    flat = [(at, 100.0) for at in TIMES]
    assert slope(flat[:-30] + [(at, 900.0) for at, _ in flat[-30:]]) == 0.0
    assert slope([(at, 3 * at) for at in TIMES]) == pytest.approx(3.0)


def test_a_figure_that_was_sampled_once_does_not_grow() -> None:
    assert not trend("memory", "a process", [(0.0, 5.0)]).grows
