"""Which of several agents gets the next task. Pure: randomness comes from a number that the caller draws.

least_loaded    the smallest share of its slots in use; among equals the one that was chosen longest ago
round_robin     the one that was chosen longest ago
random          by the caller's draw
lowest_latency  the shortest mean time to an answer; an agent without an answer yet is tried first
scored          the highest weighted sum of load, latency, recent success, cost and region
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
    """An agent that could take the task. ``load`` of its ``slots`` are in use. ``success`` is the recent share of its calls that
    succeeded, ``cost`` its price per million tokens. ``chosen`` is the number of the choice that chose it last, counted over
    all agents (0: never)."""

    agent_id: str
    load: int = 0
    slots: int = 1
    latency_ms: float | None = None
    success: float | None = None
    cost: float | None = None
    region: str = ""
    chosen: int = 0


#: Weights of the parts of ``scored``. Each part is between 0 (worst) and 1 (best).
WEIGHTS: Mapping[str, float] = {"load": 0.35, "latency": 0.2, "success": 0.25, "cost": 0.1, "region": 0.1}


def choose(strategy: Strategy, candidates: Sequence[Candidate], *, draw: float = 0.0, region: str = "") -> str | None:
    """The id of the chosen agent; None if none has a free slot. ``draw`` is in [0, 1)."""
    free = [candidate for candidate in candidates if candidate.load < candidate.slots]
    if not free:
        return None
    if strategy is Strategy.RANDOM:
        ordered = sorted(free, key=lambda candidate: candidate.agent_id)
        return ordered[min(int(draw * len(ordered)), len(ordered) - 1)].agent_id
    if strategy is Strategy.SCORED:
        key = _scored(candidates, region)
        return min(free, key=key).agent_id
    return min(free, key=_KEYS[strategy]).agent_id


PARTS = ("load", "latency", "success", "cost", "region")

_Key = tuple[float, int, str]
_KEYS: Mapping[Strategy, Callable[[Candidate], _Key]] = {
    Strategy.LEAST_LOADED: lambda agent: (agent.load / agent.slots, agent.chosen, agent.agent_id),
    Strategy.ROUND_ROBIN: lambda agent: (0.0, agent.chosen, agent.agent_id),
    Strategy.LOWEST_LATENCY: lambda agent: (agent.latency_ms or 0.0, agent.chosen, agent.agent_id),
}


def _worst(candidates: Iterable[Candidate]) -> tuple[float, float]:
    """The longest latency and the highest cost among the candidates, which scores are relative to; 1 if there is none."""
    slowest = dearest = 0.0
    for candidate in candidates:
        slowest, dearest = max(slowest, candidate.latency_ms or 0.0), max(dearest, candidate.cost or 0.0)
    return slowest or 1.0, dearest or 1.0


def _scored(candidates: Iterable[Candidate], region: str) -> Callable[[Candidate], _Key]:
    slowest, dearest = _worst(candidates)
    load_w, latency_w, success_w, cost_w, region_w = (WEIGHTS[name] for name in PARTS)

    def key(agent: Candidate) -> _Key:
        score = (
            load_w * (1.0 - agent.load / agent.slots)
            + latency_w * (1.0 - (agent.latency_ms or 0.0) / slowest)
            + success_w * (1.0 if agent.success is None else agent.success)
            + cost_w * (1.0 - (agent.cost or 0.0) / dearest)
            + (region_w if not region or agent.region == region else 0.0)
        )
        return (-score, agent.chosen, agent.agent_id)

    return key


class Ranking:
    """Candidates kept in a strategy's order while they change, so that a choice looks at a few of them only.

    It chooses as ``choose`` does, except that a draw counts the candidates in another order.
    """

    def __init__(self, strategy: Strategy, region: str = "") -> None:
        self._strategy = strategy
        self._region = region
        # Agent id → candidate, whether or not it has a free slot. ``put`` adds and replaces, ``remove`` removes.
        self._candidates: dict[str, Candidate] = {}
        # Ids of the candidates with a free slot, in no order: a draw takes one by its index. ``_enter`` adds; ``_leave`` puts
        # the last one where the one that leaves was.
        self._free: list[str] = []
        # Agent id → index in ``_free``. It has the same ids.
        self._index_of: dict[str, int] = {}
        # Agent id → its present key in the order. It has the ids of ``_free``.
        self._keys: dict[str, _Key] = {}
        # A heap of keys, of which those in ``_keys`` count. A key that its candidate no longer has stays until it comes up;
        # ``_enter`` builds the heap again when more than half of it is such keys.
        self._heap: list[_Key] = []
        # The longest latency and the highest cost of all candidates, for ``scored``; and the function that makes the keys.
        self._worst = _worst(())
        self._key = self._key_now()

    def __len__(self) -> int:
        return len(self._candidates)

    def put(self, candidate: Candidate) -> None:
        """Adds a candidate, or replaces the one with its id."""
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
        """The id of the chosen candidate with a free slot that is not ``excluded``; None if there is none. ``draw`` is in
        [0, 1)."""
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
        """Ranks all candidates again if the longest latency or the highest cost has changed, which every score is relative to."""
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
