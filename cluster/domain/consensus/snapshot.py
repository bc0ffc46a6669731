"""The frozen result of learning: weights, the gate's choice and the calibration maps, named by the hash of its content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.domain.base.canonical import canonical_sha256
from cluster.domain.base.errors import InvalidRequest
from cluster.domain.consensus.calibration import IsotonicMap
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
class WeightSnapshot:
    """``learned`` and ``log_odds``: weight by agent; ``accuracy``: smoothed share of right answers among those given.

    ``calibration`` maps ``share`` (top vote share), ``weighted``, ``learned`` and ``agree_k`` (posterior of the learned
    weights) to probabilities. ``outcomes_digest`` names the outcomes that were fitted.
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

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return document

    @property
    def id(self) -> str:
        return canonical_sha256(self.document())

    def order(self) -> list[str]:
        """The agents, best record first: whom to ask before the others."""
        return sorted(self.accuracy, key=lambda agent: (-self.accuracy[agent], agent))


_ADAPTER = TypeAdapter(WeightSnapshot)


def snapshot_from_document(document: Mapping[str, Any]) -> WeightSnapshot:
    """Reads what ``WeightSnapshot.document`` wrote. Raises: ``InvalidRequest`` if it is anything else."""
    try:
        return _ADAPTER.validate_python(dict(document))
    except ValidationError as error:
        raise InvalidRequest(
            f"This is not a weight snapshot: {error.errors()[0]['msg']}.", "invalid_snapshot"
        ) from error
