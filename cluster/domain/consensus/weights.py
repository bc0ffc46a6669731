"""From an agent's record to the weight of its vote: log-odds, the cap per owner, and the weight without a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

DEFAULT_OWNER_CAP = 0.40


def log_odds(accuracy: float, options: float) -> float:
    """Weight of an independent voter among ``options`` answers with errors spread evenly (Nitzan and Paroush 1982).

    Zero for an agent no better than chance: a vote is never turned into its opposite.
    """
    assert 0.0 < accuracy < 1.0
    return max(0.0, math.log(accuracy * max(1.0, options - 1.0) / (1.0 - accuracy)))


def panel_weights(known: Mapping[str, float], agents: Iterable[str]) -> dict[str, float]:
    """The known weights, and their mean for an agent without a record: it starts as an average member."""
    mean = math.fsum(known.values()) / len(known) if known else 1.0
    return {agent: known.get(agent, mean) for agent in agents}


def cap_owner_shares(weights: Mapping[str, float], owners: Mapping[str, str], cap: float | None) -> dict[str, float]:
    """Scales owners down until none holds more than ``cap`` of the panel's total weight.

    An agent without a stated owner is not capped: a cap on each single agent would waste the knowledge of a much better
    one. If too few have any weight for the cap to be possible (two owners under a cap of 40 %), the weights stay as they
    are.
    """
    totals: dict[str, list[float]] = {}
    for agent, weight in weights.items():
        if agent in owners:
            totals.setdefault(owners[agent], []).append(weight)
    held = {owner: math.fsum(parts) for owner, parts in totals.items() if math.fsum(parts) > 0}
    unowned = [weight for agent, weight in weights.items() if agent not in owners and weight > 0]
    if cap is None or (len(held) + len(unowned)) * cap < 1.0:
        return dict(weights)
    capped: set[str] = set()
    while True:
        free = math.fsum([*unowned, *(weight for owner, weight in held.items() if owner not in capped)])
        limit = cap * free / (1.0 - cap * len(capped))
        over = [owner for owner, weight in held.items() if owner not in capped and weight > limit * (1 + 1e-12)]
        if not over:
            break
        # The heaviest first: capping it lowers the total, which may bring others over the limit in the next turn.
        capped.add(max(over, key=lambda owner: (held[owner], owner)))
    scale = {owner: min(1.0, limit / held[owner]) for owner in capped}
    return {agent: weight * scale.get(owners.get(agent, ""), 1.0) for agent, weight in weights.items()}
