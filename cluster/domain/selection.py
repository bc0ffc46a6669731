"""Which of several agents gets the next task. Pure: whatever is random comes from a number given by the caller.

least_loaded    the smallest share of its slots in use; then who was chosen longest ago
round_robin     who was chosen longest ago
random          by the caller's draw
lowest_latency  the shortest mean time to an answer; who has none yet is tried first
scored          load, latency, recent success, cost and region, weighed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    LEAST_LOADED = "least_loaded"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LOWEST_LATENCY = "lowest_latency"
    SCORED = "scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An agent that could take the task. ``load`` of ``slots`` are in use; ``success`` is its recent share, ``cost`` per
    million tokens, ``chosen`` a count that grows with every choice of anybody (0: never)."""

    agent_id: str
    load: int = 0
    slots: int = 1
    latency_ms: float | None = None
    success: float | None = None
    cost: float | None = None
    region: str = ""
    chosen: int = 0


#: Weights of ``scored``: each part is between 0 (worst of the candidates) and 1 (best).
WEIGHTS: Mapping[str, float] = {"load": 0.35, "latency": 0.2, "success": 0.25, "cost": 0.1, "region": 0.1}


def choose(strategy: Strategy, candidates: Sequence[Candidate], *, draw: float = 0.0, region: str = "") -> str | None:
    """The id of the chosen agent, None if nobody has a free slot. ``draw`` is in [0, 1)."""
    free = [one for one in candidates if one.load < one.slots]
    if not free:
        return None
    if strategy is Strategy.RANDOM:
        ordered = sorted(free, key=lambda one: one.agent_id)
        return ordered[min(int(draw * len(ordered)), len(ordered) - 1)].agent_id
    if strategy is Strategy.SCORED:
        return _best_scored(free, region).agent_id
    return min(free, key=_KEYS[strategy]).agent_id


_Key = tuple[float, int, str]
_KEYS: Mapping[Strategy, Callable[[Candidate], _Key]] = {
    Strategy.LEAST_LOADED: lambda one: (one.load / one.slots, one.chosen, one.agent_id),
    Strategy.ROUND_ROBIN: lambda one: (0.0, one.chosen, one.agent_id),
    Strategy.LOWEST_LATENCY: lambda one: (one.latency_ms or 0.0, one.chosen, one.agent_id),
}


def _best_scored(free: Sequence[Candidate], region: str) -> Candidate:
    slowest = max((one.latency_ms or 0.0 for one in free), default=0.0) or 1.0
    dearest = max((one.cost or 0.0 for one in free), default=0.0) or 1.0

    def score(one: Candidate) -> float:
        parts = {
            "load": 1.0 - one.load / one.slots,
            "latency": 1.0 - (one.latency_ms or 0.0) / slowest,
            "success": 1.0 if one.success is None else one.success,
            "cost": 1.0 - (one.cost or 0.0) / dearest,
            "region": 1.0 if not region or one.region == region else 0.0,
        }
        return sum(WEIGHTS[name] * value for name, value in parts.items())

    return min(free, key=lambda one: (-score(one), one.chosen, one.agent_id))
