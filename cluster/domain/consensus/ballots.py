"""Ballots, and who may cast them.

A ballot is of one of five kinds. Every rule reads it through one of three views (top choice, approvals, weak order), so
any rule accepts any ballot. The denominator of a share is always stated: ``eligible`` counts everybody on the panel,
``cast`` only those who did not abstain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cluster.domain.base.errors import InvalidRequest


class BallotKind(StrEnum):
    CHOICE = "choice"
    APPROVAL = "approval"
    RANKING = "ranking"
    SCORES = "scores"
    ABSTAIN = "abstain"


class Confidence(StrEnum):
    """Stated confidence in five buckets; a free number is not asked for because models answer 8 or 100."""

    VERY_LOW = "very_low"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    VERY_HIGH = "very_high"


class Denominator(StrEnum):
    ELIGIBLE = "eligible"
    CAST = "cast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """``options`` is the choice, the approved set, or the ranking best first; options left out of a ranking tie for last.

    ``strength`` scales the ballot: an answer changed in debate without a stated reason counts half. ``reason``: why an
    agent abstained. Raises: ``InvalidRequest`` if the fields do not fit the kind.
    """

    kind: BallotKind
    options: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    confidence: Confidence | None = None
    strength: float = 1.0
    reason: str = ""

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise InvalidRequest(f"The ballot is not valid: {problem}.", "invalid_ballot")

    def _problem(self) -> str:
        if not 0.0 < self.strength <= 1.0:
            return "strength must be above 0 and at most 1"
        if self.kind is BallotKind.CHOICE and len(self.options) != 1:
            return "a choice names exactly one option"
        if self.kind in (BallotKind.APPROVAL, BallotKind.RANKING) and not self.options:
            return "it names no option; abstain instead"
        if len(set(self.options)) != len(self.options):
            return "an option is named twice"
        if (self.kind is BallotKind.SCORES) != bool(self.scores):
            return "scores belong to a scores ballot, and only there"
        if not all(-1e9 <= score <= 1e9 for score in self.scores.values()):
            return "a score is not a finite number"
        return ""

    def top(self) -> str | None:
        """The one option that this ballot puts first; None if it abstains or puts several first."""
        if self.kind is BallotKind.CHOICE:
            return self.options[0]
        order = self.order()
        return next(iter(order[0])) if order and len(order[0]) == 1 else None

    def approved(self) -> frozenset[str]:
        """The options that this ballot approves: of a ranking only the first, of scores those above zero."""
        if self.kind is BallotKind.SCORES:
            return frozenset(option for option, score in self.scores.items() if score > 0)
        return frozenset(self.options[:1] if self.kind is BallotKind.RANKING else self.options)

    def order(self) -> tuple[frozenset[str], ...]:
        """The options that this ballot names, in groups of equals, best first."""
        if self.kind is BallotKind.RANKING:
            return tuple(frozenset((option,)) for option in self.options)
        if self.kind is BallotKind.SCORES:
            levels = sorted(set(self.scores.values()), reverse=True)
            return tuple(frozenset(o for o, score in self.scores.items() if score == level) for level in levels)
        return (frozenset(self.options),) if self.options else ()


def choice(option: str, confidence: Confidence | None = None, strength: float = 1.0) -> Ballot:
    return Ballot(kind=BallotKind.CHOICE, options=(option,), confidence=confidence, strength=strength)


def approval(*options: str) -> Ballot:
    return Ballot(kind=BallotKind.APPROVAL, options=options)


def ranking(*options: str) -> Ballot:
    return Ballot(kind=BallotKind.RANKING, options=options)


def scored(scores: Mapping[str, float]) -> Ballot:
    return Ballot(kind=BallotKind.SCORES, scores=scores)


def abstain(reason: str = "") -> Ballot:
    return Ballot(kind=BallotKind.ABSTAIN, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Electorate:
    """Who may vote. ``options`` are the answers that can be given, if they are a closed set.

    ``asked``: the part of the panel that was asked, if a stop made it needless to ask the rest. Quorum is measured against
    it, shares are not. An agent without an entry in ``owners`` is not capped. ``weights`` are voting weights that are set
    in advance (1 unless stated), not learned ones. Raises: ``InvalidRequest`` if the fields contradict each other.
    """

    eligible: tuple[str, ...]
    options: tuple[str, ...] = ()
    asked: tuple[str, ...] | None = None
    owners: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    min_votes: int = 1
    quorum_ratio: float = 0.0

    def __post_init__(self) -> None:
        if not self.eligible or len(set(self.eligible)) != len(self.eligible):
            raise InvalidRequest("The panel must name at least one agent, and none twice.", "invalid_panel")
        if any(not 0.0 <= weight <= 1e9 for weight in self.weights.values()):
            raise InvalidRequest("A voting weight must be a number from 0 up.", "invalid_panel")
        if not set(self.asked or ()) <= set(self.eligible):
            raise InvalidRequest("Only agents of the panel can have been asked.", "invalid_panel")

    def weight(self, agent: str) -> float:
        return self.weights.get(agent, 1.0)

    def quorum(self) -> int:
        """Votes that must be cast: max(min_votes, ceil(ratio x asked)), at most all that were asked."""
        asked = len(self.asked if self.asked is not None else self.eligible)
        by_ratio = -int(-(self.quorum_ratio * asked - 1e-9) // 1)
        return min(asked, max(self.min_votes, by_ratio)) if asked else self.min_votes
