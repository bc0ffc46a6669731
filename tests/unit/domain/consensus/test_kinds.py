"""Weights of kinds of questions: which kinds earn them, and that without them everything is as before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from cluster.domain.consensus.aggregate import Aggregation, aggregate, aggregation_from_document, counting_weights
from cluster.domain.consensus.ballots import Ballot, BallotKind, Electorate
from cluster.domain.consensus.calibration import Tilt, TiltedMap, fit_isotonic, fit_tilt
from cluster.domain.consensus.effort import Effort
from cluster.domain.consensus.kinds import MIN_KIND_OUTCOMES
from cluster.domain.consensus.learned import build_snapshot, fit_weights, leave_one_out
from cluster.domain.consensus.likelihood import fit as fit_pulled
from cluster.domain.consensus.likelihood import log_likelihoods, pull_together
from cluster.domain.consensus.outcomes import Outcome, vote_table
from cluster.domain.consensus.rule import ConsensusRule, Mode
from cluster.domain.consensus.snapshot import snapshot_from_document
from tests.support.crowd import crowd

AGENTS = ("counts", "pleads", "third")
MATHS = {"counts": 0.9, "pleads": 0.4, "third": 0.5}
LAW = {"counts": 0.4, "pleads": 0.9, "third": 0.5}


def questions(kind: str | None, accuracy: Mapping[str, float], number: int, seed: int = 0) -> list[Outcome]:
    return [replace(outcome, kind=kind) for outcome in crowd(accuracy, number, seed=seed)]


def test_kinds_that_differ_earn_weights_of_their_own() -> None:
    snapshot = build_snapshot([*questions("maths", MATHS, 300), *questions("law", LAW, 300, seed=1)], AGENTS)
    assert snapshot.schema_version == 2
    assert snapshot.kinds is not None
    maths, law = snapshot.kinds.by_kind["maths"], snapshot.kinds.by_kind["law"]
    assert maths.earned
    assert law.earned
    assert maths.learned["counts"] > 2 * maths.learned["pleads"]
    assert law.learned["pleads"] > 2 * law.learned["counts"]
    assert maths.gain > maths.gain_se > 0
    assert set(snapshot.kinds.calibration) == {"weighted", "learned", "agree_k", *Effort}


def test_kinds_that_do_not_differ_rarely_earn_weights() -> None:
    accuracy = {"counts": 0.7, "pleads": 0.6, "third": 0.5, "fourth": 0.5}
    earned = 0
    for seed in range(20):
        outcomes = [*questions("maths", accuracy, 120, 2 * seed), *questions("law", accuracy, 120, 2 * seed + 1)]
        kinds = build_snapshot(outcomes, tuple(accuracy)).kinds
        assert kinds is not None
        earned += any(kind.earned for kind in kinds.by_kind.values())
    assert earned <= 4


def test_a_kind_without_earned_weights_decides_as_all_questions_do() -> None:
    accuracy = {"counts": 0.8, "pleads": 0.6, "third": 0.4}
    outcomes = [*questions("easy", accuracy, 200), *questions("other", accuracy, 200, seed=1)]
    snapshot = build_snapshot(outcomes, AGENTS)
    assert snapshot.kinds is not None
    shared = {name: kind for name, kind in snapshot.kinds.by_kind.items() if not kind.earned}
    assert shared
    for kind in shared.values():
        ratios = [kind.learned[agent] / snapshot.learned[agent] for agent in AGENTS]
        assert ratios == pytest.approx([ratios[0]] * 3, rel=0.01)


def test_few_outcomes_of_a_kind_change_nothing_at_all() -> None:
    outcomes = questions("maths", MATHS, MIN_KIND_OUTCOMES - 1)
    without = [replace(outcome, kind=None) for outcome in outcomes]
    assert build_snapshot(outcomes, AGENTS).id == build_snapshot(without, AGENTS).id
    assert build_snapshot(outcomes, AGENTS).schema_version == 1


def test_a_document_of_a_build_without_kinds_keeps_its_id() -> None:
    snapshot = build_snapshot(crowd(MATHS, 100), AGENTS)
    document = snapshot.document()
    assert "kinds" not in document
    assert snapshot_from_document(document).id == snapshot.id


def test_a_document_with_kinds_is_read_back_whole() -> None:
    snapshot = build_snapshot([*questions("maths", MATHS, 120), *questions("law", LAW, 120, seed=1)], AGENTS)
    again = snapshot_from_document(snapshot.document())
    assert again == snapshot
    assert again.id == snapshot.id
    assert again.of_kind("maths").learned == snapshot.of_kind("maths").learned != snapshot.learned


def test_an_unknown_kind_is_decided_by_the_snapshot_itself() -> None:
    snapshot = build_snapshot([*questions("maths", MATHS, 120), *questions("law", LAW, 120, seed=1)], AGENTS)
    assert snapshot.of_kind("history") is snapshot
    assert snapshot.of_kind(None) is snapshot
    assert not snapshot.knows("history")


def test_the_cap_of_an_owner_holds_for_weights_of_kinds() -> None:
    agents = (*AGENTS, "fourth", "fifth")
    skills = {"counts": 0.95, "pleads": 0.3, "third": 0.5, "fourth": 0.5, "fifth": 0.4}
    other = {**skills, "counts": 0.4, "pleads": 0.8}
    outcomes = [*questions("maths", skills, 200), *questions("law", other, 200, seed=1)]
    owners = {agent: agent for agent in agents}
    snapshot = build_snapshot(outcomes, agents, owners)
    assert snapshot.knows("maths")
    votes = {agent: Ballot(kind=BallotKind.CHOICE, options=("a",)) for agent in agents}
    asked = Aggregation(
        rule=ConsensusRule(mode=Mode.LEARNED),
        electorate=Electorate(eligible=agents, owners=owners, options=("a", "b")),
        ballots=votes,
        kind="maths",
    )
    weights = counting_weights(asked, snapshot)
    assert max(weights.values()) <= 0.4 * sum(weights.values()) + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_many_outcomes_are_fitted_to_the_optimum_too(seed: int) -> None:
    table = vote_table(crowd({"counts": 0.8, "pleads": 0.6, "third": 0.4}, 6000, seed=seed), AGENTS)
    weights = fit_weights(table)
    best = float(log_likelihoods(table, weights).sum()) - pull_together(3, 1.0).value(weights)
    rng = np.random.default_rng(seed)
    for _ in range(50):
        moved = np.maximum(0.0, weights + rng.normal(scale=rng.choice([1e-2, 0.1]), size=3))
        assert float(log_likelihoods(table, moved).sum()) - pull_together(3, 1.0).value(moved) <= best + 1e-4


def test_leaving_one_out_of_many_is_close_to_leaving_it_out() -> None:
    outcomes = crowd({"counts": 0.8, "pleads": 0.6, "third": 0.4}, 3000)
    table = vote_table(outcomes, AGENTS)
    weights = fit_weights(table)
    quick = leave_one_out(table, weights)
    for out in range(0, 3000, 700):
        rest = table.rows(np.delete(np.arange(3000), out))
        exact = fit_pulled(rest, pull_together(3, 1.0), weights)
        assert quick[out] - weights == pytest.approx(exact - weights, abs=5e-4)


def test_a_tilt_finds_what_sets_a_kind_apart() -> None:
    rng = np.random.default_rng(3)
    stated = rng.uniform(0.2, 0.9, 4000)
    right = rng.random(4000) < 1 / (1 + np.exp(-(np.log(stated / (1 - stated)) - 0.8)))
    tilt = fit_tilt(stated, right, 0.03, 0.05)
    assert tilt.shift == pytest.approx(-0.8, abs=0.15)
    assert tilt.slope == pytest.approx(1.0, abs=0.1)
    assert fit_tilt(stated[:1], right[:1], 0.03, 0.05).shift == pytest.approx(0.0, abs=0.06)


def test_a_tilted_map_says_the_same_of_one_statistic_as_of_many() -> None:
    plain = fit_isotonic([0.1, 0.4, 0.6, 0.9], [0, 0, 1, 1], prior=3)
    tilted = TiltedMap(knots=plain.knots, values=plain.values, trust=plain.trust, tilt=Tilt(1.2, -0.3))
    statistics = np.linspace(0, 1, 21)
    assert [tilted(float(at)) for at in statistics] == pytest.approx(list(tilted.of(statistics)), abs=1e-6)


def _asked(kind: str | None) -> Aggregation:
    votes = {"counts": "a", "pleads": "b", "third": "c"}
    return Aggregation(
        rule=ConsensusRule(mode=Mode.LEARNED),
        electorate=Electorate(eligible=AGENTS, options=("a", "b", "c", "d")),
        ballots={agent: Ballot(kind=BallotKind.CHOICE, options=(vote,)) for agent, vote in votes.items()},
        kind=kind,
    )


def test_the_kind_of_a_question_changes_who_is_followed() -> None:
    snapshot = build_snapshot([*questions("maths", MATHS, 300), *questions("law", LAW, 300, seed=1)], AGENTS)
    maths, law = aggregate(_asked("maths"), snapshot), aggregate(_asked("law"), snapshot)
    assert (maths.decision, law.decision) == ("a", "b")
    assert maths.snapshot_id == law.snapshot_id == snapshot.id
    assert (maths.kind, law.kind) == ("maths", "law")
    assert maths.confidence is not None
    unknown, none = aggregate(_asked("history"), snapshot), aggregate(_asked(None), snapshot)
    assert unknown == none
    assert none.kind is None


def test_an_aggregation_without_a_kind_is_written_as_before() -> None:
    assert "kind" not in _asked(None).document()
    assert aggregation_from_document(_asked("law").document()) == _asked("law")
    assert aggregation_from_document(_asked(None).document()) == _asked(None)
