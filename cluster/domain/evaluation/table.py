"""Figures of an evaluation: per panel and mode, with the best single agent and plurality always beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus import effort as consensus
from cluster.domain.consensus.calibration import brier_score, expected_calibration_error, reliability
from cluster.domain.consensus.learned import build_snapshot, fit_weights
from cluster.domain.consensus.outcomes import Floats, VoteTable, vote_table
from cluster.domain.consensus.rule import Mode
from cluster.domain.evaluation.kinds import KindFigures
from cluster.domain.evaluation.modes import (
    BEST_SINGLE,
    EFFORT_MODES,
    MAY_DECLINE,
    MODES,
    Court,
    Verdicts,
    collude,
    verdicts,
    verdicts_by_kind,
)
from cluster.domain.evaluation.records import AnsweredQuestion, Panel

RESAMPLES = 2_000
COLLUSION_DRAWS = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Difference in right answers per question, with its 95 % interval (paired bootstrap)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What a question cost: mean tokens, mean cost in USD, and quantiles of the latency. None if it was not measured."""

    tokens: float | None = None
    cost: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeFigures:
    """The figures of one panel under one mode. ``accuracy`` of a rule that may decline is counted among the questions that
    it decides; of any other rule over all questions, where a question that nobody answered counts as wrong.
    ``accuracy_all`` is over all questions for every rule."""

    panel: str
    mode: str
    n: int
    agents: int
    accuracy: float
    accuracy_all: float
    coverage: float
    calls_per_question: float
    calls_share: float
    waves_per_question: float
    ece: float | None
    brier: float | None
    vs_plurality: Gain
    vs_best_single: Gain
    applied: str
    effort: Effort = Effort()

    def flat(self) -> dict[str, Any]:
        """One level deep, for a line of CSV."""
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name == "effort":
                found.update(value)
            elif isinstance(value, dict):
                found.update({f"{name}_{part}": inner for part, inner in value.items()})
            else:
                found[name] = value
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far agreement is a signal: on a share ``coverage`` of the questions at least ``level`` agreed on one option, and
    a share ``accuracy`` of those options were right."""

    panel: str
    level: str
    coverage: float
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Questions that were decided with about the same confidence: its mean, and the share of them that were right."""

    panel: str
    mode: str
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collusion:
    """Mean (and least) accuracy if ``colluders`` members of the panel agree on one wrong option.

    ``kind``: ``persistent`` colluders did so in calibration too, a ``sleeper`` only afterwards. ``among``: whether the
    best member may be one of them; nothing makes up for its loss. ``learned`` has the weights of all questions; ``by_kind`` has
    those of kinds, ``effort_default`` too, which asks fewer: None if kinds were not wanted.
    """

    panel: str
    colluders: int
    kind: str
    among: str
    draws: int
    plurality: float
    learned: float
    learned_least: float
    by_kind: float | None = None
    by_kind_least: float | None = None
    effort_default: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    n_calibration: int
    n_test: int
    rows: tuple[ModeFigures, ...]
    agreement: tuple[Agreement, ...]
    reliability: tuple[Bin, ...]
    collusion: tuple[Collusion, ...] = ()
    kinds: tuple[KindFigures, ...] = ()

    def to_json(self) -> dict[str, Any]:
        whole: dict[str, Any] = asdict(self)
        return whole


def court_of(
    panel: Panel, calibration: Sequence[AnsweredQuestion], owner_cap: float | None = None, *, by_kind: bool = False
) -> Court:
    """Learns the weights of a panel. ``owner_cap`` caps as if every agent had an owner of its own; None caps nobody.
    ``by_kind``: whether weights of kinds are learned too. Raises: ``InvalidRequest`` if there is no question to learn from."""
    if not calibration:
        raise InvalidRequest(
            "There is no calibration question to learn weights from; give a file with more questions.", "no_outcomes"
        )
    agents = panel.agents
    owners = {agent: agent for agent in agents} if owner_cap is not None else {}
    outcomes = [question.outcome(agents, by_kind=by_kind) for question in calibration]
    snapshot = build_snapshot(outcomes, agents, owners, owner_cap)
    best = snapshot.order()[0]
    return Court(agents, snapshot, agents.index(best), snapshot.accuracy[best], owners)


def vote_table_of(questions: Sequence[AnsweredQuestion], agents: Sequence[str]) -> VoteTable:
    return vote_table([question.outcome(agents) for question in questions], agents)


