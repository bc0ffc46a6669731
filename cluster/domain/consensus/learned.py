"""Weights learned from outcomes: a conditional logit over the options (McFadden 1974), gated and calibrated.

score(option) = sum of w_i over agents i that chose it, w_i >= 0; the w maximise the likelihood of the right options under
softmax, with a ridge that pulls them to their common mean, so that a few outcomes give nearly equal weights and many give
each agent what it adds beyond the others. Correlated agents share their weight instead of counting twice, which is what
log-odds weights get wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus import likelihood
from cluster.domain.consensus.asked import asked_by_effort
from cluster.domain.consensus.calibration import IsotonicMap, Tilt, fit_tilt
from cluster.domain.consensus.effort import LEAST_GAIN
from cluster.domain.consensus.held_out import CALIBRATION_OUTCOMES, Claims, calibrations, claims, credit, paired, wins
from cluster.domain.consensus.kinds import FittedKinds, fit_kinds, kind_rows
from cluster.domain.consensus.outcomes import Floats, Ints, Outcome, SomeRows, VoteTable, vote_table
from cluster.domain.consensus.precedents import Precedents, precedents_of
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import Gate, Kinds, KindWeights, WeightSnapshot
from cluster.domain.consensus.weights import DEFAULT_OWNER_CAP, cap_owner_shares, log_odds

RIDGE = 1.0  # on the sum over outcomes, so its pull fades as outcomes accumulate
#: How much kinds differ in log-odds beyond what their weights say: what predicted held-out outcomes of recorded answers best.
SLOPE_VARIANCE, SHIFT_VARIANCE = 0.03, 0.05
#: Where one answer may be enough, it says little of how hard the question is: what is left is how hard its kind is.
GAIN_SHIFT_VARIANCE = 0.3
_CHUNK = 1024


def fit_weights(table: VoteTable, ridge: float = RIDGE) -> Floats:
    """The weights that make the right options most likely, with the ridge's pull to their mean. Deterministic."""
    agents = table.votes.shape[1]
    return likelihood.fit(table, likelihood.pull_together(agents, ridge), np.ones(agents))


def leave_one_out(table: VoteTable, weights: Floats, ridge: float = RIDGE) -> Floats:
    """``[n, a]``: the weights without outcome n, by one Newton step from the optimum (approximate leave-one-out)."""
    return likelihood.held_out(table, weights, likelihood.pull_together(table.votes.shape[1], ridge))


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
    kinds = [outcome.kind for outcome in outcomes]
    rows = kind_rows(kinds)
    weights = fit_weights(table, ridge)
    record = _Record(table)
    cap = partial(_capped_rows, agents=agents, owners=owners or {}, cap=owner_cap)
    (capped,) = cap(weights[None])
    first = max(0, len(outcomes) - CALIBRATION_OUTCOMES)
    needed = np.unique(np.concatenate([np.arange(first, len(outcomes)), *rows.values()]))
    hold_out = (lambda found: found) if np.allclose(capped, weights) else cap
    without, credited = _held_out(table, weights, ridge, needed, hold_out)
    gate, decided = _gate(table, credited, record)
    fitted = fit_kinds(table, rows, weights, without, decided, cap, first)
    kept = hold_out(without.of(np.arange(first, len(outcomes))))
    del without  # with many kinds it is the largest array of all
    precedents = precedents_of(table, agents, kinds, _importance(weights, fitted))
    rule = _Rule(precedents, gate, record)
    calibration = _calibration(table, agents, capped, kept, rule)
    del kept
    return WeightSnapshot(
        learned=_by_agent(agents, weights),
        log_odds=_by_agent(agents, record.odds()),
        accuracy=_by_agent(agents, record.accuracy),
        gate=gate,
        owner_cap=owner_cap,
        ridge=ridge,
        outcomes=len(outcomes),
        outcomes_digest=_digest(agents, table, rows),
        calibration=calibration,
        schema_version=1 if fitted is None else 2,
        kinds=None if fitted is None else _kinds(fitted, table, agents, rule, cap),
        precedents=precedents,
    )


