"""Weights learned from outcomes: the optimum, what correlation does to it, and the gate."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.learned import RIDGE, build_snapshot, fit_weights, leave_one_out
from cluster.domain.consensus.outcomes import Floats, Outcome, VoteTable, vote_table
from cluster.domain.consensus.rule import Mode
from tests.support.crowd import crowd

AGENTS = ("good", "fair", "poor")
ACCURACY = {"good": 0.8, "fair": 0.6, "poor": 0.4}


def _negative_log_likelihood(table: VoteTable, weights: Floats) -> float:
    """The definition, outcome by outcome."""
    total = RIDGE * float(np.sum((weights - weights.mean()) ** 2))
    for votes, right, options in zip(table.votes, table.right, table.options, strict=True):
        scores = [math.fsum(w for w, v in zip(weights, votes, strict=True) if v == o) for o in range(options)]
        total -= scores[right] - math.log(math.fsum(math.exp(score) for score in scores))
    return total


def test_the_weights_are_the_optimum_of_the_likelihood() -> None:
    table = vote_table(crowd(ACCURACY, 200, silent=0.1), AGENTS)
    weights = fit_weights(table)
    best = _negative_log_likelihood(table, weights)
    rng = np.random.default_rng(1)
    for _ in range(200):
        moved = np.maximum(0.0, weights + rng.normal(scale=rng.choice([1e-3, 1e-2, 0.3]), size=3))
        assert _negative_log_likelihood(table, moved) >= best - 1e-6
    assert weights[0] > weights[1] > weights[2] >= 0


def test_no_weight_is_negative_even_for_an_agent_that_is_always_wrong() -> None:
    weights = fit_weights(vote_table(crowd({"good": 0.8, "liar": 0.0, "fair": 0.6}, 300), ("good", "liar", "fair")))
    assert weights[1] == 0.0


def test_few_outcomes_give_nearly_equal_weights() -> None:
    few = fit_weights(vote_table(crowd(ACCURACY, 4), AGENTS))
    many = fit_weights(vote_table(crowd(ACCURACY, 2000), AGENTS))
    assert few.max() - few.min() < (many.max() - many.min()) / 2


def test_copies_share_one_weight_where_log_odds_count_them_three_times() -> None:
    outcomes = crowd({"one": 0.6, "other": 0.6}, 1500, copies={"copy": "one", "twin": "one"})
    snapshot = build_snapshot(outcomes, ("one", "copy", "twin", "other"))
    together = snapshot.learned["one"] + snapshot.learned["copy"] + snapshot.learned["twin"]
    assert together == pytest.approx(snapshot.learned["other"], rel=0.25)
    assert snapshot.log_odds["copy"] == pytest.approx(snapshot.log_odds["other"], rel=0.25)


def test_leave_one_out_is_close_to_leaving_each_out() -> None:
    outcomes = crowd(ACCURACY, 60)
    table = vote_table(outcomes, AGENTS)
    quick = leave_one_out(table, fit_weights(table))
    for out in range(0, 60, 7):
        exact = fit_weights(vote_table(outcomes[:out] + outcomes[out + 1 :], AGENTS))
        assert quick[out] == pytest.approx(exact, abs=0.02)


def test_the_gate_needs_a_clear_win() -> None:
    alike = build_snapshot(crowd({"x": 0.6}, 200, copies={"y": "x", "z": "x"}), ("x", "y", "z"))
    assert alike.gate.choice is Mode.PLURALITY, "agents that always agree leave nothing to win"
    strong = build_snapshot(crowd({"x": 0.9, "y": 0.3, "z": 0.3, "u": 0.3}, 300), ("x", "y", "z", "u"))
    assert strong.gate.choice is Mode.LEARNED
    assert strong.gate.gain > strong.gate.gain_se > 0
    assert strong.gate.learned > strong.gate.plurality
    for seed in range(20):
        few = build_snapshot(crowd({"x": 0.6, "y": 0.6, "z": 0.6}, 12, seed=seed), ("x", "y", "z"))
        assert few.gate.choice is Mode.PLURALITY or few.gate.gain > few.gate.gain_se


def test_without_outcomes_nothing_can_be_learned() -> None:
    with pytest.raises(InvalidRequest, match="without outcomes"):
        build_snapshot([], ("x",))
    lonely = build_snapshot([Outcome(votes={"x": "a"}, right="a")], ("x", "y"))
    assert lonely.gate.choice is Mode.PLURALITY
    assert lonely.calibration == {}, "no calibration is claimed below 50 outcomes"


def test_a_snapshot_repeats_bit_for_bit() -> None:
    outcomes = crowd(ACCURACY, 120)
    assert build_snapshot(outcomes, AGENTS).id == build_snapshot(list(outcomes), AGENTS).id
    changed = [replace(outcomes[0], right="b" if outcomes[0].right == "a" else "a"), *outcomes[1:]]
    assert build_snapshot(changed, AGENTS).id != build_snapshot(outcomes, AGENTS).id


def test_the_best_record_is_asked_first() -> None:
    assert build_snapshot(crowd(ACCURACY, 200), AGENTS).order() == ["good", "fair", "poor"]


def test_the_owner_cap_applies_to_gate_and_calibration_too() -> None:
    accuracy = {"s1": 0.9, "s2": 0.9, "x": 0.5, "y": 0.5, "z": 0.5}
    owners = {"s1": "one", "s2": "one", "x": "two", "y": "three", "z": "four"}
    outcomes = crowd(accuracy, 300)
    free = build_snapshot(outcomes, tuple(accuracy))
    capped = build_snapshot(outcomes, tuple(accuracy), owners)
    assert capped.learned == free.learned, "the snapshot keeps what was learned; the cap is applied where it is used"
    assert capped.gate.learned < free.gate.learned
    assert capped.owner_cap == 0.4


def test_a_fit_of_many_outcomes_holds_no_row_of_weights_for_each() -> None:
    agents = tuple(f"agent-{number}" for number in range(100))
    outcomes = [
        replace(outcome, kind="xy"[number % 2])
        for number, outcome in enumerate(crowd({agent: 0.3 + 0.005 * n for n, agent in enumerate(agents)}, 200) * 150)
    ]
    tracemalloc.start()
    try:
        build_snapshot(outcomes, agents)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    row_each = len(outcomes) * len(agents) * 8
    print(f"{peak / 1e6:.1f} MB, {row_each / 1e6:.0f} of them for a row of weights each")
    assert peak < 1.5 * row_each


@pytest.mark.parametrize("mode", ["share", "weighted", "learned", "agree_k"])
def test_confidence_holds_on_outcomes_that_were_not_fitted(mode: str) -> None:
    accuracy = {"v": 0.75, "w": 0.7, "x": 0.6, "y": 0.5, "z": 0.4}
    snapshot = build_snapshot(crowd(accuracy, 1500), tuple(accuracy))
    assert snapshot.calibration[mode].outcomes == 1500
    values = snapshot.calibration[mode].values
    assert list(values) == sorted(values)
