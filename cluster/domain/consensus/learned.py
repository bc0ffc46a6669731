"""Weights learned from outcomes: a conditional logit over the options (McFadden 1974), gated and calibrated.

score(option) = sum of w_i over agents i that chose it, w_i >= 0; the w maximise the likelihood of the right options under
softmax, with a ridge that pulls them to their common mean, so that a few outcomes give nearly equal weights and many give
each agent what it adds beyond the others. Correlated agents share their weight instead of counting twice, which is what
log-odds weights get wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.calibration import MIN_OUTCOMES, IsotonicMap, fit_isotonic
from cluster.domain.consensus.outcomes import Floats, Outcome, VoteTable, vote_table
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import Gate, WeightSnapshot
from cluster.domain.consensus.waves import run_waves
from cluster.domain.consensus.weights import DEFAULT_OWNER_CAP, cap_owner_shares, log_odds

RIDGE = 1.0  # on the sum over outcomes, so its pull fades as outcomes accumulate
POSTERIOR_PRIOR = 2000.0  # imaginary outcomes in favour of the learned posterior as it is
_MAX_STEPS = 100
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class _Design:
    chosen: Floats
    open: NDArray[np.bool_]
    right: Floats  # chosen[n, right option]


def fit_weights(table: VoteTable, ridge: float = RIDGE) -> Floats:
    """The maximum, by Newton steps on the free weights with the others held at zero (Bertsekas 1982). Deterministic."""
    design = _design(table)
    weights = np.ones(table.votes.shape[1])
    value, gradient = _loss(design, weights, ridge)
    tolerance = 1e-7 * max(1, len(table.right))
    for _ in range(_MAX_STEPS):
        free = (weights > 0) | (gradient < 0)
        if not free.any() or float(np.abs(gradient[free]).max()) < tolerance:
            break
        curvature = _curvature(design, weights, ridge)[np.ix_(free, free)]
        step = np.zeros_like(weights)
        step[free] = -np.linalg.solve(curvature + 1e-9 * np.eye(int(free.sum())), gradient[free])
        length = 1.0
        while True:
            moved = np.maximum(0.0, weights + length * step)
            moved_value, moved_gradient = _loss(design, moved, ridge)
            if moved_value <= value + 1e-4 * float(gradient @ (moved - weights)) or length < 1e-6:
                break
            length /= 2
        if moved_value >= value:
            break
        weights, value, gradient = moved, moved_value, moved_gradient
    return weights


def leave_one_out(table: VoteTable, weights: Floats, ridge: float = RIDGE) -> Floats:
    """``[n, a]``: the weights without outcome n, by one Newton step from the optimum (approximate leave-one-out)."""
    design = _design(table)
    total = _curvature(design, weights, ridge)
    free = weights > 1e-9
    without = np.tile(weights, (len(table.right), 1))
    if not free.any():
        return without
    for start in range(0, len(table.right), _CHUNK):
        rows = slice(start, start + _CHUNK)
        chosen, probability = (
            design.chosen[rows],
            _probabilities(design.chosen[rows], design.open[rows], weights),
        )
        mean = np.einsum("noa,no->na", chosen, probability)
        spread = chosen * np.sqrt(probability)[:, :, None]
        own = np.einsum("noa,nob->nab", spread, spread) - mean[:, :, None] * mean[:, None, :]
        rest = (total[None] - own)[:, free][:, :, free] + 1e-9 * np.eye(int(free.sum()))
        pull = (mean - design.right[rows])[:, free]
        without[rows, free] += np.linalg.solve(rest, pull[:, :, None])[:, :, 0]
    return np.maximum(without, 0.0)


def build_snapshot(
    outcomes: Sequence[Outcome],
    agents: Sequence[str],
    owners: Mapping[str, str] | None = None,
    owner_cap: float | None = DEFAULT_OWNER_CAP,
    ridge: float = RIDGE,
) -> WeightSnapshot:
    """Fits, gates and calibrates for one panel. Raises: ``InvalidRequest`` if there are no outcomes or no agents."""
    if not outcomes or not agents:
        raise InvalidRequest("Weights cannot be learned without outcomes and agents.", "no_outcomes")
    table = vote_table(outcomes, agents)
    weights = fit_weights(table, ridge)
    correct, given = _answered(table)
    options = float(table.options.mean())
    accuracy = (correct + 0.5) / (given + 1.0)
    capped = _capped(weights, agents, owners or {}, owner_cap)
    held_out = leave_one_out(table, weights, ridge)
    if not np.allclose(capped, weights):
        held_out = np.array([_capped(row, agents, owners or {}, owner_cap) for row in held_out])
    odds = np.array([log_odds(float(share), options) for share in accuracy])
    odds_held_out = _log_odds_held_out(table, correct, given, options)
    gate = _gate(table, held_out, odds_held_out)
    return WeightSnapshot(
        learned=_by_agent(agents, weights),
        log_odds=_by_agent(agents, odds),
        accuracy=_by_agent(agents, accuracy),
        gate=gate,
        owner_cap=owner_cap,
        ridge=ridge,
        outcomes=len(outcomes),
        outcomes_digest=canonical_sha256(
            [
                [agents[i] for i in range(len(agents))],
                table.votes.tolist(),
                table.right.tolist(),
                table.options.tolist(),
            ]
        ),
        calibration=_calibrations(table, agents, capped, held_out, odds_held_out, accuracy, gate.choice),
    )


# --- the likelihood ---------------------------------------------------------------------------------------------------


def _design(table: VoteTable) -> _Design:
    chosen = table.chosen()
    return _Design(chosen, table.open(), chosen[np.arange(len(table.right)), table.right])


def _probabilities(chosen: Floats, open_: NDArray[np.bool_], weights: Floats) -> Floats:
    """Softmax of the scores over the options that exist. ``weights`` is one vector, or one row per outcome."""
    score = chosen @ weights if weights.ndim == 1 else np.einsum("noa,na->no", chosen, weights)
    score = np.where(open_, score, -np.inf)
    grown = np.exp(score - score.max(axis=1, keepdims=True))
    probabilities: Floats = grown / grown.sum(axis=1, keepdims=True)
    return probabilities


def _loss(design: _Design, weights: Floats, ridge: float) -> tuple[float, Floats]:
    score = np.where(design.open, design.chosen @ weights, -np.inf)
    top = score.max(axis=1, keepdims=True)
    grown = np.exp(score - top)
    total = grown.sum(axis=1, keepdims=True)
    apart = weights - weights.mean()
    value = float(np.sum(np.log(total) + top) - np.sum(design.right @ weights) + ridge * (apart @ apart))
    expected = np.einsum("noa,no->a", design.chosen, grown / total)
    return value, expected - design.right.sum(axis=0) + 2 * ridge * apart


def _curvature(design: _Design, weights: Floats, ridge: float) -> Floats:
    probability = _probabilities(design.chosen, design.open, weights)
    agents = design.chosen.shape[2]
    mean = np.einsum("noa,no->na", design.chosen, probability)
    spread = (design.chosen * np.sqrt(probability)[:, :, None]).reshape(-1, agents)
    centred = np.eye(agents) - np.full((agents, agents), 1.0 / agents)
    curvature: Floats = spread.T @ spread - mean.T @ mean + 2 * ridge * centred
    return curvature


# --- the gate ---------------------------------------------------------------------------------------------------------


def _answered(table: VoteTable) -> tuple[Floats, Floats]:
    right = (table.votes == table.right[:, None]).astype(float)
    return right.sum(axis=0), (table.votes >= 0).sum(axis=0).astype(float)


def _log_odds_held_out(table: VoteTable, correct: Floats, given: Floats, options: float) -> Floats:
    own_right = (table.votes == table.right[:, None]).astype(float)
    accuracy = (correct - own_right + 0.5) / (given - (table.votes >= 0) + 1.0)
    held_out: Floats = np.maximum(0.0, np.log(accuracy * max(1.0, options - 1.0) / (1.0 - accuracy)))
    return held_out


def _credit(table: VoteTable, weights: Floats) -> Floats:
    """Per outcome: 1 if the right option wins, its share of the tie if it is tied, else 0."""
    chosen = table.chosen()
    score = chosen @ weights if weights.ndim == 1 else np.einsum("noa,na->no", chosen, weights)
    top = (score >= score.max(axis=1, keepdims=True) - 1e-9) & chosen.any(axis=2)
    tied = np.maximum(1, top.sum(axis=1))
    credit: Floats = top[np.arange(len(table.right)), table.right] / tied
    return credit


def _gate(table: VoteTable, learned_held_out: Floats, odds_held_out: Floats) -> Gate:
    """Chooses the rule that may decide: learned, if it beats plurality by more than one standard error and weighted does
    not beat it by as much; else weighted, if it beats plurality so; else plurality."""
    plurality = _credit(table, np.ones(table.votes.shape[1]))
    weighted, learned = _credit(table, odds_held_out), _credit(table, learned_held_out)
    choice, winner = Mode.PLURALITY, plurality
    if _wins(weighted, plurality):
        choice, winner = Mode.WEIGHTED, weighted
    if _wins(learned, plurality) and not _wins(weighted, learned):
        choice, winner = Mode.LEARNED, learned
    gain, error = _paired(winner, plurality)
    return Gate(
        choice=choice,
        plurality=round(float(plurality.mean()), 6),
        weighted=round(float(weighted.mean()), 6),
        learned=round(float(learned.mean()), 6),
        gain=round(gain, 6),
        gain_se=round(error, 6),
    )


def _paired(ours: Floats, theirs: Floats) -> tuple[float, float]:
    difference = ours - theirs
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else np.inf
    return float(difference.mean()), error


def _wins(ours: Floats, theirs: Floats) -> bool:
    """Whether ours is better by more than one standard error. If only one outcome differs, gain and error are equal; the
    small term keeps rounding from making that a win."""
    gain, error = _paired(ours, theirs)
    return gain > error + 1e-9


# --- calibration ------------------------------------------------------------------------------------------------------


def _calibrations(
    table: VoteTable,
    agents: Sequence[str],
    weights: Floats,
    held_out: Floats,
    odds_held_out: Floats,
    accuracy: Floats,
    choice: Mode,
) -> dict[str, IsotonicMap]:
    """Maps from statistics to probabilities. They are fitted on leave-one-out posteriors: in-sample ones would look surer
    than the posteriors of new questions are.

    The posterior of all votes is nearly a probability and is moved only as far as the outcomes warrant. The posterior of
    an early stop is not one, as it lacks the answers of those who were not asked; its map follows the outcomes alone.
    """
    if len(table.right) < MIN_OUTCOMES:
        return {}
    row = np.arange(len(table.right))
    chosen, open_ = table.chosen(), table.open()
    count = chosen.sum(axis=2)
    posterior = _probabilities(chosen, open_, held_out)
    by_count, by_odds = count.argmax(axis=1), np.einsum("noa,na->no", chosen, odds_held_out).argmax(axis=1)
    by_learned = posterior.argmax(axis=1)
    asked = _asked_in_waves(table, agents, weights, accuracy)
    answered = chosen * asked[:, None, :]
    partial = _probabilities(answered, open_, held_out)
    score = {Mode.WEIGHTED: odds_held_out, Mode.PLURALITY: np.ones(held_out.shape)}.get(choice, held_out)
    by_waves = np.einsum("noa,na->no", answered, score).argmax(axis=1)
    return {
        "share": fit_isotonic(count.max(axis=1) / len(agents), by_count == table.right),
        "weighted": fit_isotonic(posterior[row, by_odds], by_odds == table.right, POSTERIOR_PRIOR),
        "learned": fit_isotonic(posterior.max(axis=1), by_learned == table.right, POSTERIOR_PRIOR),
        "agree_k": fit_isotonic(partial[row, by_waves], by_waves == table.right),
    }


def _asked_in_waves(table: VoteTable, agents: Sequence[str], weights: Floats, accuracy: Floats) -> Floats:
    """``[n, a]`` = 1 if the default protocol would have asked agent a about outcome n."""
    order = sorted(range(len(agents)), key=lambda i: (-accuracy[i], agents[i]))
    names = [str(i) for i in order]
    by_name = {str(i): float(weights[i]) for i in order}
    asked = np.zeros(table.votes.shape)
    for row, votes in enumerate(table.votes.tolist()):
        answers = run_waves(names, lambda name, votes=votes: _named(votes[int(name)]), by_name)  # type: ignore[misc]
        asked[row, [int(name) for name in answers]] = 1.0
    return asked


def _named(option: int) -> str | None:
    return str(option) if option >= 0 else None


def _by_agent(agents: Sequence[str], values: Floats) -> dict[str, float]:
    return {agent: round(float(value), 9) for agent, value in zip(agents, values, strict=True)}


def _capped(weights: Floats, agents: Sequence[str], owners: Mapping[str, str], cap: float | None) -> Floats:
    capped = cap_owner_shares({a: float(w) for a, w in zip(agents, weights, strict=True)}, owners, cap)
    return np.array([capped[agent] for agent in agents])
