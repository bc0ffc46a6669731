"""From ballots to a decision: a pure function of its input, so that whoever verifies a receipt gets the same decision.

Sums use ``math.fsum``, which does not depend on the order of its terms; confidences are rounded to 6 digits, so that the
last bit of a platform's ``exp`` does not show.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.domain.base.canonical import canonical_bytes
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.ballots import Ballot, BallotKind, Denominator, Electorate
from cluster.domain.consensus.effort import Effort
from cluster.domain.consensus.ranked import Pairwise, borda, pairwise, schulze_wins
from cluster.domain.consensus.result import Dissent, Judgement, Result
from cluster.domain.consensus.rule import ConsensusRule, Mode, TieBreak
from cluster.domain.consensus.snapshot import WeightSnapshot
from cluster.domain.consensus.weights import cap_owner_shares, panel_weights

_EPSILON = 1e-9
_RANKED = (Mode.BORDA, Mode.SCHULZE)
_SCORED = (Mode.WEIGHTED, Mode.LEARNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """Everything that a decision depends on. ``accepted`` counts, per option, the rationales that critics accepted. ``kind``:
    what kind of question it is. ``effort``: how many answers were asked for, which says how sure few of them are; None if
    nobody said."""

    rule: ConsensusRule
    electorate: Electorate
    ballots: Mapping[str, Ballot]
    judgement: Judgement | None = None
    accepted: Mapping[str, int] = field(default_factory=dict)
    kind: str | None = None
    effort: Effort | None = None

    def document(self) -> dict[str, Any]:
        """JSON from which the same decision is made again; a journal and a receipt carry it."""
        document: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        for name in ("kind", "effort"):
            if document[name] is None:
                del document[name]
        return document


_ADAPTER = TypeAdapter(Aggregation)


def aggregation_from_document(document: Mapping[str, Any]) -> Aggregation:
    """Reads what ``Aggregation.document`` wrote. Raises: ``InvalidRequest`` if it is anything else."""
    try:
        return _ADAPTER.validate_python(dict(document))
    except ValidationError as error:
        raise InvalidRequest(
            f"This is not the input of an aggregation: {error.errors()[0]['msg']}.", "invalid_aggregation"
        ) from error


@dataclass(frozen=True, slots=True)
class _Count:
    """The ballots as one rule counts them, before ties and thresholds. ``whole``: the total that shares are taken of."""

    tally: dict[str, float]
    whole: float
    needed: float = 0.0
    pairwise: Pairwise | None = None
    refusal: str = ""


def aggregate(asked: Aggregation, snapshot: WeightSnapshot | None = None) -> Result:
    """Decides by the rule. Raises: ``InvalidRequest`` if a ballot is from outside the panel, or the judge from inside."""
    _check(asked)
    whole, snapshot = snapshot, _of_kind(asked, snapshot)
    applied = _applied_mode(asked, snapshot)
    count = _COUNTERS[applied](asked, applied, snapshot)
    leaders = _leaders(count.tally)
    winner, tie_path = _break_tie(leaders, asked, applied, snapshot)
    reason = _why_not(asked, applied, count, winner)
    share = _share(asked, winner)
    top, second = _top_two(count.tally, winner)
    decided = reason == ""
    return Result(
        mode=asked.rule.mode,
        applied=applied,
        reached=decided,
        decision=winner if decided else None,
        leader=winner,
        tally=dict(sorted(count.tally.items())),
        denominator=asked.rule.denominator,
        denominator_value=count.whole,
        support=top / count.whole if count.whole else 0.0,
        margin=(top - second) / count.whole if count.whole else 0.0,
        uncalibrated_share=share,
        confidence=_confidence(asked, winner, share, snapshot, applied),
        eligible=len(asked.electorate.eligible),
        cast=len(_cast(asked)),
        quorum=asked.electorate.quorum(),
        tied=tuple(leaders) if len(leaders) > 1 else (),
        tie_path=tie_path,
        dissent=_dissent(asked, applied, winner),
        abstained=tuple(a for a in asked.electorate.eligible if a not in _cast(asked)),
        pairwise=count.pairwise,
        snapshot_id=whole.id if whole is not None else None,
        kind=asked.kind if whole is not None and whole.knows(asked.kind) else None,
        reason=reason,
    )


def counting_weights(asked: Aggregation, snapshot: WeightSnapshot | None = None) -> dict[str, float]:
    """How much the ballot of each agent counts under the rule that decides if k do not agree. A lossless stop compares the
    votes with what these weights leave outstanding."""
    snapshot = _of_kind(asked, snapshot)
    escalated = asked.rule.escalate_to if asked.rule.mode is Mode.AGREE_K else asked.rule.mode
    applied = _applied_mode(replace(asked, rule=replace(asked.rule, mode=escalated)), snapshot)
    if snapshot is not None and applied in _SCORED:
        return _model_weights(asked, applied, snapshot)
    return _voting_weights(asked)


def _of_kind(asked: Aggregation, snapshot: WeightSnapshot | None) -> WeightSnapshot | None:
    return None if snapshot is None else snapshot.of_kind(asked.kind)


def _check(asked: Aggregation) -> None:
    strangers = set(asked.ballots) - set(asked.electorate.eligible)
    if strangers:
        raise InvalidRequest(f"{min(strangers)!r} is not on the panel and cannot vote.", "invalid_ballot")
    if asked.judgement is not None and asked.judgement.judge in asked.electorate.eligible:
        raise InvalidRequest("The judge must not be a member of the panel.", "invalid_judge")


def _applied_mode(asked: Aggregation, snapshot: WeightSnapshot | None) -> Mode:
    """The mode that decides in the end: what ``agree_k`` escalates to, and what the gate chose in place of ``learned``."""
    mode = asked.rule.mode
    if mode is Mode.AGREE_K:
        if _k_agree(asked):
            return Mode.AGREE_K
        mode = asked.rule.escalate_to
    if mode is Mode.LEARNED:
        return snapshot.gate.choice if snapshot is not None else Mode.PLURALITY
    if mode is Mode.WEIGHTED and snapshot is None:
        return Mode.PLURALITY
    return mode


def _k_agree(asked: Aggregation) -> bool:
    tops = [ballot.top() for ballot in _cast(asked).values()]
    return len(tops) >= asked.rule.k and None not in tops and len(set(tops)) == 1


def _cast(asked: Aggregation) -> dict[str, Ballot]:
    given = asked.ballots
    return {
        agent: ballot
        for agent in asked.electorate.eligible
        if (ballot := given.get(agent)) is not None and ballot.kind is not BallotKind.ABSTAIN
    }


# --- counting ---------------------------------------------------------------------------------------------------------


def _sum_by_option(terms: Iterable[tuple[str, float]]) -> dict[str, float]:
    votes: dict[str, list[float]] = {}
    for option, weight in terms:
        votes.setdefault(option, []).append(weight)
    return {option: math.fsum(parts) for option, parts in votes.items()}


def _tops(asked: Aggregation, weights: Mapping[str, float]) -> dict[str, float]:
    return _sum_by_option(
        (option, weights[agent] * ballot.strength)
        for agent, ballot in _cast(asked).items()
        if (option := ballot.top()) is not None
    )


def _voting_weights(asked: Aggregation) -> dict[str, float]:
    return {agent: asked.electorate.weight(agent) for agent in asked.electorate.eligible}


def _whole(asked: Aggregation, weights: Mapping[str, float]) -> float:
    counted: Iterable[str] = (
        asked.electorate.eligible if asked.rule.denominator is Denominator.ELIGIBLE else _cast(asked)
    )
    return math.fsum(weights[agent] for agent in counted)


def _count_tops(asked: Aggregation, applied: Mode, _: WeightSnapshot | None) -> _Count:
    weights = _voting_weights(asked)
    whole = _whole(asked, weights)
    needed = {
        Mode.MAJORITY: whole / 2 + 2 * _EPSILON,  # strictly more than half
        Mode.SUPERMAJORITY: whole * asked.rule.q,
        Mode.UNANIMOUS: whole,
    }.get(applied, 0.0)
    return _Count(_tops(asked, weights), whole, needed, None, "mode_none" if applied is Mode.NONE else "")


def _count_approvals(asked: Aggregation, _: Mode, __: WeightSnapshot | None) -> _Count:
    weights = _voting_weights(asked)
    tally = _sum_by_option(
        (option, weights[agent] * ballot.strength)
        for agent, ballot in _cast(asked).items()
        for option in ballot.approved()
    )
    return _Count(tally, _whole(asked, weights))


def _count_scores(asked: Aggregation, applied: Mode, snapshot: WeightSnapshot | None) -> _Count:
    assert snapshot is not None
    weights = _model_weights(asked, applied, snapshot)
    return _Count(_tops(asked, weights), _whole(asked, weights))


def _count_ranked(asked: Aggregation, applied: Mode, _: WeightSnapshot | None) -> _Count:
    weights = _voting_weights(asked)
    cast = [(ballot, weights[agent] * ballot.strength) for agent, ballot in _cast(asked).items()]
    options = sorted(
        set(asked.electorate.options) | {o for ballot, _w in cast for group in ballot.order() for o in group}
    )
    preferences = pairwise(cast, options)
    beaten = max(1, len(options) - 1)
    if applied is Mode.BORDA:
        return _Count(borda(cast, options) if cast else {}, _whole(asked, weights) * beaten, 0.0, preferences)
    return _Count(schulze_wins(preferences) if cast else {}, float(beaten), 0.0, preferences)


def _count_judged(asked: Aggregation, applied: Mode, snapshot: WeightSnapshot | None) -> _Count:
    count = _count_tops(asked, applied, snapshot)
    if asked.judgement is None:
        return replace(count, refusal="no_judgement")
    verdicts = set(asked.judgement.verdicts)
    if len(verdicts) != 1:
        return replace(count, refusal="judge_inconsistent")
    if not verdicts <= set(count.tally):
        return replace(count, refusal="judged_no_candidate")
    return count


_COUNTERS: dict[Mode, Callable[[Aggregation, Mode, WeightSnapshot | None], _Count]] = {
    Mode.PLURALITY: _count_tops,
    Mode.MAJORITY: _count_tops,
    Mode.SUPERMAJORITY: _count_tops,
    Mode.UNANIMOUS: _count_tops,
    Mode.AGREE_K: _count_tops,
    Mode.NONE: _count_tops,
    Mode.APPROVAL: _count_approvals,
    Mode.WEIGHTED: _count_scores,
    Mode.LEARNED: _count_scores,
    Mode.BORDA: _count_ranked,
    Mode.SCHULZE: _count_ranked,
    Mode.JUDGE: _count_judged,
}


# --- ties, thresholds, dissent ----------------------------------------------------------------------------------------


def _leaders(tally: Mapping[str, float]) -> list[str]:
    """Every option within rounding of the highest; all of them if only agents without weight voted."""
    top = max(tally.values(), default=0.0)
    return sorted(option for option, value in tally.items() if value >= top - _EPSILON)


def _break_tie(
    leaders: list[str], asked: Aggregation, applied: Mode, snapshot: WeightSnapshot | None
) -> tuple[str | None, tuple[str, ...]]:
    """(the winner, what was tried). A tie is broken by the score of the weights, then by accepted rationales, then as the
    contract says."""
    if applied is Mode.JUDGE and asked.judgement is not None and len(set(asked.judgement.verdicts)) == 1:
        return asked.judgement.verdicts[0], ("judge",) if len(leaders) > 1 else ()
    if len(leaders) < 2:
        return (leaders[0] if leaders else None), ()
    path: list[str] = []
    if snapshot is not None and applied not in _SCORED:
        model = Mode.LEARNED if snapshot.gate.choice is Mode.LEARNED else Mode.WEIGHTED
        leaders = _best(leaders, _tops(asked, _model_weights(asked, model, snapshot)))
        path.append(f"{model.value}_score")
    if len(leaders) > 1 and asked.accepted:
        leaders = _best(leaders, asked.accepted)
        path.append("accepted_rationales")
    if len(leaders) == 1:
        return leaders[0], tuple(path)
    path.append(asked.rule.tie_break.value)
    if asked.rule.tie_break is TieBreak.ALPHA:
        return leaders[0], tuple(path)
    if asked.rule.tie_break is TieBreak.SEEDED:
        return leaders[_draw(asked.rule.seed, leaders)], tuple(path)
    return None, tuple(path)


def _best(options: list[str], scores: Mapping[str, float] | Mapping[str, int]) -> list[str]:
    top = max(scores.get(option, 0.0) for option in options)
    return [option for option in options if scores.get(option, 0.0) >= top - _EPSILON]


def _draw(seed: str, options: list[str]) -> int:
    digest = hashlib.sha256(canonical_bytes({"seed": seed, "options": options})).digest()
    return int.from_bytes(digest, "big") % len(options)


def _why_not(asked: Aggregation, applied: Mode, count: _Count, winner: str | None) -> str:
    if not _cast(asked):
        return "no_votes"
    if len(_cast(asked)) < asked.electorate.quorum():
        return "quorum"
    if count.refusal:
        return count.refusal
    if winner is None:
        return "tie" if _leaders(count.tally) else "no_votes"
    if applied is not Mode.JUDGE and count.tally[winner] < count.needed - _EPSILON:
        return "threshold"
    return ""


def _top_two(tally: Mapping[str, float], winner: str | None) -> tuple[float, float]:
    """The winner's value (the highest one if there is no winner) and the best of the others."""
    first = winner if winner in tally else max(tally, key=lambda option: tally[option], default=None)
    if first is None:
        return 0.0, 0.0
    return tally[first], max((value for option, value in tally.items() if option != first), default=0.0)


