"""Weights of each kind of question, shrunk towards the weights of all questions, and which kinds have earned them.

An agent that is best at mathematics is not best at law. A kind has few outcomes, so its weights start from those of all
outcomes and move as far as its own outcomes warrant: two pulls hold them, one on their proportions, whose strength all kinds
share and leave-one-out chooses, and a weak one on their scale, which changes no decision but says how sure decisions of
this kind are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.domain.consensus.held_out import credit, paired, wins
from cluster.domain.consensus.likelihood import Pull, curvature, fit, held_out, log_likelihoods, pull_towards
from cluster.domain.consensus.outcomes import Floats, Ints, SomeRows, VoteTable

#: Below so many outcomes a kind is decided as if nobody had named it.
MIN_KIND_OUTCOMES = 50
#: The newest outcomes of a kind that it is fitted on: more change little, and old behaviour stops counting.
KIND_WINDOW = 1_500
#: With more outcomes than these the curvature at the weights of all outcomes steers every fit of the kind.
_ONE_CURVATURE = 1_000
#: Most kinds of one panel, the most frequent ones: contracts and receipts carry their weights.
MAX_KINDS = 32
#: By how many standard errors all kinds together must win. One error, as for the panel's rule, lets kinds decide on one
#: panel in six that has no kinds worth the name; this lets them on one in twenty.
GATE_ERRORS = 1.645
#: The pull on the scale; that on the proportions is made stronger or weaker by this factor for as long as that predicts better.
ALONG = 10.0
FIRST_ACROSS, FACTOR, LEAST_ACROSS, MOST_ACROSS = 8.0, 2.0, 0.5, 128.0
#: So strong that only the scale is left to learn.
_PROPORTIONS_FIXED = 1e6


@dataclass(frozen=True, slots=True)
class FittedKind:
    """``weights`` of the kind, fitted on so many ``outcomes``; ``without[i]`` are those without the one whose place in the table
    is ``rows[i]``, for the newest of them.

    ``gain``: by how much its own proportions decide better than the panel's rule on held-out outcomes, with its standard error;
    ``likelihood``: by how much they predict better, as the mean log of the right option's probability.
    """

    kind: str
    outcomes: int
    rows: Ints
    weights: Floats
    without: Floats
    earned: bool
    gain: float
    gain_se: float
    likelihood: float


@dataclass(frozen=True, slots=True)
class FittedKinds:
    """``across``: the strength of the pull on the proportions. ``gain``: of all kinds together."""

    across: float
    gain: float
    gain_se: float
    kinds: tuple[FittedKind, ...]


@dataclass(frozen=True, slots=True)
class _Material:
    kind: str
    rows: Ints
    table: VoteTable
    bent: Floats | None


@dataclass(frozen=True, slots=True)
class _Fit:
    weights: Floats
    pull: Pull
    likelihood: Floats


@dataclass(frozen=True, slots=True)
class _Centre:
    """The weights of all outcomes, and those without each outcome of a kind."""

    weights: Floats
    without: SomeRows


def kind_rows(kinds: Sequence[str | None]) -> dict[str, Ints]:
    """The places of the newest outcomes of each kind that has enough of them, the most frequent kind first."""
    counted = Counter(kind for kind in kinds if kind is not None)
    often = sorted(
        (kind for kind, count in counted.items() if count >= MIN_KIND_OUTCOMES), key=lambda k: (-counted[k], k)
    )
    rows_of: dict[str, list[int]] = {kind: [] for kind in often[:MAX_KINDS]}
    for row, kind in enumerate(kinds):
        if kind in rows_of:
            rows_of[kind].append(row)
    return {kind: np.array(rows[-KIND_WINDOW:], dtype=np.int64) for kind, rows in rows_of.items()}


def fit_kinds(
    table: VoteTable,
    rows: dict[str, Ints],
    weights: Floats,
    without: SomeRows,
    decided: Floats,
    capped: Callable[[Floats], Floats],
    first: int = 0,
) -> FittedKinds | None:
    """Fits every kind of ``rows``; None if there is none. ``weights`` are those of all outcomes, ``without`` those
    without each outcome of ``rows``, ``decided`` what the panel's rule is credited with when it is held out, and ``capped``
    applies the caps of owners to rows of weights. What is found without an outcome is kept for those from ``first`` on.

    A kind earns weights of its own in two steps. All kinds together must decide better than the panel's rule on held-out
    outcomes, by more than ``GATE_ERRORS`` standard errors: a single kind has too few outcomes for such a test. Then those
    kinds earn them whose own held-out outcomes are predicted better by them, and decided no worse.
    """
    if not rows:
        return None
    centre = _Centre(weights, without)
    material = [_material(kind, at, table.rows(at), weights) for kind, at in rows.items()]
    scaled = [_fit(item, centre, _PROPORTIONS_FIXED, weights) for item in material]
    across, fitted = _strength(material, centre)
    gains, kept = [], []
    for item, own in zip(material, fitted, strict=True):
        rows_without = _held_out(item, own, centre)
        gains.append(credit(item.table, capped(rows_without)) - decided[item.rows])
        kept.append(rows_without[item.rows >= first])
    together = np.concatenate(gains)
    good = wins(together, GATE_ERRORS)
    kinds = []
    for item, own, same, newest, gain in zip(material, fitted, scaled, kept, gains, strict=True):
        better = float((own.likelihood - same.likelihood).mean())
        earned = good and better > 0.0 and float(gain.mean()) >= 0.0
        new = item.rows >= first
        left = newest if earned else _held_out(item, same, centre)[new]
        mean, error = paired(gain)
        kinds.append(
            FittedKind(
                kind=item.kind,
                outcomes=len(item.rows),
                rows=item.rows[new],
                weights=(own if earned else same).weights,
                without=left,
                earned=earned,
                gain=mean,
                gain_se=error,
                likelihood=better,
            )
        )
    return FittedKinds(across, *paired(together), tuple(kinds))


def _material(kind: str, rows: Ints, table: VoteTable, weights: Floats) -> _Material:
    return _Material(kind, rows, table, curvature(table, weights) if len(rows) > _ONE_CURVATURE else None)


def _fit(item: _Material, centre: _Centre, across: float, start: Floats) -> _Fit:
    pull = pull_towards(centre.weights, across, ALONG)
    found = fit(item.table, pull, start, item.bent)
    kept = held_out(item.table, found, pull, centre.without.of(item.rows), item.bent)
    return _Fit(found, pull, log_likelihoods(item.table, kept))


def _held_out(item: _Material, fitted: _Fit, centre: _Centre) -> Floats:
    return held_out(item.table, fitted.weights, fitted.pull, centre.without.of(item.rows), item.bent)


def _strength(material: Sequence[_Material], centre: _Centre) -> tuple[float, list[_Fit]]:
    """The strength that predicts held-out outcomes best, and the fits that it gives."""

    def fitted(across: float, starts: Sequence[Floats]) -> list[_Fit]:
        return [_fit(item, centre, across, start) for item, start in zip(material, starts, strict=True)]

    best, at = fitted(FIRST_ACROSS, [centre.weights] * len(material)), FIRST_ACROSS
    for factor in (FACTOR, 1.0 / FACTOR):
        moved = False
        while LEAST_ACROSS <= at * factor <= MOST_ACROSS:
            other = fitted(at * factor, [found.weights for found in best])
            if _total(other) <= _total(best):
                break
            best, at, moved = other, at * factor, True
        if moved:
            break
    return at, best


def _total(fits: Sequence[_Fit]) -> float:
    return float(sum(found.likelihood.sum() for found in fits))
