"""Which waiting task an agent gets: the index of a scheduler shard, in memory.

One first-in-first-out queue per (workspace, requirement set or target, priority level), ordered by age; only their
heads are ever compared, so a claim costs the number of requirement sets that the agent satisfies, whatever the depth
and whatever waits that nobody there can do.

Order: effective priority, then fairness between workspaces, then age. A head gains one level per ``ageing_s`` of
waiting, up to the highest, so nothing starves; it is computed when heads are compared, and nothing is re-sorted.
Workspaces take turns by start-time fair queueing (Goyal, Vin and Cheng 1996): a dispatch advances a workspace's tag by
1 / weight, and one that comes back starts at the present virtual time instead of with a credit.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cluster.domain.tasks import Priority, TaskHead

AGEING_S = 120.0
LEVELS = tuple(sorted(int(priority) for priority in Priority))
_LEVEL_OF = {priority: level for level, priority in enumerate(LEVELS)}
_TOP = len(LEVELS) - 1
_SPARE_LANES = 1000


@dataclass(slots=True, eq=False)
class _Lane:
    """The queues of one requirement set (or target) of one workspace, one per priority level."""

    workspace: str
    required: frozenset[str]
    target: str | None
    levels: tuple[list[tuple[float, str]], ...] = field(default_factory=lambda: tuple([] for _ in LEVELS))
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    lane: _Lane
    level: int
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What a waiting task is compared by; higher first. Shown by explain."""

    effective_level: int
    tag: float
    created_at: float

    def key(self) -> tuple[int, float, float]:
        return (-self.effective_level, self.tag, self.created_at)


class ReadyQueue:
    """Tasks that could start now. ``weights`` are the workspaces' shares (1 unless given)."""

    def __init__(self, ageing_s: float = AGEING_S, weights: Mapping[str, float] | None = None) -> None:
        self._ageing_s = ageing_s
        self._weights = dict(weights or {})
        self._places: dict[str, _Place] = {}
        self._lanes: dict[tuple[str, str | None, frozenset[str]], _Lane] = {}
        self._by_workspace: dict[str, list[_Lane]] = {}
        self._matches: dict[tuple[str, frozenset[str]], list[_Lane]] = {}
        self._tags: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._virtual = 0.0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._places

    def push(self, head: TaskHead) -> None:
        """At its place by age. A task that is already waiting moves."""
        self.discard(head.id)
        lane = self._lane(head)
        level = _LEVEL_OF[head.priority]
        self._places[head.id] = _Place(lane, level, max(head.created_at, head.run_at))
        heapq.heappush(lane.levels[level], (head.created_at, head.id))
        lane.waiting += 1
        if not self._waiting.get(head.workspace):
            self._tags[head.workspace] = max(self._tags.get(head.workspace, 0.0), self._virtual)
        self._waiting[head.workspace] = self._waiting.get(head.workspace, 0) + 1

    def discard(self, task_id: str) -> None:
        """Its entry stays behind in the heap and is skipped when it comes up."""
        place = self._places.pop(task_id, None)
        if place is not None:
            place.lane.waiting -= 1
            self._waiting[place.lane.workspace] -= 1

    def take(self, workspace: str, agent_id: str, capabilities: frozenset[str], now: float) -> str | None:
        """The id of the task that this agent should do first, removed from the queue; None if there is none for it."""
        best: tuple[tuple[int, float, float, str], _Lane, int] | None = None
        for lane in self._candidates(workspace, agent_id, capabilities):
            for level, fifo in enumerate(lane.levels):
                task_id = self._first(lane, level, fifo)
                if task_id is None:
                    continue
                key = (*self._rank(self._places[task_id], fifo[0][0], now).key(), task_id)
                if best is None or key < best[0]:
                    best = (key, lane, level)
        if best is None:
            return None
        key, lane, level = best
        heapq.heappop(lane.levels[level])
        task_id = key[-1]
        self.discard(task_id)
        self._charge(lane.workspace)
        return task_id

    def ahead_of(self, head: TaskHead, now: float) -> int | None:
        """How many tasks of the same lane come first; None if it does not wait. Cost grows with the lane's depth."""
        place = self._places.get(head.id)
        if place is None:
            return None
        own = (*self._rank(place, head.created_at, now).key(), head.id)
        return sum(
            (*self._rank(other, created_at, now).key(), task_id) < own
            for fifo in place.lane.levels
            for created_at, task_id in fifo
            if (other := self._places.get(task_id)) is not None and other.lane is place.lane
        )

    def _rank(self, place: _Place, created_at: float, now: float) -> Rank:
        aged = place.level + int(max(0.0, now - place.since) / self._ageing_s)
        return Rank(
            effective_level=min(_TOP, aged), tag=self._tags.get(place.lane.workspace, 0.0), created_at=created_at
        )

    def _charge(self, workspace: str) -> None:
        tag = self._tags.get(workspace, 0.0)
        self._virtual = max(self._virtual, tag)
        self._tags[workspace] = tag + 1.0 / self._weights.get(workspace, 1.0)

    def _first(self, lane: _Lane, level: int, fifo: list[tuple[float, str]]) -> str | None:
        """The head of a queue, after dropping entries of tasks that have left or moved."""
        while fifo:
            task_id = fifo[0][1]
            place = self._places.get(task_id)
            if place is not None and place.lane is lane and place.level == level:
                return task_id
            heapq.heappop(fifo)
        return None

    def _candidates(self, workspace: str, agent_id: str, capabilities: frozenset[str]) -> Iterator[_Lane]:
        key = (workspace, capabilities)
        matching = self._matches.get(key)
        if matching is None:
            lanes = self._by_workspace.get(workspace, ())
            matching = [lane for lane in lanes if lane.target is None and lane.required <= capabilities]
            self._matches[key] = matching
        for lane in matching:
            if lane.waiting:
                yield lane
        for lane in self._targeted(workspace, agent_id):
            if lane.waiting and lane.required <= capabilities:
                yield lane

    def _targeted(self, workspace: str, agent_id: str) -> Iterable[_Lane]:
        return self._by_workspace.get(f"{workspace}\x1f{agent_id}", ())

    def _lane(self, head: TaskHead) -> _Lane:
        key = (head.workspace, head.target_agent, head.required)
        lane = self._lanes.get(key)
        if lane is None:
            self._make_room()
            lane = self._lanes[key] = _Lane(head.workspace, head.required, head.target_agent)
            self._by_workspace.setdefault(_group(lane), []).append(lane)
            self._forget_matches(lane)
        return lane

    def _forget_matches(self, lane: _Lane) -> None:
        """Only lists that the new lane belongs into are wrong now."""
        if lane.target is None:
            for key in [k for k in self._matches if k[0] == lane.workspace and lane.required <= k[1]]:
                del self._matches[key]

    def _make_room(self) -> None:
        """Empty lanes are kept for their next task, but not for ever."""
        used = sum(lane.waiting > 0 for lane in self._lanes.values()) if len(self._lanes) >= _SPARE_LANES else 0
        if len(self._lanes) < _SPARE_LANES or used * 2 > len(self._lanes):
            return
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.waiting}
        self._by_workspace.clear()
        self._matches.clear()
        for lane in self._lanes.values():
            self._by_workspace.setdefault(_group(lane), []).append(lane)


def _group(lane: _Lane) -> str:
    return lane.workspace if lane.target is None else f"{lane.workspace}\x1f{lane.target}"