def _held_out(
    table: VoteTable, weights: Floats, ridge: float, needed: Ints, capped: Callable[[Floats], Floats]
) -> tuple[SomeRows, Floats]:
    """(the weights without each outcome of ``needed``, ``[n]``: what capped weights without an outcome earn on it)"""
    kept, credited = np.empty((len(needed), len(weights))), np.empty(len(table.right))
    pull = likelihood.pull_together(len(weights), ridge)
    for part, without in likelihood.held_out_parts(table, weights, pull):
        credited[part] = credit(table.rows(part), capped(without))
        begin, end = np.searchsorted(needed, (part.start, part.stop))
        kept[begin:end] = without[needed[begin:end] - part.start]
    return SomeRows(needed, kept), credited


def _calibration(
    table: VoteTable, agents: Sequence[str], weights: Floats, held_out: Floats, rule: _Rule
) -> dict[str, IsotonicMap]:
    """``held_out``: the weights without each of the newest outcomes."""
    rows = np.arange(len(table.right) - len(held_out), len(table.right))
    newest, odds = table.rows(rows), rule.record.odds_held_out(rows)
    asked = rule.asked(newest, agents, weights, None)
    deciding = _deciding(rule.gate, held_out, odds)
    return calibrations(claims(newest, agents, weights, held_out, odds, deciding, rule.record.accuracy, asked))


def _digest(agents: Sequence[str], table: VoteTable, rows: Mapping[str, Ints]) -> str:
    if not rows:
        return canonical_sha256([list(agents), table.votes.tolist(), table.right.tolist(), table.options.tolist()])
    parts: list[NDArray[Any]] = [table.votes, table.right, table.options, *rows.values()]
    return canonical_sha256([list(agents), list(rows), *(hashlib.sha256(part.data).hexdigest() for part in parts)])


def _kinds(
    fitted: FittedKinds,
    table: VoteTable,
    agents: Sequence[str],
    rule: _Rule,
    cap: Callable[[Floats], Floats],
) -> Kinds:
    """The kinds of a snapshot, with the calibration that all of them share: their weights hold already what sets them apart."""
    gate, record = rule.gate, rule.record
    rows = np.concatenate([kind.rows for kind in fitted.kinds])
    number = [len(kind.rows) for kind in fitted.kinds]
    held_out = cap(np.concatenate([kind.without for kind in fitted.kinds]))
    weights = np.repeat(cap(np.array([kind.weights for kind in fitted.kinds])), number, axis=0)
    earned = np.repeat([kind.earned for kind in fitted.kinds], number)
    odds = record.odds_held_out(rows)
    deciding = np.where(earned[:, None], held_out, _deciding(gate, held_out, odds))
    parts = [
        rule.asked(table.rows(kind.rows), agents, cap(kind.weights[None])[0], kind.kind, earned=kind.earned)
        for kind in fitted.kinds
    ]
    asked = {effort: np.concatenate([part[effort] for part in parts]) for effort in parts[0]}
    claimed = claims(table.rows(rows), agents, weights, held_out, odds, deciding, record.accuracy, asked)
    del claimed["share"]  # it does not depend on weights
    maps = calibrations(claimed)
    kind_of = np.repeat(np.arange(len(fitted.kinds)), number)
    return Kinds(
        ridge=fitted.across,
        gain=round(fitted.gain, 6),
        gain_se=round(fitted.gain_se, 6),
        by_kind={
            kind.kind: KindWeights(
                learned=_by_agent(agents, kind.weights),
                earned=kind.earned,
                outcomes=kind.outcomes,
                gain=round(kind.gain, 6),
                gain_se=round(kind.gain_se, 6),
                likelihood=round(kind.likelihood, 6),
                tilts=_tilts(maps, claimed, kind_of == index),
            )
            for index, kind in enumerate(fitted.kinds)
        },
        calibration=maps,
    )


def _tilts(maps: Mapping[str, IsotonicMap], claimed: Mapping[str, Claims], which: NDArray[np.bool_]) -> dict[str, Tilt]:
    return {
        name: fit_tilt(
            found.of(claimed[name].statistic[which]),
            claimed[name].right[which],
            SLOPE_VARIANCE,
            GAIN_SHIFT_VARIANCE if name in tuple(LEAST_GAIN) else SHIFT_VARIANCE,
        )
        for name, found in maps.items()
    }


# --- the gate ---------------------------------------------------------------------------------------------------------


