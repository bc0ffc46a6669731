"""The likelihood of the right options under weights, its maximum under a quadratic pull, and what each outcome adds to it.

Nothing here holds an array of outcomes by options by agents for more than ``_CHUNK`` outcomes at a time: with 10^5 outcomes
of 100 agents it would take a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cluster.domain.consensus.outcomes import Floats, VoteTable

_CHUNK = 2048
_MAX_STEPS = 100
#: With more than ``EXACT_OUTCOMES`` the curvature is that of ``CURVATURE_OUTCOMES`` of them, evenly chosen: it only steers
#: the steps, and the gradient that ends them is that of all. Then one outcome's own part of the curvature no longer matters
#: to `held_out` either.
EXACT_OUTCOMES, CURVATURE_OUTCOMES = 2_500, 1_000


@dataclass(frozen=True, slots=True)
class Pull:
    """What is added to the negative log-likelihood: ``(w - centre)' matrix (w - centre)``."""

    centre: Floats
    matrix: Floats

    def value(self, weights: Floats) -> float:
        apart = weights - self.centre
        return float(apart @ self.matrix @ apart)

    def gradient(self, weights: Floats) -> Floats:
        pulled: Floats = 2 * (self.matrix @ (weights - self.centre))
        return pulled


def pull_together(agents: int, strength: float) -> Pull:
    """Pulls weights to their common mean, whatever it is."""
    return Pull(np.zeros(agents), strength * (np.eye(agents) - np.full((agents, agents), 1.0 / agents)))


def pull_towards(weights: Floats, across: float, along: float) -> Pull:
    """Pulls to these weights: by ``across`` where the proportions differ, by ``along`` where only the scale does. The scale
    changes no decision, only how sure it is."""
    size = float(np.sqrt(weights @ weights))
    direction = weights / size if size > 0 else weights
    same = np.outer(direction, direction)
    return Pull(weights, across * (np.eye(len(weights)) - same) + along * same)


def scores(table: VoteTable, weights: Floats) -> Floats:
    """``[n, option]``: the sum of the weights of those that chose it. ``weights`` is one vector, or one row per outcome."""
    width = table.width()
    found = np.empty((len(table.right), width))
    for part in _parts(len(table.right)):
        votes = table.votes[part]
        cell = np.where(votes >= 0, votes, width) + (width + 1) * np.arange(len(votes))[:, None]
        given = np.broadcast_to(weights if weights.ndim == 1 else weights[part], votes.shape)
        summed = np.bincount(cell.ravel(), weights=given.ravel(), minlength=len(votes) * (width + 1))
        found[part] = summed.reshape(-1, width + 1)[:, :width]
    return found


def probabilities(table: VoteTable, weights: Floats) -> Floats:
    """Softmax of the scores over the options that exist."""
    score = np.where(table.open(), scores(table, weights), -np.inf)
    grown = np.exp(score - score.max(axis=1, keepdims=True))
    share: Floats = grown / grown.sum(axis=1, keepdims=True)
    return share


def log_likelihoods(table: VoteTable, weights: Floats) -> Floats:
    """``[n]``: the log of the right option's probability."""
    score = np.where(table.open(), scores(table, weights), -np.inf)
    top = score.max(axis=1)
    row = np.arange(len(table.right))
    found: Floats = score[row, table.right] - top - np.log(np.exp(score - top[:, None]).sum(axis=1))
    return found


