"""Outcomes as the stores take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.domain.base.log import Origin
from cluster.domain.consensus.learning import (
    NewOutcome,
    panel_of,
)
from cluster.domain.consensus.outcomes import Outcome
from tests.support.crowd import crowd
from tests.support.samples import ASKER, NOW

ACCURACY = {"good": 0.9, "fair": 0.5, "poor": 0.3, "weak": 0.3}
AGENTS = panel_of(tuple(ACCURACY))


def new_outcome(number: int, outcome: Outcome, *, origin: Origin = ASKER, panel: Sequence[str] = ()) -> NewOutcome:
    return NewOutcome(
        id=f"q{number}",
        origin=origin,
        at=NOW,
        outcome=outcome,
        panel=panel_of([*panel, *outcome.votes]),
        source="import",
    )


def history(count: int, *, start: int = 0, seed: int = 0, accuracy: Mapping[str, float] = ACCURACY) -> list[NewOutcome]:
    return [new_outcome(start + i, outcome) for i, outcome in enumerate(crowd(accuracy, count, seed=seed))]
