"""Made-up crowds: agents that answer by seeded chance, with the accuracy and the company that a test gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cluster.domain.consensus.outcomes import Outcome

OPTIONS = ("a", "b", "c", "d")


def crowd(
    accuracy: Mapping[str, float],
    count: int,
    *,
    seed: int = 0,
    copies: Mapping[str, str] | None = None,
    silent: float = 0.0,
    options: Sequence[str] = OPTIONS,
) -> list[Outcome]:
    """Independent answers, errors spread evenly; ``copies`` answer as the agent they name; ``silent`` abstain at random."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        right = str(rng.choice(options))
        votes: dict[str, str | None] = {}
        for agent, share in accuracy.items():
            wrong = str(rng.choice([option for option in options if option != right]))
            votes[agent] = None if rng.random() < silent else right if rng.random() < share else wrong
        votes.update({agent: votes[original] for agent, original in (copies or {}).items()})
        found.append(Outcome(votes=votes, right=right, options=tuple(options)))
    return found
