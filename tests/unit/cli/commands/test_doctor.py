"""How the doctor judges clocks."""

from __future__ import annotations

import pytest

from cluster.cli.checks.api import skew


@pytest.mark.parametrize(
    ("told", "here", "ahead"),
    [
        ((100.0, 101.0), (100.4, 100.5), 0.0),
        ((100.0, 101.0), (100.9, 106.0), 0.0),  # an answer that took long says little
        ((100.0, 100.0), (104.0, 105.0), -4.0),
        ((110.0, 111.0), (104.0, 105.0), 5.0),
        ((100.0, 101.0), (104.0, 105.0), -3.0),
    ],
)
def test_a_clock_is_blamed_only_for_skew_beyond_the_round_trip(
    told: tuple[float, float], here: tuple[float, float], ahead: float
) -> None:
    assert skew(told, here) == ahead
