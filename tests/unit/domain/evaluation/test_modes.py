"""The arrays of the evaluation decide as the engine does: same leader, same confidence, same calls."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.domain.consensus.aggregate import Aggregation, aggregate
from cluster.domain.consensus.ballots import Ballot, Electorate, abstain, choice
from cluster.domain.consensus.effort import Asker, Effort, asking_order
from cluster.domain.consensus.learned import build_snapshot
from cluster.domain.consensus.outcomes import Outcome, vote_table
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.consensus.waves import run_waves
from cluster.domain.evaluation.modes import MODES, Court, collude, verdicts
from tests.support.crowd import OPTIONS, crowd

ACCURACY = {"good": 0.75, "fair": 0.6, "even": 0.6, "poor": 0.35, "bad": 0.2}
AGENTS = tuple(ACCURACY)
ENGINE_MODES = [mode for mode in MODES if mode != "best_single"]


def _ballots(outcome: Outcome) -> dict[str, Ballot]:
    return {agent: abstain() if vote is None else choice(vote) for agent, vote in outcome.votes.items()}


def _by_engine(mode: str, outcome: Outcome, snapshot: WeightSnapshot) -> tuple[str | None, bool, float | None, int]:
    """Ties to the lowest option. Counting rules get no weights (they would break ties by them) but their calibration."""
    ballots, asked = _ballots(outcome), AGENTS
    effort = Effort(mode.removeprefix("effort_")) if mode.startswith("effort_") else None
    mode = mode if effort is None else "agree_k"
    if effort is not None:
        asked = _asked_by(effort, snapshot, ballots)
        ballots = {agent: ballots[agent] for agent in asked}
    elif mode == "agree_k":
        weights = {agent: snapshot.learned[agent] for agent in AGENTS}
        asked = tuple(run_waves(snapshot.order(), lambda agent: ballots[agent].top(), weights))
        ballots = {agent: ballots[agent] for agent in asked}
    rule = ConsensusRule(mode=Mode(mode), tie_break=TieBreak.ALPHA)
    electorate = Electorate(eligible=AGENTS, options=OPTIONS, asked=asked)
    weighs = mode in ("weighted", "learned", "agree_k")
    result = aggregate(
        Aggregation(rule=rule, electorate=electorate, ballots=ballots, effort=effort), snapshot if weighs else None
    )
    confidence = result.confidence
    if not weighs and result.leader is not None:
        confidence = snapshot.calibration["share"](round(result.uncalibrated_share, 9))
    return result.leader, result.reached, confidence, len(asked)


def _asked_by(effort: Effort, snapshot: WeightSnapshot, ballots: dict[str, Ballot]) -> tuple[str, ...]:
    assert snapshot.precedents is not None
    weights = {agent: snapshot.learned[agent] for agent in AGENTS}
    if effort is Effort.ALL:
        return tuple(run_waves(snapshot.order(), lambda agent: ballots[agent].top(), weights, agree_k=0))
    asker = Asker(snapshot.precedents, asking_order(weights, snapshot.order()), weights, None, effort)
    answers: dict[str, str | None] = {}
    waves = 0
    while wave := asker.next(answers, waves):
        answers.update({agent: ballots[agent].top() for agent in wave})
        waves += 1
    return tuple(answers)


@pytest.mark.parametrize("mode", ENGINE_MODES)
@pytest.mark.parametrize("silent", [0.0, 0.4])
def test_arrays_and_engine_agree(mode: str, silent: float) -> None:
    snapshot = build_snapshot(crowd(ACCURACY, 300, silent=silent), AGENTS, owner_cap=None)
    outcomes = crowd(ACCURACY, 250, seed=9, silent=silent)
    outcomes.append(Outcome(votes=dict.fromkeys(AGENTS), right="a", options=OPTIONS))
    found = verdicts(mode, vote_table(outcomes, AGENTS), Court(AGENTS, snapshot, 0, 0.75))
    for row, outcome in enumerate(outcomes):
        leader, reached, confidence, calls = _by_engine(mode, outcome, snapshot)
        assert (OPTIONS[found.leader[row]] if found.leader[row] >= 0 else None) == leader
        assert bool(found.decided[row]) == reached
        assert int(found.asked[row].sum()) == calls
        if confidence is not None:
            assert found.confidence[row] == pytest.approx(confidence, abs=2e-6)


def test_the_best_single_agent_answers_alone() -> None:
    outcomes = crowd(ACCURACY, 50)
    snapshot = build_snapshot(outcomes, AGENTS)
    table = vote_table(outcomes, AGENTS)
    found = verdicts("best_single", table, Court(AGENTS, snapshot, 3, 0.35))
    assert np.array_equal(found.leader, table.votes[:, 3])
    assert found.asked.sum(axis=1).tolist() == [1] * 50


def test_colluders_give_one_wrong_answer() -> None:
    table = vote_table(crowd(ACCURACY, 200), AGENTS)
    attacked = collude(table, (0, 4))
    assert np.array_equal(attacked.votes[:, 0], attacked.votes[:, 4])
    assert not (attacked.votes[:, 0] == table.right).any()
    assert np.array_equal(attacked.votes[:, 1:4], table.votes[:, 1:4])
    # It is the most popular wrong one among the others.
    for votes, right, together in zip(table.votes, table.right, attacked.votes[:, 0], strict=True):
        wrong = [v for v in votes[1:4] if v != right]
        assert not wrong or wrong.count(together) == max(wrong.count(v) for v in wrong)