def fit(table: VoteTable, pull: Pull, start: Floats, bent: Floats | None = None) -> Floats:
    """The maximum, by Newton steps on the free weights with the others held at zero (Bertsekas 1982). Deterministic.

    ``bent``: the curvature of the likelihood somewhere near, which then steers all steps; without it each step has its own.
    """
    if bent is None and len(table.right) > EXACT_OUTCOMES:
        some = table.rows(np.arange(0, len(table.right), -(-len(table.right) // EXACT_OUTCOMES)))
        share = len(some.right) / len(table.right)
        start = fit(some, Pull(pull.centre, pull.matrix * share), start)
    weights = np.array(start, dtype=float)
    value, gradient = _loss(table, weights, pull)
    tolerance = 1e-7 * max(1, len(table.right))
    for _ in range(_MAX_STEPS):
        free = (weights > 0) | (gradient < 0)
        if not free.any() or float(np.abs(gradient[free]).max()) < tolerance:
            break
        whole = (curvature(table, weights) if bent is None else bent) + 2 * pull.matrix
        step = np.zeros_like(weights)
        step[free] = -np.linalg.solve(whole[np.ix_(free, free)] + 1e-9 * np.eye(int(free.sum())), gradient[free])
        length = 1.0
        while True:
            moved = np.maximum(0.0, weights + length * step)
            moved_value, moved_gradient = _loss(table, moved, pull)
            if moved_value <= value + 1e-4 * float(gradient @ (moved - weights)) or length < 1e-6:
                break
            length /= 2
        if moved_value >= value:
            break
        weights, value, gradient = moved, moved_value, moved_gradient
    return weights


def held_out(
    table: VoteTable, weights: Floats, pull: Pull, centres: Floats | None = None, bent: Floats | None = None
) -> Floats:
    """``[n, a]``: what `held_out_parts` yields, in one array."""
    found = np.empty((len(table.right), len(weights)))
    for part, rows in held_out_parts(table, weights, pull, centres, bent):
        found[part] = rows
    return found


def held_out_parts(
    table: VoteTable, weights: Floats, pull: Pull, centres: Floats | None = None, bent: Floats | None = None
) -> Iterator[tuple[slice, Floats]]:
    """The weights without each outcome, by one Newton step from the optimum (approximate leave-one-out), as ``[n, a]`` of a part
    of the outcomes at a time.

    ``centres[n]`` is where the pull leads without outcome n, if that depends on it. The step solves with the curvature that is
    left, through the options rather than the agents (Woodbury), since an outcome bends the likelihood in as many directions
    as it has options. ``bent`` is as for `fit`.
    """
    free = weights > 1e-9
    if not free.any():
        for part in _parts(len(table.right)):
            yield part, np.tile(weights, (len(table.right[part]), 1))
        return
    inverse = np.zeros((len(weights), len(weights)))
    exact = bent is None and len(table.right) <= EXACT_OUTCOMES
    whole = (curvature(table, weights) if bent is None else bent) + 2 * pull.matrix
    inverse[np.ix_(free, free)] = np.linalg.inv(whole[np.ix_(free, free)] + 1e-9 * np.eye(int(free.sum())))
    for part in _parts(len(table.right)):
        votes = table.rows(part)
        chance = probabilities(votes, weights)
        missed = chance.copy()
        missed[np.arange(len(votes.right)), votes.right] -= 1.0
        push = _of_voters(votes, missed)
        if centres is not None:
            push += 2 * (centres[part] - pull.centre) @ pull.matrix
        step = push @ inverse
        if exact:
            step += _of_voters(votes, _own_curvature(votes, chance, step, inverse)) @ inverse
        step += weights
        yield part, np.maximum(step, 0.0, out=step)


def _own_curvature(votes: VoteTable, chance: Floats, step: Floats, inverse: Floats) -> Floats:
    """``[n, option]``: what the step of each outcome lacks because the curvature still holds the outcome itself."""
    chosen = votes.chosen()
    spread = chance[:, :, None] * np.eye(chance.shape[1]) - chance[:, :, None] * chance[:, None, :]
    agents = chosen.shape[2]
    shared = (chosen.reshape(-1, agents) @ inverse).reshape(chosen.shape) @ chosen.transpose(0, 2, 1)
    lacking = np.eye(chance.shape[1]) - spread @ shared
    moved = spread @ (chosen @ step[:, :, None])
    return np.asarray(np.linalg.solve(lacking + 1e-12 * np.eye(chance.shape[1]), moved)[:, :, 0], dtype=np.float64)


def curvature(table: VoteTable, weights: Floats) -> Floats:
    """The second derivative of the negative log-likelihood."""
    agents, outcomes = table.votes.shape[1], len(table.right)
    some = table
    if outcomes > EXACT_OUTCOMES:
        some = table.rows(np.arange(0, outcomes, -(-outcomes // CURVATURE_OUTCOMES)))
    total: Floats = np.zeros((agents, agents))
    for part in _parts(len(some.right)):
        votes = some.rows(part)
        chance = probabilities(votes, weights)
        mean = _of_voters(votes, chance)
        spread = votes.chosen()
        spread *= np.sqrt(chance)[:, :, None]
        spread = spread.reshape(-1, agents)
        total += spread.T @ spread - mean.T @ mean
    bent: Floats = total * (outcomes / max(1, len(some.right)))
    return bent


def _loss(table: VoteTable, weights: Floats, pull: Pull) -> tuple[float, Floats]:
    value, gradient = pull.value(weights), pull.gradient(weights)
    for part in _parts(len(table.right)):
        votes = table.rows(part)
        score = np.where(votes.open(), scores(votes, weights), -np.inf)
        top = score.max(axis=1, keepdims=True)
        grown = np.exp(score - top)
        total = grown.sum(axis=1, keepdims=True)
        row = np.arange(len(votes.right))
        value += float(np.sum(np.log(total[:, 0]) + top[:, 0] - score[row, votes.right]))
        missed = grown / total
        missed[row, votes.right] -= 1.0
        gradient = gradient + _of_voters(votes, missed).sum(axis=0)
    return value, gradient


def _of_voters(votes: VoteTable, values: Floats) -> Floats:
    """``[n, a]``: the value of the option that a chose, 0 where a chose none."""
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
    found: Floats = np.take_along_axis(padded, np.where(votes.votes >= 0, votes.votes, values.shape[1]), axis=1)
    return found


def _parts(outcomes: int) -> Iterator[slice]:
    for start in range(0, outcomes, _CHUNK):
        yield slice(start, start + _CHUNK)
