"""The alarms, measured: how soon a sleeper is caught, how often an honest agent is accused."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from cluster.domain.consensus.drift import (
    WINDOW,
    AlarmKind,
    Record,
    accuracy_alarm,
    beta_binomial_tail,
    collusion_alarms,
    drift_alarms,
)
from cluster.domain.consensus.outcomes import Outcome
from tests.support.crowd import OPTIONS, crowd

KNOWN = 500  # outcomes on record before the window


@cache
def _alarmed(right: int, given: int, length: int, hits: int) -> bool:
    window = [True] * hits + [False] * (length - hits)
    return accuracy_alarm("x", Record(right=right, given=given), window) is not None


def test_the_tail_is_a_probability_that_adds_up() -> None:
    for right, wrong, trials in ((0, 0, 10), (300, 200, 60), (3, 1, 30)):
        whole = beta_binomial_tail(0, trials, right, wrong, upper=True)
        assert whole == pytest.approx(1.0)
        below, above = (
            beta_binomial_tail(4, trials, right, wrong, upper=False),
            beta_binomial_tail(5, trials, right, wrong, upper=True),
        )
        assert below + above == pytest.approx(1.0)


def test_honest_agents_are_rarely_accused_in_a_thousand_outcomes() -> None:
    """2,000 agents of constant accuracy, each tested at every one of 1,000 outcomes against what was known before."""
    rng = np.random.default_rng(5)
    accused, agents = 0, 2_000
    for number in range(agents):
        accuracy = (0.3, 0.5, 0.7, 0.9)[number % 4]
        record = int(rng.binomial(KNOWN, accuracy))
        right = rng.random(1_000) < accuracy
        sums = np.concatenate(([0], np.cumsum(right)))
        hits = [(min(n, WINDOW), int(sums[n] - sums[max(0, n - WINDOW)])) for n in range(WINDOW // 2, 1_001)]
        accused += any(_alarmed(record, KNOWN, length, count) for length, count in set(hits))
    print(f"false alarms: {accused} of {agents} agents in 1,000 outcomes each = {accused / agents:.2%}")
    assert accused / agents < 0.01


@pytest.mark.parametrize("accuracy", [0.35, 0.5, 0.7, 0.9])
def test_a_sleeper_is_flagged_within_100_outcomes(accuracy: float) -> None:
    """Good on record, then always wrong together with its kind; measured at every outcome after it turned."""
    rng = np.random.default_rng(7)
    needed = []
    for _ in range(200):
        record = Record(right=int(rng.binomial(KNOWN, accuracy)), given=KNOWN)
        before = list(rng.random(WINDOW) < accuracy)
        for turned in range(1, 101):
            window = (before + [False] * turned)[-WINDOW:]
            if accuracy_alarm("x", record, window) is not None:
                needed.append(turned)
                break
    print(f"sleeper of accuracy {accuracy}: flagged after {np.median(needed):.0f} (median), {max(needed)} (most)")
    assert len(needed) == 200


def test_an_unlikely_improvement_is_reported_too() -> None:
    alarm = accuracy_alarm("x", Record(right=150, given=500), [True] * WINDOW)
    assert alarm is not None
    assert (alarm.kind, alarm.observed, alarm.expected) == (AlarmKind.ACCURACY_ROSE, 1.0, 0.3)


def test_too_few_outcomes_raise_no_alarm() -> None:
    assert accuracy_alarm("x", Record(right=0, given=0), [False] * WINDOW) is None
    assert accuracy_alarm("x", Record(right=450, given=500), [False] * (WINDOW // 2 - 1)) is None
    # Two right answers on record say little about an agent: half a window of errors is no proof that it changed.
    assert accuracy_alarm("x", Record(right=2, given=2), [False] * 30) is None


def test_drift_reads_each_agents_last_answers() -> None:
    outcomes = [Outcome(votes={"x": "b", "y": "a", "z": None}, right="a")] * 70
    records = {name: Record(right=350, given=500) for name in ("x", "y", "z")}
    alarms = {alarm.agents[0]: alarm.kind for alarm in drift_alarms(records, outcomes)}
    assert alarms == {"x": AlarmKind.ACCURACY_FELL, "y": AlarmKind.ACCURACY_ROSE}


ACCURACY = {"p": 0.7, "q": 0.65, "r": 0.6, "s": 0.6, "t": 0.55}


def _colluding(outcomes: list[Outcome], pair: tuple[str, str]) -> list[Outcome]:
    """Where both are wrong anyway, they now give the same wrong answer: their accuracy shows nothing."""
    found = []
    for outcome in outcomes:
        votes = dict(outcome.votes)
        if votes[pair[0]] != outcome.right != votes[pair[1]]:
            votes[pair[1]] = votes[pair[0]]
        found.append(Outcome(votes=votes, right=outcome.right, options=outcome.options))
    return found


def test_a_pair_that_errs_together_is_found_and_no_other() -> None:
    outcomes = _colluding(crowd(ACCURACY, 400, seed=2), ("r", "t"))
    alarms = collusion_alarms(outcomes, tuple(ACCURACY))
    assert [alarm.agents for alarm in alarms] == [("r", "t")]
    assert alarms[0].observed == 1.0
    assert alarms[0].expected < 0.75


def test_panels_without_collusion_are_not_accused() -> None:
    """Errors that coincide by chance, and errors that all agents share to a degree."""
    accused = 0
    for seed in range(60):
        rng = np.random.default_rng(1_000 + seed)
        outcomes = []
        for outcome in crowd(ACCURACY, 200, seed=seed):
            trap = str(rng.choice([option for option in OPTIONS if option != outcome.right]))
            votes = {
                agent: trap if vote != outcome.right and rng.random() < 0.5 else vote
                for agent, vote in outcome.votes.items()
            }
            outcomes.append(Outcome(votes=votes, right=outcome.right, options=outcome.options))
        accused += bool(collusion_alarms(outcomes, tuple(ACCURACY)))
    print(f"collusion alarms on honest panels: {accused} of 60 panels of 5, 200 outcomes each")
    assert accused == 0