class _Record:
    """How often each agent was right, and the log-odds that this gives without an outcome."""

    def __init__(self, table: VoteTable) -> None:
        self._table = table
        parts = [slice(start, start + _CHUNK) for start in range(0, len(table.right), _CHUNK)]
        right = [(table.votes[part] == table.right[part, None]).sum(axis=0) for part in parts]
        self._correct = np.sum(right, axis=0).astype(float)
        self._given = np.sum([(table.votes[part] >= 0).sum(axis=0) for part in parts], axis=0).astype(float)
        self.options = float(table.options.mean())
        self.accuracy: Floats = (self._correct + 0.5) / (self._given + 1.0)

    def odds(self) -> Floats:
        """``[a]``: the log-odds of all outcomes."""
        return np.array([log_odds(float(share), self.options) for share in self.accuracy])

    def odds_held_out(self, which: slice | Ints) -> Floats:
        """``[n, a]`` for these outcomes."""
        votes, right = self._table.votes[which], self._table.right[which]
        accuracy = (self._correct - (votes == right[:, None]) + 0.5) / (self._given - (votes >= 0) + 1.0)
        held_out: Floats = np.maximum(0.0, np.log(accuracy * max(1.0, self.options - 1.0) / (1.0 - accuracy)))
        return held_out


class _Rule:
    """The rule that decides, and whom it asks."""

    def __init__(self, precedents: Precedents, gate: Gate, record: _Record) -> None:
        self.precedents, self.gate, self.record = precedents, gate, record

    def asked(
        self, table: VoteTable, agents: Sequence[str], learned: Floats, kind: str | None, *, earned: bool = False
    ) -> dict[str, NDArray[np.bool_]]:
        """``[n, a]`` by effort. ``learned``: the weights of the kind, or of all questions."""
        choice = Mode.LEARNED if earned else self.gate.choice
        weights = {Mode.PLURALITY: np.ones(len(agents)), Mode.WEIGHTED: self.record.odds()}.get(choice, learned)
        first = sorted(range(len(agents)), key=lambda i: (-self.record.accuracy[i], agents[i]))
        found = asked_by_effort(table, agents, weights, [agents[i] for i in first], self.precedents, kind)
        return {effort: asked for effort, (asked, _) in found.items()}


def _importance(weights: Floats, fitted: FittedKinds | None) -> Floats:
    """``[a]``: the most that the vote of each agent counts on some kind of question."""
    own = [kind.weights for kind in fitted.kinds if kind.earned] if fitted is not None else []
    most: Floats = np.max([weights, *own], axis=0)
    return most


def _gate(table: VoteTable, learned: Floats, record: _Record) -> tuple[Gate, Floats]:
    """Chooses the rule that may decide: learned, if it beats plurality by more than one standard error and weighted does
    not beat it by as much; else weighted, if it beats plurality so; else plurality. ``learned`` is what held-out learned
    weights are credited with; also returns what the chosen rule is."""
    parts = [slice(start, start + _CHUNK) for start in range(0, len(table.right), _CHUNK)]
    alike = np.ones(table.votes.shape[1])
    plurality = np.concatenate([credit(table.rows(part), alike) for part in parts])
    weighted = np.concatenate([credit(table.rows(part), record.odds_held_out(part)) for part in parts])
    choice, winner = Mode.PLURALITY, plurality
    if wins(weighted - plurality):
        choice, winner = Mode.WEIGHTED, weighted
    if wins(learned - plurality) and not wins(weighted - learned):
        choice, winner = Mode.LEARNED, learned
    gain, error = paired(winner - plurality)
    gate = Gate(
        choice=choice,
        plurality=round(float(plurality.mean()), 6),
        weighted=round(float(weighted.mean()), 6),
        learned=round(float(learned.mean()), 6),
        gain=round(gain, 6),
        gain_se=round(error, 6),
    )
    return gate, winner


def _deciding(gate: Gate, held_out: Floats, odds_held_out: Floats) -> Floats:
    """The held-out weights of the rule that decides."""
    return {Mode.WEIGHTED: odds_held_out, Mode.PLURALITY: np.ones(held_out.shape)}.get(gate.choice, held_out)


def _by_agent(agents: Sequence[str], values: Floats) -> dict[str, float]:
    return {agent: round(float(value), 9) for agent, value in zip(agents, values, strict=True)}


def _capped_rows(weights: Floats, *, agents: Sequence[str], owners: Mapping[str, str], cap: float | None) -> Floats:
    if cap is None or not owners:
        return weights
    rows = []
    for row in weights:
        capped = cap_owner_shares({a: float(w) for a, w in zip(agents, row, strict=True)}, owners, cap)
        rows.append([capped[agent] for agent in agents])
    return np.array(rows)
