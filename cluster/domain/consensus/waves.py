"""Whom to ask next, and when further answers cannot change the decision.

The first wave is the two best agents. If they agree, that is the answer. If not, each further wave is the fewest agents
that could settle it, and wave ``max_waves`` is everybody who is left. Asking stops early, without loss, if the outstanding
weight cannot overturn the leader.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

FIRST_WAVE = 2
MAX_WAVES = 3


def lead(tally: Mapping[str, float]) -> float:
    """Distance of the first option from the second; an option that nobody chose counts as 0."""
    top = sorted(tally.values(), reverse=True)[:2]
    return (top[0] - (top[1] if len(top) > 1 else 0.0)) if top else 0.0


def decided_regardless(tally: Mapping[str, float], outstanding: float, needed: float = 0.0) -> bool:
    """Whether the winner stays the winner and has ``needed``, even if all ``outstanding`` weight goes to one other option.

    Equality is not enough: it would be a tie.
    """
    if not tally or max(tally.values()) < needed:
        return False
    return lead(tally) > outstanding + 1e-9


def next_wave(
    *,
    order: Sequence[str],
    answers: Mapping[str, str | None],
    weights: Mapping[str, float],
    waves: int,
    agree_k: int = FIRST_WAVE,
    max_waves: int = MAX_WAVES,
) -> tuple[str, ...]:
    """The agents to ask now, best first; empty when asking may stop.

    ``answers`` holds everybody who was asked, None for an abstention; ``waves`` counts the waves so far. ``agree_k`` = 0
    leaves only the lossless stop.
    """
    left = [agent for agent in order if agent not in answers]
    if not answers:
        return tuple(left[: max(FIRST_WAVE, agree_k)])
    if not left or _all_agree(answers, agree_k):
        return ()
    tally = tally_of(answers, weights)
    outstanding = math.fsum(weights[agent] for agent in left)
    if decided_regardless(tally, outstanding):
        return ()
    if waves + 1 >= max_waves:
        return tuple(left)
    return tuple(left[: _fewest_to_settle(lead(tally), [weights[agent] for agent in left])])


def run_waves(
    order: Sequence[str],
    answer: Callable[[str], str | None],
    weights: Mapping[str, float],
    agree_k: int = FIRST_WAVE,
    max_waves: int = MAX_WAVES,
) -> dict[str, str | None]:
    """The answers of all agents that the waves would ask, if the answers are known: for calibrating the early stop."""
    answers: dict[str, str | None] = {}
    waves = 0
    while wave := next_wave(
        order=order, answers=answers, weights=weights, waves=waves, agree_k=agree_k, max_waves=max_waves
    ):
        answers.update((agent, answer(agent)) for agent in wave)
        waves += 1
    return answers


def tally_of(answers: Mapping[str, str | None], weights: Mapping[str, float]) -> dict[str, float]:
    votes: dict[str, list[float]] = {}
    for agent, option in answers.items():
        if option is not None:
            votes.setdefault(option, []).append(weights[agent])
    return {option: math.fsum(parts) for option, parts in votes.items()}


def _all_agree(answers: Mapping[str, str | None], k: int) -> bool:
    given = {option for option in answers.values() if option is not None}
    return k > 0 and len(given) == 1 and sum(option is not None for option in answers.values()) >= k


def _fewest_to_settle(ahead: float, weights: Sequence[float]) -> int:
    """How many of these agents it takes, if all answer for the leader, until the others could not catch up."""
    outstanding = math.fsum(weights)
    for asked, weight in enumerate(weights, start=1):
        ahead += weight
        outstanding -= weight
        if ahead > outstanding + 1e-9:
            return asked
    return len(weights)