def evaluate_panel(
    panel: Panel,
    court: Court,
    table: VoteTable,
    *,
    seed: int = 0,
    modes: Sequence[str] = MODES,
    efforts: Mapping[str, Effort] | None = None,
) -> tuple[list[ModeFigures], list[Agreement], list[Bin]]:
    decided = {
        mode: verdicts(mode, table, court) for mode in dict.fromkeys((BEST_SINGLE, Mode.PLURALITY.value, *modes))
    }
    credit = {mode: _credit(decisions, table) for mode, decisions in decided.items()}
    rng = np.random.default_rng(seed)
    rows = [
        _figures(
            panel, mode, decided[mode], table, court,
            vs_plurality=_gain(credit[mode] - credit[Mode.PLURALITY.value], rng),
            vs_best_single=_gain(credit[mode] - credit[BEST_SINGLE], rng),
            effort=(efforts or {}).get(mode, Effort()),
        )
        for mode in modes
    ]  # fmt: skip
    bins = [
        Bin(panel=panel.name, mode=mode, confidence=confidence, accuracy=accuracy, count=count)
        for mode in modes
        for confidence, accuracy, count in _reliability(decided[mode], table)
    ]
    return rows, agreement_levels(panel, table), bins


def _credit(decisions: Verdicts, table: VoteTable) -> Floats:
    credit: Floats = (decisions.decided & (decisions.leader == table.right)).astype(float)
    return credit


def _claims(decisions: Verdicts, table: VoteTable) -> tuple[Floats, Floats]:
    """(confidence, right) of the questions that were decided with a stated confidence."""
    claimed = decisions.decided & ~np.isnan(decisions.confidence)
    return decisions.confidence[claimed], (decisions.leader == table.right)[claimed].astype(float)


def _reliability(decisions: Verdicts, table: VoteTable) -> list[tuple[float, float, int]]:
    return reliability(*_claims(decisions, table))


def _figures(
    panel: Panel,
    mode: str,
    decisions: Verdicts,
    table: VoteTable,
    court: Court,
    *,
    vs_plurality: Gain,
    vs_best_single: Gain,
    effort: Effort,
) -> ModeFigures:
    credit = _credit(decisions, table)
    counted = int(decisions.decided.sum()) if mode in MAY_DECLINE else len(credit)
    confidence, right = _claims(decisions, table)
    calls = float(decisions.asked.sum(axis=1).mean())
    applied = court.agents[court.best] if mode == BEST_SINGLE else mode
    if mode in (Mode.LEARNED.value, Mode.AGREE_K.value, *EFFORT_MODES.values()):
        applied = court.snapshot.gate.choice.value
    return ModeFigures(
        panel=panel.name,
        mode=mode,
        n=len(credit),
        agents=len(panel.agents),
        accuracy=_rounded(float(credit.sum()) / counted if counted else 0.0),
        accuracy_all=_rounded(float(credit.mean())),
        coverage=_rounded(float(decisions.decided.mean())),
        calls_per_question=_rounded(calls),
        calls_share=_rounded(calls / len(panel.agents)),
        waves_per_question=_rounded(float(decisions.waves.mean())),
        ece=_rounded(expected_calibration_error(confidence, right)) if len(right) else None,
        brier=_rounded(brier_score(confidence, right)) if len(right) else None,
        vs_plurality=vs_plurality,
        vs_best_single=vs_best_single,
        applied=applied,
        effort=effort,
    )


def _rounded(value: float) -> float:
    return round(value, 4)


def _gain(difference: Floats, rng: np.random.Generator) -> Gain:
    """Differences are -1, 0 or 1, so resampling the questions is drawing how often each of these values comes up."""
    n = len(difference)
    share = [float((difference == value).mean()) for value in (-1.0, 0.0, 1.0)]
    share[1] = max(0.0, 1.0 - share[0] - share[2])
    drawn = rng.multinomial(n, share, size=RESAMPLES)
    means = (drawn[:, 2] - drawn[:, 0]) / n
    low, high = np.quantile(means, (0.025, 0.975))
    return Gain(mean=_rounded(float(difference.mean())), low=_rounded(float(low)), high=_rounded(float(high)))


def agreement_levels(panel: Panel, table: VoteTable) -> list[Agreement]:
    """How often so many of the whole panel agree, and how often they are right then."""
    count = table.chosen().sum(axis=2)
    top, right = count.max(axis=1), count.argmax(axis=1) == table.right
    agents = len(panel.agents)
    levels = (
        ("unanimous", float(agents)),
        ("at least 2/3", agents * 2 / 3 - 1e-9),
        ("more than 1/2", agents / 2 + 1e-9),
        ("at least 2", 2.0),
        ("any answer", 1.0),
    )
    return [
        Agreement(
            panel=panel.name,
            level=name,
            coverage=_rounded(float((top >= needed).mean())),
            accuracy=_rounded(float(right[top >= needed].mean())) if (top >= needed).any() else None,
        )
        for name, needed in levels
    ]


