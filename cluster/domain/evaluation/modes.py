"""What each rule decides on every question of a table at once.

The same rules as ``consensus.aggregate``, on arrays: a test holds both to the same decisions and confidences. Ties go to
the lowest option, as in the published table that the figures are compared with, so plurality breaks none by weights here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.domain.consensus.asked import asked_by_effort
from cluster.domain.consensus.calibration import IsotonicMap
from cluster.domain.consensus.effort import Effort
from cluster.domain.consensus.outcomes import Floats, Ints, VoteTable
from cluster.domain.consensus.rule import Mode
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.consensus.waves import FIRST_WAVE, next_wave
from cluster.domain.consensus.weights import cap_owner_shares, panel_weights

Flags = NDArray[np.bool_]

BEST_SINGLE = "best_single"
#: The default rule under each effort.
EFFORT_MODES = {effort: f"effort_{effort.value}" for effort in Effort}
_EFFORTS = {name: effort for effort, name in EFFORT_MODES.items()}
#: In the order of the printed table. On single choices approval, Borda and Schulze decide as plurality does.
MODES = (
    BEST_SINGLE,
    Mode.PLURALITY.value,
    Mode.MAJORITY.value,
    Mode.SUPERMAJORITY.value,
    Mode.UNANIMOUS.value,
    Mode.WEIGHTED.value,
    Mode.LEARNED.value,
    Mode.AGREE_K.value,
    EFFORT_MODES[Effort.ALL],
    EFFORT_MODES[Effort.DEFAULT],
    EFFORT_MODES[Effort.LEAST],
)
#: Rules that may decline although there are votes. Their accuracy is counted among the questions that they decide.
MAY_DECLINE = frozenset({Mode.MAJORITY.value, Mode.SUPERMAJORITY.value, Mode.UNANIMOUS.value})
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Per question: ``leader`` is an option's index or -1, ``confidence`` NaN if none is claimed, ``asked[n, a]`` whether
    agent a was asked."""

    leader: Ints
    decided: Flags
    confidence: Floats
    asked: Flags
    waves: Ints


@dataclass(frozen=True, slots=True)
class Court:
    """A panel with what was learned of it. ``best`` is the agent with the best record in calibration, which counts the
    answers that it gave."""

    agents: tuple[str, ...]
    snapshot: WeightSnapshot
    best: int
    best_accuracy: float
    owners: Mapping[str, str] = field(default_factory=dict)
    kind: str | None = None

    def weights(self, mode: Mode) -> Floats:
        """The weights that decide where ``mode`` is applied, capped per owner."""
        if mode is Mode.PLURALITY:
            return np.ones(len(self.agents))
        known = self.snapshot.log_odds if mode is Mode.WEIGHTED else self.snapshot.learned
        capped = cap_owner_shares(panel_weights(known, self.agents), self.owners, self.snapshot.owner_cap)
        return np.array([capped[agent] for agent in self.agents])


def verdicts(mode: str, table: VoteTable, court: Court) -> Verdicts:
    if mode == BEST_SINGLE:
        return _best_single(table, court)
    if mode == Mode.AGREE_K.value:
        return _in_waves(table, court)
    if mode in _EFFORTS:
        return _by_effort(_EFFORTS[mode], table, court)
    return _all_asked(Mode(mode), table, court)


def verdicts_by_kind(mode: str, table: VoteTable, kinds: Sequence[str | None], court: Court) -> Verdicts:
    """As `verdicts`, each question by what was learned of its kind."""
    rows_of: dict[str | None, list[int]] = {}
    for row, kind in enumerate(kinds):
        rows_of.setdefault(kind if court.snapshot.knows(kind) else None, []).append(row)
    order = np.array([row for rows in rows_of.values() for row in rows], dtype=np.int64)
    parts = [
        verdicts(mode, table.rows(np.array(rows)), replace(court, snapshot=court.snapshot.of_kind(kind), kind=kind))
        for kind, rows in rows_of.items()
    ]
    back = np.argsort(order)

    def joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(arrays)[back]

    return Verdicts(
        joined([part.leader for part in parts]),
        joined([part.decided for part in parts]),
        joined([part.confidence for part in parts]),
        joined([part.asked for part in parts]),
        joined([part.waves for part in parts]),
    )


def _all_asked(mode: Mode, table: VoteTable, court: Court) -> Verdicts:
    chosen = table.chosen()
    everyone = np.ones(table.votes.shape, dtype=bool)
    applied = court.snapshot.gate.choice if mode is Mode.LEARNED else mode
    if applied in (Mode.WEIGHTED, Mode.LEARNED):
        leader = _leader(chosen, court.weights(applied))
        statistic = _posterior(chosen, table.open(), court.weights(Mode.LEARNED), leader)
        confidence = _mapped(court.snapshot.calibration.get(applied.value), statistic)
        decided = leader >= 0
    else:
        leader = _leader(chosen, np.ones(len(court.agents)))
        support = chosen.sum(axis=2).max(axis=1)
        confidence = _mapped(court.snapshot.calibration.get("share"), support / len(court.agents))
        decided = (leader >= 0) & (support >= _needed(applied, len(court.agents)) - _EPSILON)
    return Verdicts(leader, decided, confidence, everyone, np.ones(len(leader), dtype=np.int64))


