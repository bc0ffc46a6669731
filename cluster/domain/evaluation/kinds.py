"""Figures by kind of question: what weights that know the kind decide, beside what those of all questions decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.domain.consensus.calibration import expected_calibration_error
from cluster.domain.consensus.outcomes import Floats, Ints, VoteTable
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.evaluation.modes import EFFORT_MODES, Court, Verdicts, verdicts, verdicts_by_kind
from cluster.domain.evaluation.records import Panel

#: The rules that weights of kinds can change, in the order of the printed table.
KIND_MODES = (Mode.LEARNED.value, Mode.AGREE_K.value, *EFFORT_MODES.values())
ALL_KINDS = "(all)"
NO_KIND = "(none)"
RESAMPLES = 500
#: A calibration error is held against its bound where there are so many questions, and may exceed it by so much.
LEAST_QUESTIONS, TOLERATED = 200, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval (bootstrap over questions)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """The figures of one panel under one mode for one kind of question, ``(all)`` for all of them together.

    ``weights``: ``own`` if the kind has earned weights, ``shared`` if it is decided by those of all questions, with a
    confidence of its own, ``none`` if nothing was learned of it. ``ece_bound``: what a perfectly calibrated forecaster with
    the same confidences stays under in 99 of 100 draws. ``vs_global``: right answers per question more than without kinds;
    ``global_ece`` and ``global_calls`` are those without kinds.
    """

    panel: str
    mode: str
    kind: str
    n: int
    weights: str
    accuracy: Estimate
    calls: Estimate
    ece: Estimate | None
    ece_bound: float | None
    vs_global: Estimate
    global_calls: float
    global_ece: float | None

    def beyond(self) -> bool | None:
        """Whether the calibration error is an error beyond doubt: above the bound by more than ``TOLERATED``. None for all kinds
        together, and where there are too few questions to say."""
        if self.kind in (ALL_KINDS, NO_KIND) or self.n < LEAST_QUESTIONS or self.ece is None or self.ece_bound is None:
            return None
        return self.ece.value > self.ece_bound + TOLERATED


def evaluate_kinds(
    panel: Panel, court: Court, table: VoteTable, kinds: Sequence[str | None], *, seed: int = 0
) -> list[KindFigures]:
    """Every kind of ``kinds``, which says what kind each question of the table is of, the most frequent first."""
    named = np.array([NO_KIND if kind is None else kind for kind in kinds], dtype=object)
    often = sorted(set(named), key=lambda kind: (-int((named == kind).sum()), kind))
    found = []
    for mode in KIND_MODES:
        ours, theirs = verdicts_by_kind(mode, table, kinds, court), verdicts(mode, table, court)
        rng = np.random.default_rng(seed)
        everything = np.arange(len(table.right))
        found.append(_figures(panel, mode, ALL_KINDS, "", everything, ours, theirs, table, rng))
        for kind in often:
            rows = np.flatnonzero(named == kind)
            found.append(_figures(panel, mode, kind, _weights(court.snapshot, kind), rows, ours, theirs, table, rng))
    return found


def _weights(snapshot: WeightSnapshot, kind: str) -> str:
    if snapshot.kinds is None or kind not in snapshot.kinds.by_kind:
        return "none"
    return "own" if snapshot.kinds.by_kind[kind].earned else "shared"


def _figures(
    panel: Panel,
    mode: str,
    kind: str,
    weights: str,
    rows: Ints,
    ours: Verdicts,
    theirs: Verdicts,
    table: VoteTable,
    rng: np.random.Generator,
) -> KindFigures:
    right = _right(ours, table, rows)
    drawn = rng.integers(0, len(rows), (RESAMPLES, len(rows)))
    calls = ours.asked[rows].sum(axis=1).astype(float)
    ece, bound = _calibration(ours.confidence[rows], right, drawn, rng)
    before, _ = _calibration(theirs.confidence[rows], _right(theirs, table, rows), drawn[:0], rng)
    return KindFigures(
        panel=panel.name,
        mode=mode,
        kind=kind,
        n=len(rows),
        weights=weights,
        accuracy=_mean(right, drawn),
        calls=_mean(calls, drawn),
        ece=ece,
        ece_bound=bound,
        vs_global=_mean(right - _right(theirs, table, rows), drawn),
        global_calls=round(float(theirs.asked[rows].sum(axis=1).mean()), 4),
        global_ece=before.value if before is not None else None,
    )


def _right(decisions: Verdicts, table: VoteTable, rows: Ints) -> Floats:
    right: Floats = (decisions.decided[rows] & (decisions.leader[rows] == table.right[rows])).astype(float)
    return right


def _mean(values: Floats, drawn: Ints) -> Estimate:
    return _estimate(float(values.mean()), values[drawn].mean(axis=1))


def _calibration(
    confidence: Floats, right: Floats, drawn: Ints, rng: np.random.Generator
) -> tuple[Estimate | None, float | None]:
    """(calibration error with its interval, the bound of a perfect forecaster) of the questions with a stated confidence."""
    claimed = ~np.isnan(confidence)
    if not claimed.any():
        return None, None
    value = expected_calibration_error(confidence[claimed], right[claimed])
    if not len(drawn):
        return _estimate(value, np.array([value])), None
    again = [
        expected_calibration_error(confidence[draw][kept], right[draw][kept])
        for draw in drawn
        if (kept := claimed[draw]).any()
    ]
    perfect = [
        expected_calibration_error(
            confidence[claimed], (rng.random(int(claimed.sum())) < confidence[claimed]).astype(float)
        )
        for _ in range(RESAMPLES)
    ]
    return _estimate(value, np.array(again)), round(float(np.quantile(perfect, 0.99)), 4)


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value=round(value, 4), low=round(float(low), 4), high=round(float(high), 4))