def _dissent(asked: Aggregation, applied: Mode, winner: str | None) -> tuple[Dissent, ...]:
    found = []
    for agent, ballot in _cast(asked).items():
        first = ballot.approved() if applied is Mode.APPROVAL else ballot.order()[0]
        if winner is None or winner not in first:
            found.append(Dissent(agent=agent, options=tuple(sorted(first))))
    return tuple(found)


# --- weights and confidence -------------------------------------------------------------------------------------------


def _model_weights(asked: Aggregation, model: Mode, snapshot: WeightSnapshot) -> dict[str, float]:
    known = snapshot.log_odds if model is Mode.WEIGHTED else snapshot.learned
    weights = panel_weights(known, asked.electorate.eligible)
    return cap_owner_shares(weights, asked.electorate.owners, snapshot.owner_cap)


def _share(asked: Aggregation, winner: str | None) -> float:
    weights = _voting_weights(asked)
    whole = _whole(asked, weights)
    return _tops(asked, weights).get(winner or "", 0.0) / whole if whole else 0.0


def _confidence(
    asked: Aggregation, winner: str | None, share: float, snapshot: WeightSnapshot | None, applied: Mode
) -> float | None:
    """The calibrated confidence; None if there is no calibration for this rule. It is not the naive-Bayes posterior, which
    would be far too sure, because agents' errors are correlated."""
    if snapshot is None or winner is None or applied in (*_RANKED, Mode.APPROVAL, Mode.JUDGE, Mode.NONE):
        return None
    modelled = asked.rule.mode is Mode.AGREE_K or applied in _SCORED
    key = _of_few(asked, snapshot) if asked.rule.mode is Mode.AGREE_K else applied.value if modelled else "share"
    calibration = snapshot.calibration.get(key)
    if calibration is None:
        return None
    return calibration(_learned_posterior(asked, winner, snapshot) if modelled else round(share, 9))


def _of_few(asked: Aggregation, snapshot: WeightSnapshot) -> str:
    """The map for answers of as many as were asked for; snapshots of earlier releases have none by effort."""
    return (
        asked.effort.value if asked.effort is not None and asked.effort in snapshot.calibration else Mode.AGREE_K.value
    )


def _learned_posterior(asked: Aggregation, winner: str, snapshot: WeightSnapshot) -> float:
    """Softmax of the learned scores over every option that could have been chosen."""
    scores = _tops(asked, _model_weights(asked, Mode.LEARNED, snapshot))
    for option in (*asked.electorate.options, winner):
        scores.setdefault(option, 0.0)
    top = max(scores.values())
    total = math.fsum(math.exp(score - top) for score in scores.values())
    return round(math.exp(scores[winner] - top) / total, 9)
