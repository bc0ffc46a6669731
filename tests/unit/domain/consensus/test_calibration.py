"""Calibration: isotonic regression against its definition, and measures of a known case."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.consensus.calibration import (
    IsotonicMap,
    brier_score,
    expected_calibration_error,
    fit_isotonic,
    reliability,
)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=25))
def test_isotonic_regression_equals_the_min_max_formula(points: list[tuple[float, bool]]) -> None:
    """Robertson, Wright and Dykstra 1988: value(i) = max over j <= i of min over k >= i of mean(j..k)."""
    x = [round(at, 9) for at, _ in points]
    fitted = fit_isotonic(x, [float(right) for _, right in points])
    levels = sorted(set(x))
    groups = [[float(right) for (_, right), at in zip(points, x, strict=True) if at == level] for level in levels]

    def mean(j: int, k: int) -> float:
        held = [value for group in groups[j : k + 1] for value in group]
        return math.fsum(held) / len(held)

    for i, level in enumerate(levels):
        expected = max(min(mean(j, k) for k in range(i, len(levels))) for j in range(i + 1))
        assert fitted(level) == pytest.approx(expected, abs=2e-6)


def test_a_map_is_linear_between_knots_flat_outside_and_mixed_by_trust() -> None:
    full = IsotonicMap(knots=(0.2, 0.6), values=(0.1, 0.5))
    assert [full(at) for at in (0.0, 0.2, 0.4, 0.6, 1.0)] == [0.1, 0.1, 0.3, 0.5, 0.5]
    half = replace(full, trust=0.5)
    assert half(1.0) == 0.75


def test_ece_brier_and_reliability_of_a_known_case() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    right = np.array([1.0, 1.0, 1.0, 0.0])
    assert expected_calibration_error(confidence, right, bins=10) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
    assert brier_score(confidence, right) == pytest.approx((2 * 0.05**2 + 0.45**2 + 0.55**2) / 4)
    assert reliability(confidence, right, bins=10) == [(0.55, 0.5, 2), (0.95, 1.0, 2)]
