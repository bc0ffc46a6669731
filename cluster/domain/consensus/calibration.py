"""Calibration: from a statistic to a probability by isotonic regression, and the two scores that judge it (ECE, Brier)."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_OUTCOMES = 50  # below this no calibration is claimed
ECE_BINS = 15
LEAST_SURE = 0.005  # log-odds of 0 and 1 are infinite
_TILT_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IsotonicMap:
    """A non-decreasing map through (knots, values), linear between them, flat outside.

    ``trust`` is how much the map counts against the identity: a statistic that is nearly a probability is moved only as far
    as the number of outcomes warrants.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]
    trust: float = 1.0
    outcomes: int = 0

    def __call__(self, statistic: float) -> float:
        mapped = self._mapped(statistic)
        return round(self.trust * mapped + (1.0 - self.trust) * statistic, 6)

    def of(self, statistics: Floats) -> Floats:
        """The map of many statistics at once, not rounded."""
        mapped = np.interp(statistics, self.knots, self.values)
        found: Floats = self.trust * mapped + (1.0 - self.trust) * statistics
        return found

    def _mapped(self, at: float) -> float:
        right = bisect_right(self.knots, at)
        if right == 0:
            return self.values[0]
        if right == len(self.knots):
            return self.values[-1]
        x0, x1 = self.knots[right - 1], self.knots[right]
        y0, y1 = self.values[right - 1], self.values[right]
        return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


@dataclass(frozen=True, slots=True)
class Tilt:
    """What sets the confidences of one kind of question apart from those of all: in log-odds ``z`` becomes ``slope * z +
    shift``."""

    slope: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TiltedMap(IsotonicMap):
    """A map whose probabilities are tilted."""

    tilt: Tilt = Tilt()

    def __call__(self, statistic: float) -> float:
        held = min(max(IsotonicMap.__call__(self, statistic), LEAST_SURE), 1.0 - LEAST_SURE)
        odds = self.tilt.slope * math.log(held / (1.0 - held)) + self.tilt.shift
        return round(1.0 / (1.0 + math.exp(-odds)), 6)

    def of(self, statistics: Floats) -> Floats:
        found: Floats = 1.0 / (
            1.0 + np.exp(-self.tilt.slope * _log_odds(IsotonicMap.of(self, statistics)) - self.tilt.shift)
        )
        return found


def _log_odds(probability: Floats) -> Floats:
    held = np.clip(probability, LEAST_SURE, 1.0 - LEAST_SURE)
    odds: Floats = np.log(held / (1.0 - held))
    return odds


def fit_tilt(probability: Floats, right: NDArray[np.bool_], slope_variance: float, shift_variance: float) -> Tilt:
    """The tilt that makes what happened most likely (Platt 1999), pulled to none by normal priors of these variances.
    Newton's method on two numbers; the likelihood is concave, and the priors keep it so where all or none were right."""
    odds = _log_odds(probability)
    basis = np.stack([odds, np.ones_like(odds)], axis=1)
    prior = np.array([1.0 / slope_variance, 1.0 / shift_variance])
    found = np.zeros(2)
    for _ in range(_TILT_STEPS):
        share = 1.0 / (1.0 + np.exp(-odds - basis @ found))
        bent = (basis * (share * (1.0 - share))[:, None]).T @ basis + np.diag(prior)
        found += np.linalg.solve(bent, basis.T @ (right - share) - prior * found)
    return Tilt(round(1.0 + float(found[0]), 6), round(float(found[1]), 6))


def fit_isotonic(
    statistic: Sequence[float] | Floats, right: Sequence[float] | Floats, prior: float = 0.0
) -> IsotonicMap:
    """Least squares under monotonicity by pooling adjacent violators (Ayer et al. 1955).

    ``prior`` counts imaginary outcomes in favour of leaving the statistic as it is; 0 if the statistic is no probability.
    """
    x, inverse = np.unique(np.round(np.asarray(statistic, dtype=float), 9), return_inverse=True)
    count = np.bincount(inverse).astype(float)
    mean = np.bincount(inverse, weights=np.asarray(right, dtype=float)) / count
    blocks: list[list[float]] = []  # mean, weight, first x, last x
    for value, weight, at in zip(mean, count, x, strict=True):
        blocks.append([float(value), float(weight), float(at), float(at)])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            upper, lower = blocks.pop(), blocks.pop()
            total = lower[1] + upper[1]
            blocks.append([(lower[0] * lower[1] + upper[0] * upper[1]) / total, total, lower[2], upper[3]])
    knots: list[float] = []
    values: list[float] = []
    for value, _, first, last in blocks:
        for at in (first,) if first == last else (first, last):
            knots.append(at)
            values.append(round(value, 9))
    n = len(inverse)
    return IsotonicMap(knots=tuple(knots), values=tuple(values), trust=round(n / (n + prior), 9), outcomes=n)


def expected_calibration_error(confidence: Floats, right: Floats, bins: int = ECE_BINS) -> float:
    """Mean over equal-width bins of |mean confidence - accuracy|, weighted by the bin's share (Guo et al. 2017)."""
    if len(confidence) == 0:
        return 0.0
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    held = np.bincount(bin_of, minlength=bins)
    gap = np.abs(np.bincount(bin_of, weights=confidence - right, minlength=bins))
    return float(gap[held > 0].sum() / len(confidence))


def reliability(confidence: Floats, right: Floats, bins: int = ECE_BINS) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, count) of each bin that holds anything."""
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[bin_of == b].mean()), float(right[bin_of == b].mean()), int((bin_of == b).sum()))
        for b in range(bins)
        if (bin_of == b).any()
    ]


def brier_score(confidence: Floats, right: Floats) -> float:
    """Mean squared distance of the confidence from 1 (right) or 0 (wrong)."""
    return float(np.mean((confidence - right) ** 2)) if len(confidence) else 0.0
