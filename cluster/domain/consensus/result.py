"""The result of an aggregation. Every field is JSON, so that a receipt can carry it and a verifier compare it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.domain.consensus.ballots import Denominator
from cluster.domain.consensus.rule import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A judge's verdicts, one per order in which the candidates were shown. If they differ, the judge decides nothing."""

    judge: str
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissent:
    """An agent whose ballot does not put the leader first (or, in approval, does not approve it)."""

    agent: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``decision`` is set if and only if ``reached``. ``leader`` is the best option either way; None if it is tied, or if
    nobody voted.

    ``support`` and ``margin`` are shares of ``denominator_value``. ``confidence`` is a calibrated probability that the
    leader is right, None if there is nothing to calibrate with; then only ``uncalibrated_share`` is left, which is not a
    probability. ``reason`` says why no decision was reached. ``kind``: the kind of question whose weights or confidence of its
    own ``snapshot_id`` holds and this result used; None if it holds none for the question's kind.
    """

    mode: Mode
    applied: Mode
    reached: bool
    decision: str | None
    leader: str | None
    tally: Mapping[str, float]
    denominator: Denominator
    denominator_value: float
    support: float
    margin: float
    uncalibrated_share: float
    confidence: float | None
    eligible: int
    cast: int
    quorum: int
    tied: tuple[str, ...] = ()
    tie_path: tuple[str, ...] = ()
    dissent: tuple[Dissent, ...] = ()
    abstained: tuple[str, ...] = ()
    pairwise: Mapping[str, Mapping[str, float]] | None = field(default=None)
    snapshot_id: str | None = None
    kind: str | None = None
    reason: str = ""
