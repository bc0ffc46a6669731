"""Two alarms on recorded outcomes: an agent that became worse (or suspiciously better), a pair that errs together.

The first compares a sliding window with the record before it by a beta-binomial tail, which is wider where the record is
short; the second compares a pair with the other pairs of the panel by a binomial tail. A window is tested again at every
outcome, so the level is set far below the rate of false alarms that is wanted (measured below 1 % per agent in 1,000
outcomes at the default level).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from cluster.domain.consensus.outcomes import Outcome

#: Answers of an agent that are compared with its record.
WINDOW = 60
#: An alarm is raised if what was seen is less probable than this without a change.
LEVEL = 1e-5
#: Outcomes that both agents of a pair got wrong before the pair is judged.
MIN_BOTH_WRONG = 12
#: How much more often than the panel's pairs usually do a pair may agree on a wrong answer.
COLLUSION_MARGIN = 0.25


class AlarmKind(StrEnum):
    ACCURACY_FELL = "accuracy_fell"
    ACCURACY_ROSE = "accuracy_rose"
    COLLUSION = "collusion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """``observed`` and ``expected`` are rates; ``tail`` is the probability of so extreme a window without a change."""

    kind: AlarmKind
    agents: tuple[str, ...]
    observed: float
    expected: float
    tail: float
    outcomes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Right answers among answers given, before the window."""

    right: int
    given: int


def beta_binomial_tail(hits: int, trials: int, right: float, wrong: float, upper: bool) -> float:
    """P(X >= hits) or P(X <= hits) for X from ``trials`` draws after ``right`` and ``wrong`` earlier ones (Jeffreys prior)."""
    a, b = right + 0.5, wrong + 0.5
    whole = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) - math.lgamma(trials + a + b)

    def probability(k: int) -> float:
        ways = math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        return math.exp(ways + math.lgamma(k + a) + math.lgamma(trials - k + b) + whole)

    return math.fsum(probability(k) for k in (range(hits, trials + 1) if upper else range(hits + 1)))


def accuracy_alarm(agent: str, before: Record, window: Sequence[bool], level: float = LEVEL) -> Alarm | None:
    """Compares the last answers of one agent (True: it was right) with its record. None if nothing has changed."""
    if len(window) < WINDOW // 2 or before.given == 0:
        return None
    hits, expected = sum(window), before.right / before.given
    upper = hits / len(window) > expected
    tail = beta_binomial_tail(hits, len(window), before.right, before.given - before.right, upper)
    if tail >= level:
        return None
    kind = AlarmKind.ACCURACY_ROSE if upper else AlarmKind.ACCURACY_FELL
    return Alarm(
        kind=kind,
        agents=(agent,),
        observed=hits / len(window),
        expected=expected,
        tail=tail,
        outcomes=len(window),
    )


def drift_alarms(
    before: Mapping[str, Record], recent: Sequence[Outcome], window: int = WINDOW, level: float = LEVEL
) -> list[Alarm]:
    """At most one alarm per agent, over its last ``window`` answers in ``recent`` (oldest first)."""
    found = []
    for agent, record in sorted(before.items()):
        answered = [o.votes[agent] == o.right for o in recent if o.votes.get(agent) is not None][-window:]
        alarm = accuracy_alarm(agent, record, answered, level)
        if alarm is not None:
            found.append(alarm)
    return found


def collusion_alarms(
    recent: Sequence[Outcome], agents: Sequence[str], level: float = LEVEL, margin: float = COLLUSION_MARGIN
) -> list[Alarm]:
    """Pairs whose wrong answers are the same far more often than those of the other pairs.

    Models make the same errors to some degree, so a pair is compared with the median rate of the panel's pairs plus
    ``margin``, and not with chance.
    """
    counts = {pair: _wrong_together(recent, *pair) for pair in combinations(sorted(agents), 2)}
    counts = {pair: (same, both) for pair, (same, both) in counts.items() if both >= MIN_BOTH_WRONG}
    if len(counts) < 3:
        return []
    rates = sorted(same / both for same, both in counts.values())
    expected = min(0.95, rates[(len(rates) - 1) // 2] + margin)
    found = []
    for pair, (same, both) in counts.items():
        tail = _binomial_upper_tail(same, both, expected)
        if tail * len(counts) < level:
            found.append(
                Alarm(
                    kind=AlarmKind.COLLUSION,
                    agents=pair,
                    observed=same / both,
                    expected=expected,
                    tail=tail,
                    outcomes=both,
                )
            )
    return found


def _wrong_together(recent: Sequence[Outcome], agent: str, other: str) -> tuple[int, int]:
    """(outcomes in which both gave the same wrong answer, outcomes in which both were wrong)"""
    same = both = 0
    for outcome in recent:
        first, second = outcome.votes.get(agent), outcome.votes.get(other)
        if first is not None and second is not None and outcome.right not in (first, second):
            both += 1
            same += first == second
    return same, both


def _binomial_upper_tail(hits: int, trials: int, rate: float) -> float:
    return math.fsum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(hits, trials + 1))
