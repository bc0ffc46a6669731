"""Recorded outcomes: who answered what, and what turned out to be right. The material that weights are fitted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``votes``: option by agent, None where it abstained; an agent that was not asked is missing.

    ``options`` is the closed set of answers where there is one. An outcome whose right answer nobody gave still counts.
    """

    votes: Mapping[str, str | None]
    right: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VoteTable:
    """Outcomes as arrays for a panel: ``votes[n, a]`` is an option's index or -1, ``right[n]`` one, ``options[n]`` a count.

    Index order is the options' own order, and argmax takes the first, so ties fall to the lowest option.
    """

    votes: Ints
    right: Ints
    options: Ints

    def chosen(self) -> Floats:
        """``[n, option, a]`` = 1 where agent a chose the option."""
        width = int(self.options.max(initial=1))
        chosen: Floats = (self.votes[:, None, :] == np.arange(width)[None, :, None]).astype(float)
        return chosen

    def open(self) -> NDArray[np.bool_]:
        """``[n, option]``: the option exists in question n."""
        width = int(self.options.max(initial=1))
        return np.arange(width)[None, :] < self.options[:, None]


def vote_table(outcomes: Sequence[Outcome], agents: Sequence[str]) -> VoteTable:
    votes = np.full((len(outcomes), len(agents)), -1, dtype=np.int64)
    right = np.empty(len(outcomes), dtype=np.int64)
    count = np.empty(len(outcomes), dtype=np.int64)
    for row, outcome in enumerate(outcomes):
        named = {*outcome.options, outcome.right, *(v for v in outcome.votes.values() if v is not None)}
        index_of = {option: index for index, option in enumerate(sorted(named))}
        right[row], count[row] = index_of[outcome.right], len(index_of)
        for column, agent in enumerate(agents):
            option = outcome.votes.get(agent)
            if option is not None:
                votes[row, column] = index_of[option]
    return VoteTable(votes, right, count)