def _needed(mode: Mode, agents: int) -> float:
    """How many votes of all eligible agents decide; for more than half, half and a little."""
    return {
        Mode.MAJORITY: agents / 2 + 2 * _EPSILON,
        Mode.SUPERMAJORITY: agents * 2 / 3,
        Mode.UNANIMOUS: float(agents),
    }.get(mode, 0.0)


def _best_single(table: VoteTable, court: Court) -> Verdicts:
    leader = table.votes[:, court.best].astype(np.int64)
    asked = np.zeros(table.votes.shape, dtype=bool)
    asked[:, court.best] = True
    confidence = np.where(leader >= 0, court.best_accuracy, np.nan)
    return Verdicts(leader, leader >= 0, confidence, asked, np.ones(len(leader), dtype=np.int64))


def _in_waves(table: VoteTable, court: Court) -> Verdicts:
    """The default protocol: two that agree decide, else the learned rule among all that had to be asked."""
    asked, waves = ask_in_waves(table, court, court.weights(Mode.LEARNED))
    return _agreeing(table, court, asked, waves, Mode.AGREE_K.value)


def _by_effort(effort: Effort, table: VoteTable, court: Court) -> Verdicts:
    """The default rule among those that the effort asks. An agent that was asked alone decides alone."""
    weights = court.weights(court.snapshot.gate.choice)
    snapshot = court.snapshot
    found = asked_by_effort(table, court.agents, weights, snapshot.order(), snapshot.precedents, court.kind)
    if effort.value not in found:
        return _in_waves(table, court)
    asked, waves = found[effort.value]
    claimed = effort.value if effort.value in snapshot.calibration else Mode.AGREE_K.value
    return _agreeing(table, court, asked, waves, claimed)


def _agreeing(table: VoteTable, court: Court, asked: Flags, waves: Ints, claimed: str) -> Verdicts:
    answered = table.chosen() * asked[:, None, :]
    per_option = answered.sum(axis=2)
    agreed = (per_option.max(axis=1) >= FIRST_WAVE) & (per_option.max(axis=1) == per_option.sum(axis=1))
    leader = np.where(agreed, per_option.argmax(axis=1), _leader(answered, court.weights(court.snapshot.gate.choice)))
    statistic = _posterior(answered, table.open(), court.weights(Mode.LEARNED), leader)
    confidence = _mapped(court.snapshot.calibration.get(claimed), statistic)
    return Verdicts(leader, leader >= 0, confidence, asked, waves)


def ask_in_waves(table: VoteTable, court: Court, weights: Floats) -> tuple[Flags, Ints]:
    """(``[n, a]``: whether the default protocol asks agent a about question n, waves per question)"""
    by_name = {agent: float(weight) for agent, weight in zip(court.agents, weights, strict=True)}
    index_of = {agent: index for index, agent in enumerate(court.agents)}
    order = [agent for agent in court.snapshot.order() if agent in index_of]
    asked = np.zeros(table.votes.shape, dtype=bool)
    waves = np.zeros(len(table.right), dtype=np.int64)
    for row, votes in enumerate(table.votes.tolist()):
        answers: dict[str, str | None] = {}
        while wave := next_wave(order=order, answers=answers, weights=by_name, waves=int(waves[row])):
            for agent in wave:
                vote = votes[index_of[agent]]
                answers[agent] = str(vote) if vote >= 0 else None
            waves[row] += 1
        asked[row, [index_of[agent] for agent in answers]] = True
    return asked, waves


def _leader(chosen: Floats, weights: Floats) -> Ints:
    """The lowest of the best options that have votes; -1 if none has."""
    score = np.where(chosen.any(axis=2), chosen @ weights, -np.inf)
    top = score.max(axis=1, keepdims=True)
    leader: Ints = (score >= top - _EPSILON).argmax(axis=1)
    return np.where(np.isfinite(top[:, 0]), leader, -1)


def _posterior(chosen: Floats, open_: Flags, weights: Floats, leader: Ints) -> Floats:
    score = np.where(open_, chosen @ weights, -np.inf)
    grown = np.exp(score - score.max(axis=1, keepdims=True))
    share = grown[np.arange(len(leader)), np.maximum(leader, 0)] / grown.sum(axis=1)
    return np.where(leader >= 0, share, np.nan)


def _mapped(calibration: IsotonicMap | None, statistic: Floats) -> Floats:
    if calibration is None:
        return np.full(len(statistic), np.nan)
    return calibration.of(statistic)


def collude(table: VoteTable, members: Sequence[int]) -> VoteTable:
    """The table in which these agents all answer the wrong option that is most popular with the others."""
    honest = [agent for agent in range(table.votes.shape[1]) if agent not in members]
    popular = table.chosen()[:, :, honest].sum(axis=2)
    popular[~table.open()] = -1.0
    popular[np.arange(len(table.right)), table.right] = -1.0
    votes = table.votes.copy()
    votes[:, list(members)] = popular.argmax(axis=1)[:, None]
    return VoteTable(votes, table.right, table.options)
