"""How rules do on outcomes that they were not learned from: what each is credited with, and whether one beats another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.domain.consensus.calibration import MIN_OUTCOMES, IsotonicMap, fit_isotonic
from cluster.domain.consensus.likelihood import probabilities, scores
from cluster.domain.consensus.outcomes import Floats, VoteTable
from cluster.domain.consensus.waves import run_waves

POSTERIOR_PRIOR = 2000.0  # imaginary outcomes in favour of the learned posterior as it is
#: How many of the newest outcomes calibration follows.
CALIBRATION_OUTCOMES = 5_000


def credit(table: VoteTable, weights: Floats) -> Floats:
    """Per outcome: 1 if the right option wins, its share of the tie if it is tied, else 0."""
    score = scores(table, weights)
    top = (score >= score.max(axis=1, keepdims=True) - 1e-9) & (scores(table, np.ones(table.votes.shape[1])) > 0)
    tied = np.maximum(1, top.sum(axis=1))
    found: Floats = top[np.arange(len(table.right)), table.right] / tied
    return found


def paired(gain: Floats) -> tuple[float, float]:
    """(mean, its standard error) of paired differences."""
    error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf
    return float(gain.mean()), error


def wins(gain: Floats, errors: float = 1.0) -> bool:
    """Whether a rule is better by more than so many standard errors. If only one outcome differs, gain and error are equal; the
    small term keeps rounding from making that a win."""
    mean, error = paired(gain)
    return mean > errors * error + 1e-9


@dataclass(frozen=True, slots=True)
class Claims:
    """A statistic of each outcome from which a confidence is made, and whether the option that it speaks for was right."""

    statistic: Floats
    right: NDArray[np.bool_]


def claims(
    table: VoteTable,
    agents: Sequence[str],
    weights: Floats,
    held_out: Floats,
    odds_held_out: Floats,
    deciding: Floats,
    accuracy: Floats,
    by_effort: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Claims]:
    """What rules claim on outcomes that they were not learned from, under the names of the maps that calibrate them.
    ``weights`` is one vector or one row per outcome; ``deciding`` are the held-out weights of the rule that decides;
    ``by_effort`` says who is asked under each effort, as ``[n, a]``."""
    row = np.arange(len(table.right))
    count = scores(table, np.ones(len(agents)))
    posterior = probabilities(table, held_out)
    by_count, by_odds = count.argmax(axis=1), scores(table, odds_held_out).argmax(axis=1)
    by_learned = posterior.argmax(axis=1)

    def among(asked: NDArray[np.bool_]) -> Claims:
        answered = VoteTable(np.where(asked, table.votes, np.int16(-1)), table.right, table.options)
        leader = scores(answered, deciding).argmax(axis=1)
        return Claims(probabilities(answered, held_out)[row, leader], leader == table.right)

    return {
        "share": Claims(count.max(axis=1) / len(agents), by_count == table.right),
        "weighted": Claims(posterior[row, by_odds], by_odds == table.right),
        "learned": Claims(posterior.max(axis=1), by_learned == table.right),
        "agree_k": among(asked_in_waves(table, agents, weights, accuracy)),
        **{effort: among(asked) for effort, asked in by_effort.items()},
    }


def calibrations(claimed: Mapping[str, Claims]) -> dict[str, IsotonicMap]:
    """Maps from statistics to probabilities. They are fitted on leave-one-out posteriors: in-sample ones would look surer
    than the posteriors of new questions are.

    The posterior of all votes is nearly a probability and is moved only as far as the outcomes warrant. The posterior of
    an early stop is not one, as it lacks the answers of those who were not asked; its map follows the outcomes alone.
    """
    prior = {"weighted": POSTERIOR_PRIOR, "learned": POSTERIOR_PRIOR}
    return {
        name: fit_isotonic(claim.statistic, claim.right.astype(float), prior.get(name, 0.0))
        for name, claim in claimed.items()
        if len(claim.right) >= MIN_OUTCOMES
    }


def asked_in_waves(table: VoteTable, agents: Sequence[str], weights: Floats, accuracy: Floats) -> NDArray[np.bool_]:
    """``[n, a]``: whether the default protocol would have asked agent a about outcome n."""
    order = sorted(range(len(agents)), key=lambda i: (-accuracy[i], agents[i]))
    names = [str(i) for i in order]
    asked = np.zeros(table.votes.shape, dtype=bool)
    same = weights.ndim == 1
    by_name: Mapping[str, float] = (
        dict(zip(map(str, range(len(agents))), weights.tolist(), strict=True)) if same else {}
    )
    for row, votes in enumerate(table.votes.tolist()):
        if not same:
            by_name = {str(i): float(weight) for i, weight in enumerate(weights[row])}
        answers = run_waves(names, lambda name, votes=votes: _named(votes[int(name)]), by_name)  # type: ignore[misc]
        asked[row, [int(name) for name in answers]] = True
    return asked


def _named(option: int) -> str | None:
    return str(option) if option >= 0 else None
