"""The frozen result of learning: weights, the gate's choice and the calibration maps, named by the hash of its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.calibration import IsotonicMap, Tilt, TiltedMap
from cluster.domain.consensus.precedents import Precedents
from cluster.domain.consensus.rule import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Leave-one-out accuracies of the three candidates and which of them may decide.

    ``gain`` and ``gain_se`` are the chosen rule's mean paired advantage over plurality and its standard error.
    """

    choice: Mode
    plurality: float
    weighted: float
    learned: float
    gain: float
    gain_se: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KindWeights:
    """``learned``: weight by agent for questions of one kind.

    If ``earned``, they decide. If not, they are in the proportions of those of all questions, so decisions are the same, and
    only say how sure a decision of this kind is. ``gain``, ``gain_se`` and ``likelihood`` are what weights of its own win on
    held-out outcomes: right decisions per question over the panel's rule, and the mean log of the right option's probability
    over the proportions of all questions. ``tilts`` change the confidences of `Kinds.calibration`.
    """

    learned: Mapping[str, float]
    earned: bool
    outcomes: int
    gain: float
    gain_se: float
    likelihood: float
    tilts: Mapping[str, Tilt] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """What was learned of kinds of questions. ``ridge`` pulls the proportions of a kind's weights to those of all questions;
    ``gain`` and ``gain_se`` are those of all kinds together. ``calibration`` is as that of the snapshot, for posteriors of
    the kinds' weights."""

    ridge: float
    gain: float
    gain_se: float
    by_kind: Mapping[str, KindWeights]
    calibration: Mapping[str, IsotonicMap] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WeightSnapshot:
    """``learned`` and ``log_odds``: weight by agent; ``accuracy``: smoothed share of right answers among those given.

    ``calibration`` maps ``share`` (top vote share), ``weighted``, ``learned``, ``agree_k`` and the names of `Effort` (posterior
    of the learned weights) to probabilities. ``outcomes_digest`` names the outcomes that were fitted. ``schema_version`` is 2
    if there are ``kinds``; without them a snapshot is what it was before there were any, so that its id stays.

    ``precedents`` say whom to ask, not what is decided. They follow from the outcomes that ``outcomes_digest`` names, so they are
    no part of the document; None in a snapshot that was read from one.
    """

    learned: Mapping[str, float]
    log_odds: Mapping[str, float]
    accuracy: Mapping[str, float]
    gate: Gate
    owner_cap: float | None
    ridge: float
    outcomes: int
    outcomes_digest: str
    calibration: Mapping[str, IsotonicMap] = field(default_factory=dict)
    schema_version: int = 1
    kinds: Kinds | None = None
    precedents: Precedents | None = field(default=None, compare=False)

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = _ADAPTER.dump_python(replace(self, precedents=None), mode="json")
        del document["precedents"]
        if self.kinds is None:
            del document["kinds"]
        return document

    def stored(self) -> dict[str, Any]:
        """The document, and the precedents beside what it holds."""
        if self.precedents is None:
            return self.document()
        return {**self.document(), "precedents": _PRECEDENTS.dump_python(self.precedents, mode="json")}

    @cached_property
    def id(self) -> str:
        return canonical_sha256(self.document())

    def knows(self, kind: str | None) -> bool:
        """Whether questions of this kind have weights, or a confidence, of their own."""
        return kind is not None and self.kinds is not None and kind in self.kinds.by_kind

    def of_kind(self, kind: str | None) -> WeightSnapshot:
        """What decides questions of this kind: this snapshot itself if it knows nothing of the kind. The result is for
        deciding only; its id is nobody's."""
        if kind is None or self.kinds is None or kind not in self.kinds.by_kind:
            return self
        found = self.kinds.by_kind[kind]
        return replace(
            self,
            learned=found.learned,
            gate=replace(self.gate, choice=Mode.LEARNED) if found.earned else self.gate,
            calibration={**self.calibration, **_tilted(self.kinds.calibration, found.tilts)},
            kinds=None,
        )

    def order(self) -> list[str]:
        """The agents, best record first: whom to ask before the others."""
        return sorted(self.accuracy, key=lambda agent: (-self.accuracy[agent], agent))


def _tilted(maps: Mapping[str, IsotonicMap], tilts: Mapping[str, Tilt]) -> dict[str, IsotonicMap]:
    return {
        name: TiltedMap(
            knots=found.knots,
            values=found.values,
            trust=found.trust,
            outcomes=found.outcomes,
            tilt=tilts.get(name, Tilt()),
        )
        for name, found in maps.items()
    }


_ADAPTER = TypeAdapter(WeightSnapshot)
_PRECEDENTS = TypeAdapter(Precedents)


def snapshot_from_document(document: Mapping[str, Any]) -> WeightSnapshot:
    """Reads what ``WeightSnapshot.document`` or ``stored`` wrote. Raises: ``InvalidRequest`` if it is anything else."""
    try:
        return _ADAPTER.validate_python(dict(document))
    except ValidationError as error:
        raise InvalidRequest(
            f"This is not a weight snapshot: {error.errors()[0]['msg']}.", "invalid_snapshot"
        ) from error
