"""Past questions as patterns of who answered alike: what asking further agents has been worth after answers like these.

The learned weights say how votes count, not what a further vote brings: two agents that always err together share their
weight, yet the second one never changes a decision for the better. A model of the answers (Dawid and Skene's, or a tree of
pairs) was rejected: counting past questions needs no assumption on how errors go together, and a pattern names no answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cluster.domain.consensus.outcomes import Floats, VoteTable

#: Agents that a pattern holds, the heaviest ones: of more, sets of two are too many and patterns alike too few.
MAX_COLUMNS = 8
#: The newest outcomes that patterns are kept of.
MAX_PRECEDENTS = 2_500
NO_ANSWER, NOBODY = "-", "."
_FIRST = ord("a")

Letters = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Precedents:
    """``counts``: how often each pattern came up, by kind of question ("" if nobody said). A pattern has a letter per agent of
    ``agents``, the same one for the same answer, ``-`` for none; and the right answer's letter, ``.`` if nobody gave it."""

    agents: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]

    @cached_property
    def arrays(self) -> Patterns:
        rows = [
            (pattern, kind, count)
            for kind, found in sorted(self.counts.items())
            for pattern, count in sorted(found.items())
        ]
        width = len(self.agents) + 1
        letters = np.frombuffer("".join(pattern for pattern, _, _ in rows).encode(), dtype=np.uint8)
        found = letters.reshape(-1, width).astype(np.int64) - _FIRST
        return Patterns(
            votes=np.where(found[:, :-1] < 0, -1, found[:, :-1]),
            right=np.where(found[:, -1] < 0, -1, found[:, -1]),
            count=np.array([count for _, _, count in rows], dtype=float),
            kind=np.array([kind for _, kind, _ in rows], dtype=object),
        )


@dataclass(frozen=True, slots=True)
class Patterns:
    """``votes[n, column]`` and ``right[n]`` are letters as numbers, -1 for none; ``count[n]`` says how often it came up."""

    votes: Letters
    right: Letters
    count: Floats
    kind: NDArray[np.object_]


def lettered(answers: Sequence[object]) -> tuple[int, ...]:
    """Equal answers as equal numbers, in the order in which they first come; -1 for None."""
    known: dict[object, int] = {}
    return tuple(-1 if answer is None else known.setdefault(answer, len(known)) for answer in answers)


def precedents_of(
    table: VoteTable, agents: Sequence[str], kinds: Sequence[str | None], importance: Floats
) -> Precedents:
    """The patterns of the newest outcomes, of the agents of the most ``importance``."""
    columns = sorted(range(len(agents)), key=lambda i: (-importance[i], agents[i]))[:MAX_COLUMNS]
    first = max(0, len(table.right) - MAX_PRECEDENTS)
    counts: dict[str, Counter[str]] = {}
    votes, right = table.votes[first:][:, columns].tolist(), table.right[first:].tolist()
    for answers, truth, kind in zip(votes, right, kinds[first:], strict=True):
        letters = lettered([None if answer < 0 else answer for answer in answers])
        of_truth = letters[answers.index(truth)] if truth in answers else -1
        pattern = "".join(NO_ANSWER if letter < 0 else chr(_FIRST + letter) for letter in letters)
        counts.setdefault(kind or "", Counter())[pattern + (NOBODY if of_truth < 0 else chr(_FIRST + of_truth))] += 1
    return Precedents(
        agents=tuple(agents[i] for i in columns),
        counts={kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())},
    )
