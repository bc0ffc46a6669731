"""Which waiting task an agent gets: the index of a scheduler shard, in memory.

One first-in-first-out queue per (workspace, requirement set or target, priority level), ordered by age; only their
heads are ever compared, so a claim costs the number of requirement sets that the agent satisfies, whatever the depth
and whatever waits that nobody there can do.

Order: effective priority, then fairness between tenants, then age, or the order key that a task was given. A head gains
one level per ``ageing_s`` of waiting, up to the highest, so nothing starves; it is computed when heads are compared, and
nothing is re-sorted.
Tenants take turns by start-time fair queueing (Goyal, Vin and Cheng 1996): a dispatch advances a tenant's tag by
1 / weight, and one that comes back starts at the present virtual time instead of with a credit. A task without a
tenant belongs to its workspace.

What may not start now is passed over at no cost to the rest. A pause, a rate and a choice of agents concern whole
queues, which are skipped. Tasks whose concurrency key is full are put aside when they come up, and one per queue comes
back for each slot that becomes free.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cluster.domain.scheduling.limits import Control, ControlKind, Limits
from cluster.domain.tasks import order_key
from cluster.domain.tasks.rules import Selection
from cluster.domain.tasks.task import Priority, TaskHead

AGEING_S = 120.0
LEVELS = tuple(sorted(int(priority) for priority in Priority))
_LEVEL_OF = {priority: level for level, priority in enumerate(LEVELS)}
_TOP = len(LEVELS) - 1
_SPARE_LANES = 1000


_NOWHERE: frozenset[str] = frozenset()

HeapItem = tuple[float, str, str]
"""(order key, id)"""

LaneKey = tuple[str, str | None, frozenset[str], str, str | None, Selection | None]
"""(workspace, target agent, required capabilities, queue, task type if it has settings, who may have it)"""


@dataclass(slots=True, eq=False)
class _Lane:
    """The queues of tasks that the same agents may have, one per priority level. ``gated``: there is more to ask than
    the agent's capabilities."""

    key: LaneKey
    workspace: str
    target: str | None
    required: frozenset[str]
    queue: str
    task_type: str | None
    selection: Selection | None
    tenant: str
    share: str
    paused: bool = False
    gated: bool = False
    weight: float = 1.0
    levels: tuple[list[HeapItem], ...] = field(default_factory=lambda: tuple([] for _ in LEVELS))
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """``slot`` is (concurrency key, limit). An entry of a heap counts only while it is this very one: those of tasks that
    have left or moved stay behind."""

    item: HeapItem
    lane: _Lane
    level: int
    since: float
    slot: tuple[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a waiting task is. ``share`` is its tenant's part of the next dispatches among the tenants that wait in
    this workspace, ``dispatches_behind`` by how many dispatches of its own weight it is ahead of its turn."""

    ahead: int
    effective_level: int
    share: float
    dispatches_behind: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What a waiting task is compared by; higher first. Shown by explain."""

    effective_level: int
    tag: float
    item: HeapItem

    def key(self) -> tuple[int, float, HeapItem]:
        return (-self.effective_level, self.tag, self.item)


class ReadyQueue:
    """Tasks that could start now. ``weights`` are the workspaces' shares (1 unless given) where no setting says more."""

    def __init__(
        self,
        ageing_s: float = AGEING_S,
        weights: Mapping[str, float] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._ageing_s = ageing_s
        self._weights = dict(weights or {})
        self._entries: dict[str, QueueEntry] = {}
        self._lanes: dict[LaneKey, _Lane] = {}
        self._look_through_at = _SPARE_LANES
        self._by_workspace: dict[str, list[_Lane]] = {}
        self._matches: dict[tuple[str, frozenset[str], bool], list[_Lane]] = {}
        self._aside: dict[tuple[str, str], dict[tuple[_Lane, int, int], list[HeapItem]]] = {}
        self._came_back: list[_Lane] = []
        self._tags: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._virtual = 0.0
        self._latest = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._entries

    def push(self, head: TaskHead) -> None:
        """By age, or by the order key that it was given. A task that is already waiting moves."""
        self.discard(head.id)
        if not self._entries:
            self._virtual = self._latest  # nobody waits, so nobody is owed anything
        lane = self._lane(head)
        level = _LEVEL_OF[head.priority]
        rules = head.rules
        slot = (
            None if rules is None or rules.concurrency_key is None else (rules.concurrency_key, rules.concurrency_limit)
        )
        item = (head.created_at, head.id, head.id) if head.order_key is None else (*head.order_key, head.id)
        self._entries[head.id] = QueueEntry(item, lane, level, max(head.created_at, head.run_at), slot)
        heapq.heappush(lane.levels[level], item)
        lane.waiting += 1
        if not self._waiting.get(lane.share):
            self._tags[lane.share] = max(self._tags.get(lane.share, 0.0), self._virtual)
        self._waiting[lane.share] = self._waiting.get(lane.share, 0) + 1

    def draw_lots(self, seed: int) -> None:
        """For a queue that was built anew: who had been served last is not known, and without lots the tenant of the
        oldest task would gain a dispatch by every restart. Each starts less than one of its dispatches behind."""
        for lane in self._lanes.values():
            digest = hashlib.sha256(f"{seed}|{lane.share}".encode()).digest()
            self._tags[lane.share] = int.from_bytes(digest[:4]) / 2**32 / lane.weight

    def discard(self, task_id: str) -> None:
        """Its entry stays behind in the heap and is skipped when it comes up."""
        entry = self._entries.pop(task_id, None)
        if entry is not None:
            entry.lane.waiting -= 1
            self._waiting[entry.lane.share] -= 1
            if entry.slot is not None:
                self.slot_free(entry.lane.workspace, entry.slot[0])

    def take(
        self,
        workspace: str,
        agent_id: str,
        capabilities: frozenset[str],
        now: float,
        regions: frozenset[str] = _NOWHERE,
        *,
        only_asked_for: bool = False,
    ) -> str | None:
        """The id of the task that this agent should do first, removed from the queue; None if there is none for it.

        ``only_asked_for`` leaves those that require nothing to others, unless they name the agent."""
        best: tuple[tuple[int, float, HeapItem], _Lane, int] | None = None
        for lane in self._candidates(workspace, agent_id, capabilities, only_asked_for):
            if lane.gated and not self._is_open(lane, now):
                continue
            for level, fifo in enumerate(lane.levels):
                task_id = self._first(lane, fifo)
                if task_id is None:
                    continue
                entry = self._entries[task_id]
                if lane.selection is not None and not lane.selection.admits(agent_id, regions, now - entry.since):
                    continue
                key = self._rank(entry, now).key()
                if best is None or key < best[0]:
                    best = (key, lane, level)
        if best is None:
            return None
        key, lane, level = best
        heapq.heappop(lane.levels[level])
        task_id = key[-1][-1]
        self.discard(task_id)
        self._charge(lane)
        return task_id

    # --- limits ---------------------------------------------------------------------------------------------------

    def control(self, control: Control, now: float) -> bool:
        """Puts a setting in force; False if it is known already. Tasks of a type that had no settings before must be
        pushed again, so that they come into queues of their own."""
        if not self.limits.put(control, now):
            return False
        for lane in self._lanes.values():
            if lane.workspace == control.workspace:
                self._set_gate(lane)
        return True

    def slot_free(self, workspace: str, key: str) -> None:
        """One task per queue that was put aside for this key may come up again."""
        aside = self._aside.get((workspace, key))
        if aside is None:
            return
        for where in list(aside):
            lane, level, _ = where
            items = aside[where]
            while items:
                item = heapq.heappop(items)
                if self._stands(item):
                    heapq.heappush(lane.levels[level], item)
                    self._came_back.append(lane)
                    break
            if not items:
                del aside[where]
        if not aside:
            del self._aside[workspace, key]

    def came_back(self) -> list[_Lane]:
        """Queues in which tasks have come up again since the last call."""
        lanes, self._came_back = self._came_back, []
        return lanes

    def lanes_of(self, workspace: str) -> list[_Lane]:
        """Queues of a workspace in which something waits."""
        return [lane for lane in self._lanes.values() if lane.workspace == workspace and lane.waiting]

    def next_token(self, workspace: str, now: float) -> float | None:
        """When the next queue of the workspace that waits only for its rate may start a task."""
        times = [
            bucket.ready_at(now)
            for lane in self.lanes_of(workspace)
            if not lane.paused and (bucket := self.limits.bucket(workspace, lane.queue)) is not None
        ]
        return min(times, default=None)

    def _set_gate(self, lane: _Lane) -> None:
        paused = self.limits.paused
        lane.paused = (
            paused(lane.workspace, ControlKind.QUEUE, lane.queue)
            or paused(lane.workspace, ControlKind.TENANT, lane.tenant)
            or (lane.task_type is not None and paused(lane.workspace, ControlKind.TASK_TYPE, lane.task_type))
        )
        rated = self.limits.bucket(lane.workspace, lane.queue) is not None
        lane.gated = lane.paused or rated
        control = self.limits.get(lane.workspace, ControlKind.TENANT, lane.tenant)
        lane.weight = self._weights.get(lane.share, 1.0) if control is None else control.weight

    def _is_open(self, lane: _Lane, now: float) -> bool:
        if lane.paused:
            return False
        bucket = self.limits.bucket(lane.workspace, lane.queue)
        return bucket is None or bucket.ready(now)

    def _put_aside(self, entry: QueueEntry) -> None:
        assert entry.slot is not None
        key, limit = entry.slot
        aside = self._aside.setdefault((entry.lane.workspace, key), {})
        heapq.heappush(aside.setdefault((entry.lane, entry.level, limit), []), entry.item)

    def _stands(self, item: HeapItem) -> bool:
        entry = self._entries.get(item[-1])
        return entry is not None and entry.item is item

    # --- order ----------------------------------------------------------------------------------------------------

    def ahead_of(self, head: TaskHead, now: float) -> int | None:
        """How many tasks of the same lane come first; None if it does not wait. Cost grows with the lane's depth."""
        entry = self._entries.get(head.id)
        if entry is None:
            return None
        own = self._rank(entry, now).key()
        return sum(
            self._rank(self._entries[item[-1]], now).key() < own
            for fifo in entry.lane.levels
            for item in fifo
            if self._stands(item)
        )

    def order_key_at(self, head: TaskHead, position: int) -> order_key.OrderKey | None:
        """The order key at which ``position - 1`` other tasks of its level are ahead of it, or the last one; None if
        there is no other. Cost grows with the depth of the line, unless it is to be the first."""
        level = _LEVEL_OF[head.priority]
        lane = self._lanes.get(self._lane_key(head))
        lines = [] if lane is None else [lane.levels[level], *self._aside_of(lane, level)]
        if position <= 1:
            first = min((line[0] for line in lines if line), default=None)
            is_first = first is not None and first[-1] == head.id and self._stands(first)
            return None if first is None or is_first else order_key.before(first[:2], head.id)
        others = (item for item in itertools.chain(*lines) if item[-1] != head.id and self._stands(item))
        ahead = [item[:2] for item in heapq.nsmallest(position, others)]
        if not ahead:
            return None
        if len(ahead) < position:
            return order_key.between(ahead[-1], None)
        return order_key.between(ahead[-2], ahead[-1])

    def _aside_of(self, lane: _Lane, level: int) -> Iterator[list[HeapItem]]:
        for (workspace, _), aside in self._aside.items():
            if workspace == lane.workspace:
                yield from (items for where, items in aside.items() if where[:2] == (lane, level))

    def standing(self, head: TaskHead, now: float) -> Standing | None:
        """None if it does not wait here."""
        entry, ahead = self._entries.get(head.id), self.ahead_of(head, now)
        if entry is None or ahead is None:
            return None
        shares = {lane.share: lane.weight for lane in self.lanes_of(head.workspace) if not lane.paused}
        own = entry.lane.weight
        rank = self._rank(entry, now)
        return Standing(
            ahead=ahead,
            effective_level=rank.effective_level,
            share=own / max(own, sum(shares.values())),
            dispatches_behind=max(0.0, (rank.tag - self._virtual) * own),
        )

    def _rank(self, entry: QueueEntry, now: float) -> Rank:
        aged = entry.level + int(max(0.0, now - entry.since) / self._ageing_s)
        return Rank(effective_level=min(_TOP, aged), tag=self._tags.get(entry.lane.share, 0.0), item=entry.item)

    def _charge(self, lane: _Lane) -> None:
        tag = self._tags.get(lane.share, 0.0)
        self._virtual = max(self._virtual, tag)
        self._tags[lane.share] = tag = tag + 1.0 / lane.weight
        self._latest = max(self._latest, tag)
        if lane.gated and (bucket := self.limits.bucket(lane.workspace, lane.queue)) is not None:
            bucket.spend()

    def _first(self, lane: _Lane, fifo: list[HeapItem]) -> str | None:
        """The head of a queue, after dropping entries of tasks that have left or moved, and putting aside those whose
        concurrency key is full."""
        while fifo:
            task_id = fifo[0][-1]
            entry = self._entries.get(task_id)
            if entry is not None and entry.item is fifo[0]:
                if entry.slot is None or not self.limits.is_full(lane.workspace, *entry.slot):
                    return task_id
                self._put_aside(entry)
            heapq.heappop(fifo)
        return None

    # --- lanes ----------------------------------------------------------------------------------------------------

    def _candidates(
        self, workspace: str, agent_id: str, capabilities: frozenset[str], only_asked_for: bool
    ) -> Iterator[_Lane]:
        key = (workspace, capabilities, only_asked_for)
        matching = self._matches.get(key)
        if matching is None:
            lanes = self._by_workspace.get(workspace, ())
            if only_asked_for:
                lanes = [lane for lane in lanes if lane.required]
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

    def _lane_key(self, head: TaskHead) -> LaneKey:
        selection = None if head.rules is None else head.rules.selection()
        own_type = head.task_type if self.limits.has_type(head.workspace, head.task_type) else None
        return (head.workspace, head.target_agent, head.required, head.queue, own_type, selection)

    def _lane(self, head: TaskHead) -> _Lane:
        key = self._lane_key(head)
        lane = self._lanes.get(key)
        if lane is None:
            self._make_room()
            lane = self._lanes[key] = _new_lane(key, head)
            self._set_gate(lane)
            self._by_workspace.setdefault(_group(lane), []).append(lane)
            self._forget_matches(lane)
        return lane

    def _forget_matches(self, lane: _Lane) -> None:
        """Only lists that the new lane belongs into are wrong now."""
        if lane.target is None:
            for key in [k for k in self._matches if k[0] == lane.workspace and lane.required <= k[1]]:
                del self._matches[key]

    def _make_room(self) -> None:
        """Empty lanes are kept for their next task, but not for ever. Looking through all of them comes so seldom that it
        costs each new lane little."""
        if len(self._lanes) < self._look_through_at:
            return
        used = sum(lane.waiting > 0 for lane in self._lanes.values())
        if used * 2 > len(self._lanes):
            self._look_through_at = len(self._lanes) * 5 // 4
            return
        self._look_through_at = max(_SPARE_LANES, 2 * used)
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.waiting}
        # A tenant that waits for nothing and has had no more than its share is as one that never was.
        self._waiting = {share: tasks for share, tasks in self._waiting.items() if tasks}
        self._tags = {s: tag for s, tag in self._tags.items() if s in self._waiting or tag > self._virtual}
        self._by_workspace.clear()
        self._matches.clear()
        for lane in self._lanes.values():
            self._by_workspace.setdefault(_group(lane), []).append(lane)


def _new_lane(key: LaneKey, head: TaskHead) -> _Lane:
    workspace, target, required, queue, own_type, selection = key
    tenant = head.tenant
    return _Lane(
        key=key,
        workspace=workspace,
        target=target,
        required=required,
        queue=queue,
        task_type=own_type,
        selection=selection,
        tenant=tenant,
        share=workspace if tenant == workspace else f"{workspace}\x1f{tenant}",
    )


def _group(lane: _Lane) -> str:
    return lane.workspace if lane.target is None else f"{lane.workspace}\x1f{lane.target}"
