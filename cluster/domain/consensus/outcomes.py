"""Recorded outcomes: who answered what, and what turned out to be right. The material that weights are fitted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Votes = NDArray[np.int16]  # of 10^5 outcomes of 100 agents they take 20 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``votes``: option by agent, None where it abstained; an agent that was not asked is missing.

    ``options`` is the closed set of answers where there is one. An outcome whose right answer nobody gave still counts.
    ``kind`` is what kind of question it was, None if nobody said.
    """

    votes: Mapping[str, str | None]
    right: str
    options: tuple[str, ...] = ()
    kind: str | None = None

    def known(self) -> list[str]:
        """Every option that could be chosen, was, or is right, in the order of a table's indices."""
        named = {*self.options, self.right, *self.votes.values()}
        return sorted(option for option in named if option is not None)


@dataclass(frozen=True, slots=True)
class VoteTable:
    """Outcomes as arrays for a panel: ``votes[n, a]`` is an option's index or -1, ``right[n]`` one, ``options[n]`` a count.

    Index order is the options' own order, and argmax takes the first, so ties fall to the lowest option.
    """

    votes: Votes
    right: Ints
    options: Ints

    def width(self) -> int:
        """The most options of any question."""
        return int(self.options.max(initial=1))

    def chosen(self) -> Floats:
        """``[n, option, a]`` = 1 where agent a chose the option."""
        chosen: Floats = (self.votes[:, None, :] == np.arange(self.width())[None, :, None]).astype(float)
        return chosen

    def open(self) -> NDArray[np.bool_]:
        """``[n, option]``: the option exists in question n."""
        return np.arange(self.width())[None, :] < self.options[:, None]

    def rows(self, which: Ints | NDArray[np.bool_] | slice) -> VoteTable:
        """The table of these outcomes alone."""
        return VoteTable(self.votes[which], self.right[which], self.options[which])


@dataclass(frozen=True, slots=True)
class SomeRows:
    """Rows of an array with one row per outcome, kept for those outcomes alone that are needed: of 10^5 outcomes of 100 agents
    all rows take 80 MB. ``indices`` says which, ascending."""

    indices: Ints
    values: Floats

    def of(self, which: Ints) -> Floats:
        """The rows of these outcomes, all of which are kept."""
        found: Floats = self.values[np.searchsorted(self.indices, which)]
        return found


def vote_table(outcomes: Sequence[Outcome], agents: Sequence[str]) -> VoteTable:
    votes = np.empty((len(outcomes), len(agents)), dtype=np.int16)
    right = np.empty(len(outcomes), dtype=np.int64)
    count = np.empty(len(outcomes), dtype=np.int64)
    for row, outcome in enumerate(outcomes):
        known = outcome.known()
        index_of: dict[str | None, int] = {option: index for index, option in enumerate(known)}
        right[row], count[row] = index_of[outcome.right], len(known)
        index_of[None] = -1
        votes[row] = [index_of[option] for option in map(outcome.votes.get, agents)]
    return VoteTable(votes, right, count)