# --- collusion --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Under:
    """Accuracies under one choice of colluders; those with kinds are None if kinds are not wanted."""

    plurality: float
    learned: float
    by_kind: float | None = None
    effort_default: float | None = None


def evaluate_collusion(
    panel: Panel,
    calibration: Sequence[AnsweredQuestion],
    test: Sequence[AnsweredQuestion],
    colluders: int,
    *,
    seed: int = 0,
    draws: int = COLLUSION_DRAWS,
    by_kind: bool = False,
) -> list[Collusion]:
    """Accuracy under collusion, over every choice of members if these are at most ``draws``, else over seeded draws.
    ``by_kind``: whether weights of kinds are wanted too, which takes a fit for each choice. Raises: ``InvalidRequest`` if so many
    members cannot collude."""
    agents = len(panel.agents)
    if not 0 < colluders < agents:
        raise InvalidRequest(
            f"The number of colluders must be from 1 to {agents - 1} in a panel of {agents} agents.",
            "invalid_colluders",
        )
    before = vote_table_of(calibration, panel.agents)
    after = vote_table_of(test, panel.agents)
    kinds = [question.kind for question in test]
    innocent = fit_weights(before)
    trusting = court_of(panel, calibration, by_kind=True) if by_kind else None
    best = int((before.votes == before.right[:, None]).sum(axis=0).argmax())
    found = []
    for among, members in (("any", range(agents)), ("not_best", [i for i in range(agents) if i != best])):
        chosen = _choices(list(members), colluders, draws, seed)
        persistent, sleeper = [], []
        for colluding in chosen:
            attacked, known = collude(after, colluding), collude(before, colluding)
            warned = None
            if by_kind:
                warned = court_of(panel, _colluding(calibration, panel.agents, known, colluding), by_kind=True)
            persistent.append(_under(attacked, fit_weights(known), warned, kinds))
            sleeper.append(_under(attacked, innocent, trusting, kinds))
        found += [
            _collusion(panel.name, colluders, kind, among, scores)
            for kind, scores in (("persistent", persistent), ("sleeper", sleeper))
        ]
    return found


def _colluding(
    questions: Sequence[AnsweredQuestion], agents: Sequence[str], table: VoteTable, members: Sequence[int]
) -> list[AnsweredQuestion]:
    """The questions with the votes that the table has for these members."""
    found = []
    for question, votes in zip(questions, table.votes.tolist(), strict=True):
        known = question.outcome(agents).known()
        changed = {agents[member]: known[votes[member]] for member in members}
        found.append(replace(question, votes={**question.votes, **changed}))
    return found


def _under(table: VoteTable, weights: Floats, court: Court | None, kinds: Sequence[str | None]) -> _Under:
    plurality, learned = _accuracy(table, np.ones(len(weights))), _accuracy(table, weights)
    if court is None:
        return _Under(plurality, learned)
    modes = (Mode.LEARNED.value, EFFORT_MODES[consensus.Effort.DEFAULT])
    own, few = (float(_credit(verdicts_by_kind(mode, table, kinds, court), table).mean()) for mode in modes)
    return _Under(plurality, learned, own, few)


def _collusion(panel: str, colluders: int, kind: str, among: str, scores: list[_Under]) -> Collusion:
    own = [score.by_kind for score in scores if score.by_kind is not None]
    few = [score.effort_default for score in scores if score.effort_default is not None]
    return Collusion(
        panel=panel,
        colluders=colluders,
        kind=kind,
        among=among,
        draws=len(scores),
        plurality=_rounded(float(np.mean([score.plurality for score in scores]))),
        learned=_rounded(float(np.mean([score.learned for score in scores]))),
        learned_least=_rounded(min(score.learned for score in scores)),
        by_kind=_rounded(float(np.mean(own))) if own else None,
        by_kind_least=_rounded(min(own)) if own else None,
        effort_default=_rounded(float(np.mean(few))) if few else None,
    )


def _choices(members: list[int], colluders: int, draws: int, seed: int) -> list[tuple[int, ...]]:
    if colluders >= len(members) or comb(len(members), colluders) <= draws:
        return list(combinations(members, min(colluders, len(members))))
    rng = np.random.default_rng(seed)
    return [tuple(sorted(int(i) for i in rng.choice(members, colluders, replace=False))) for _ in range(draws)]


def _accuracy(table: VoteTable, weights: Floats) -> float:
    score = np.where(table.chosen().any(axis=2), table.chosen() @ weights, -np.inf)
    return float((score.argmax(axis=1) == table.right).mean())
