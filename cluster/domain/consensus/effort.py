"""Whom to ask next by expected gain: how likely a further answer is to put the decision right, against its price.

After each answer, the past questions on which the same agents agreed and differed in the same way say how many more
decisions would have been right, had others been asked too. The set of agents with the most gain per cost is asked, one agent at
a time, for as long as that gain is worth it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cluster.domain.consensus.outcomes import Floats
from cluster.domain.consensus.precedents import Precedents, lettered
from cluster.domain.consensus.waves import MAX_WAVES, decided_regardless, next_wave, tally_of


class Effort(StrEnum):
    """How much loss is accepted for fewer calls. Docs print this table."""

    LEAST = "least"
    DEFAULT = "default"
    ALL = "all"


EFFORTS: Final = {
    Effort.LEAST: "one answer may do; another agent is asked if that puts at least 10 decisions in 1,000 right",
    Effort.DEFAULT: "one answer may do; another agent is asked if that puts at least 3 decisions in 1,000 right",
    Effort.ALL: "everybody is asked, until the answers still outstanding cannot change the decision: nothing is lost",
}
#: The gain in right decisions per call (at the panel's mean price) for which another agent is asked: chosen by
#: cross-validation on recorded answers.
LEAST_GAIN: Final = {Effort.LEAST: 0.01, Effort.DEFAULT: 0.003}
#: How much a past question of another kind counts, if something was learned of this kind.
OTHER_KIND = 0.1
#: With fewer past questions like this one, asking goes on as without them: no gain that was seen is no proof of none.
MIN_ALIKE = 40.0
#: Imaginary past questions on which nothing was gained.
PRIOR = 2.0
#: Sets of agents that are weighed: all of so many members, and the heaviest ones beyond that.
_DEPTH = 2
_EPSILON = 1e-9
#: Weightless votes count among themselves.
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Asker:
    """Chooses among the agents of ``order``, which has the heaviest first. ``weights``: what their votes count; ``kind`` is
    None if nothing was learned of the question's kind; ``costs``: price of a call, where 1 is the panel's mean."""

    precedents: Precedents
    order: tuple[str, ...]
    weights: Mapping[str, float]
    kind: str | None
    effort: Effort
    costs: Mapping[str, float] = field(default_factory=dict)
    _kept: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[str, ...] | None] = field(default_factory=dict)
    _credits: dict[tuple[str, ...], Floats] = field(default_factory=dict)

    def next(
        self, answers: Mapping[str, str | None], waves: int, agree_k: int = 2, at_least: int = 1
    ) -> tuple[str, ...]:
        """The agents to ask now; empty when asking may stop. ``answers`` holds everybody who was asked, None for an
        abstention; ``at_least`` answers are waited for, whatever they are."""
        left = [agent for agent in self.order if agent not in answers]
        given = sum(option is not None for option in answers.values())
        if given < at_least:
            return tuple(left[: at_least - given])
        tally = tally_of(answers, self.weights)
        if not left or decided_regardless(tally, math.fsum(self.weights[agent] for agent in left)):
            return ()
        asked = tuple(sorted(answers))
        key = (asked, lettered([answers[agent] for agent in asked]))
        if key not in self._kept:
            self._kept[key] = self._worth_asking(*key)
        found = self._kept[key]
        if found is None:
            return next_wave(order=self.order, answers=answers, weights=self.weights, waves=waves, agree_k=agree_k)
        # Each wave takes the time of a call, so after a few all who are worth it are asked at once.
        return found if waves >= MAX_WAVES else found[:1]

    def _worth_asking(self, asked: tuple[str, ...], letters: tuple[int, ...]) -> tuple[str, ...] | None:
        """The set of agents with the most gain per cost, the best first; empty if none is worth it; None if there are too
        few past questions to say."""
        known = [agent for agent in self.precedents.agents if agent in self.weights]
        left = [agent for agent in self.order if agent in known and agent not in asked]
        alike = self._alike(asked, letters)
        if alike.sum() < MIN_ALIKE or not left:
            return None
        now = self._credit(asked)
        best: tuple[str, ...] = ()
        most = LEAST_GAIN[self.effort] - _EPSILON
        for others in self._sets(left):
            gained = float(alike @ (self._credit((*asked, *others)) - now)) / (float(alike.sum()) + PRIOR)
            rate = gained / math.fsum(self._cost(agent) for agent in others)
            if rate > most + _EPSILON:
                best, most = others, rate
        return tuple(sorted(best, key=lambda agent: (-self.weights[agent] / self._cost(agent), agent)))

    def _sets(self, left: Sequence[str]) -> list[tuple[str, ...]]:
        found = [others for size in range(1, _DEPTH + 1) for others in combinations(left, size)]
        return found + [tuple(left[:size]) for size in range(_DEPTH + 1, len(left) + 1)]

    def _cost(self, agent: str) -> float:
        return self.costs.get(agent, 1.0)

    def _alike(self, asked: Sequence[str], letters: Sequence[int]) -> Floats:
        """How much each past pattern counts: not at all, unless the same of these agents agreed there."""
        patterns, column = self.precedents.arrays, self._columns()
        same: NDArray[np.bool_] = np.ones(len(patterns.right), dtype=bool)
        seen: list[tuple[int, int]] = []
        for agent, letter in zip(asked, letters, strict=True):
            if agent not in column:
                continue
            votes = patterns.votes[:, column[agent]]
            same &= (votes < 0) == (letter < 0)
            for other, its in seen if letter >= 0 else ():
                same &= (votes == patterns.votes[:, other]) == (letter == its)
            if letter >= 0:
                seen.append((column[agent], letter))
        counted: Floats = patterns.count * same
        if self.kind is not None:
            counted = counted * np.where(patterns.kind == self.kind, 1.0, OTHER_KIND)
        return counted

    def _credit(self, asked: Sequence[str]) -> Floats:
        """Of each past pattern: 1 if the votes of these agents decide for the right answer, its share of a tie, else 0."""
        name = tuple(sorted(asked))
        if name not in self._credits:
            patterns, column = self.precedents.arrays, self._columns()
            rows = np.arange(len(patterns.right))
            score = np.zeros((len(rows), len(self.precedents.agents) + 1))
            for agent in name:
                if agent in column:
                    # The last column takes those who gave no answer.
                    score[rows, patterns.votes[:, column[agent]]] += self.weights.get(agent, 0.0) + _LEAST_WEIGHT
            score[:, -1] = 0.0
            top = (score >= score.max(axis=1, keepdims=True) - _EPSILON) & (score > 0)
            right = top[rows, patterns.right] & (patterns.right >= 0)
            self._credits[name] = right / np.maximum(1, top.sum(axis=1))
        return self._credits[name]

    def _columns(self) -> dict[str, int]:
        return {agent: index for index, agent in enumerate(self.precedents.agents)}


def asking_order(weights: Mapping[str, float], agents: Sequence[str]) -> tuple[str, ...]:
    """The heaviest first; of equals the one that comes first in ``agents``."""
    return tuple(sorted(agents, key=lambda agent: -weights[agent]))


def relative_costs(prices: Mapping[str, float]) -> dict[str, float]:
    """Prices with a mean of 1, none below a tenth or above ten; nothing if some agent has none: then all cost the same."""
    if not prices or min(prices.values()) <= 0:
        return {}
    mean = math.fsum(prices.values()) / len(prices)
    return {agent: min(10.0, max(0.1, price / mean)) for agent, price in prices.items()}
