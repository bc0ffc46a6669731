"""Which of several agents gets the next task. Pure: whatever is random comes from a number given by the caller.

least_loaded    the smallest share of its slots in use; then who was chosen longest ago
round_robin     who was chosen longest ago
random          by the caller's draw
lowest_latency  the shortest mean time to an answer; who has none yet is tried first
scored          load, latency, recent success, cost and region, weighed
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    free = [candidate for candidate in candidates if candidate.load < candidate.slots]
    if not free:
        return None
    if strategy is Strategy.RANDOM:
        ordered = sorted(free, key=lambda one: one.agent_id)
        return ordered[min(int(draw * len(ordered)), len(ordered) - 1)].agent_id
    if strategy is Strategy.SCORED:
        key = _scored(candidates, region)
        return min(free, key=key).agent_id
    return min(free, key=_KEYS[strategy]).agent_id


PARTS = ("load", "latency", "success", "cost", "region")

_Key = tuple[float, int, str]
_KEYS: Mapping[Strategy, Callable[[Candidate], _Key]] = {
    Strategy.LEAST_LOADED: lambda one: (one.load / one.slots, one.chosen, one.agent_id),
    Strategy.ROUND_ROBIN: lambda one: (0.0, one.chosen, one.agent_id),
    Strategy.LOWEST_LATENCY: lambda one: (one.latency_ms or 0.0, one.chosen, one.agent_id),
}


def _worst(candidates: Iterable[Candidate]) -> tuple[float, float]:
    """The slowest and the dearest of all candidates, of which the parts are shares."""
    slowest = dearest = 0.0
    for candidate in candidates:
        slowest, dearest = max(slowest, candidate.latency_ms or 0.0), max(dearest, candidate.cost or 0.0)
    return slowest or 1.0, dearest or 1.0


def _scored(candidates: Iterable[Candidate], region: str) -> Callable[[Candidate], _Key]:
    slowest, dearest = _worst(candidates)
    load_w, latency_w, success_w, cost_w, region_w = (WEIGHTS[name] for name in PARTS)

    def key(one: Candidate) -> _Key:
        score = (
            load_w * (1.0 - one.load / one.slots)
            + latency_w * (1.0 - (one.latency_ms or 0.0) / slowest)
            + success_w * (1.0 if one.success is None else one.success)
            + cost_w * (1.0 - (one.cost or 0.0) / dearest)
            + (region_w if not region or one.region == region else 0.0)
        )
        return (-score, one.chosen, one.agent_id)

    return key


class Ranking:
    """Candidates that compete, kept in a strategy's order while they change: a choice looks at a few of them only.

    It chooses as ``choose`` does, except that a draw is counted in another order. What a candidate was ranked by before
    it changed stays in the heap until it comes up, and everything is ranked anew when most of the heap is such.
    """

    def __init__(self, strategy: Strategy, region: str = "") -> None:
        self._strategy = strategy
        self._region = region
        self._candidates: dict[str, Candidate] = {}
        self._free: list[str] = []
        self._index_of: dict[str, int] = {}
        self._keys: dict[str, _Key] = {}
        self._heap: list[_Key] = []
        self._worst = _worst(())
        self._key = self._key_now()

    def __len__(self) -> int:
        return len(self._candidates)

    def put(self, candidate: Candidate) -> None:
        """New, or not what it was."""
        before = self._candidates.get(candidate.agent_id)
        self._candidates[candidate.agent_id] = candidate
        self._scale_of(before, candidate)
        if candidate.load < candidate.slots:
            self._enter(candidate)
        else:
            self._leave(candidate.agent_id)

    def remove(self, agent_id: str) -> None:
        before = self._candidates.pop(agent_id, None)
        self._leave(agent_id)
        self._scale_of(before, None)

    def choose(self, *, draw: float = 0.0, excluded: Collection[str] = ()) -> str | None:
        """The chosen one with a free slot, none of the ``excluded``; None without such. ``draw`` is in [0, 1)."""
        return self._drawn(draw, excluded) if self._strategy is Strategy.RANDOM else self._first(excluded)

    def _drawn(self, draw: float, excluded: Collection[str]) -> str | None:
        first = int(draw * len(self._free))
        for step in range(len(self._free)):
            found = self._free[(first + step) % len(self._free)]
            if found not in excluded:
                return found
        return None

    def _first(self, excluded: Collection[str]) -> str | None:
        set_aside: list[_Key] = []
        found = None
        while self._heap and found is None:
            key = self._heap[0]
            agent_id = key[2]
            if self._keys.get(agent_id) != key:
                heapq.heappop(self._heap)
            elif agent_id in excluded:
                set_aside.append(heapq.heappop(self._heap))
            else:
                found = agent_id
        for key in set_aside:
            heapq.heappush(self._heap, key)
        return found

    def _enter(self, candidate: Candidate) -> None:
        agent_id = candidate.agent_id
        if agent_id not in self._index_of:
            self._index_of[agent_id] = len(self._free)
            self._free.append(agent_id)
        key = self._key(candidate)
        if self._keys.get(agent_id) != key:
            self._keys[agent_id] = key
            heapq.heappush(self._heap, key)
        if len(self._heap) > 2 * len(self._keys) + 64:
            self._heap = sorted(self._keys.values())

    def _leave(self, agent_id: str) -> None:
        self._keys.pop(agent_id, None)
        index = self._index_of.pop(agent_id, None)
        if index is None:
            return
        last = self._free.pop()
        if last != agent_id:
            self._free[index] = last
            self._index_of[last] = index

    def _scale_of(self, before: Candidate | None, after: Candidate | None) -> None:
        """Scores are shares of the worst: when that changes, everybody's does."""
        if self._strategy is not Strategy.SCORED:
            return
        was = _worst(() if before is None else (before,))
        now = _worst(() if after is None else (after,))
        slowest, dearest = self._worst
        rose = now[0] > slowest or now[1] > dearest
        fell = (was[0] == slowest and now[0] < slowest) or (was[1] == dearest and now[1] < dearest)
        if not (rose or fell) or (worst := _worst(self._candidates.values())) == self._worst:
            return
        self._worst, self._key = worst, self._key_now()
        self._keys = {name: self._key(self._candidates[name]) for name in self._free if name in self._candidates}
        self._heap = sorted(self._keys.values())

    def _key_now(self) -> Callable[[Candidate], _Key]:
        if self._strategy is Strategy.SCORED:
            return _scored(self._candidates.values(), self._region)
        return _KEYS.get(self._strategy, _KEYS[Strategy.ROUND_ROBIN])
