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
_SPARE_SUB_QUEUES = 1000


_NOWHERE: frozenset[str] = frozenset()

HeapItem = tuple[float, str, str]
"""(order key, id)"""

SubQueueKey = tuple[str, str | None, frozenset[str], str, str | None, Selection | None]
"""(workspace, target agent, required capabilities, queue, task type if it has settings, who may have it)"""


@dataclass(slots=True, eq=False)
class _SubQueue:
    """The queues of tasks that the same agents may have, one per priority level. ``gated``: there is more to ask than
    the agent's capabilities."""

    key: SubQueueKey
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
    sub_queue: _SubQueue
    level: int
    since: float
    slot: tuple[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
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
        self._sub_queues: dict[SubQueueKey, _SubQueue] = {}
        self._look_through_at = _SPARE_SUB_QUEUES
        self._by_workspace: dict[str, list[_SubQueue]] = {}
        self._matches: dict[tuple[str, frozenset[str], bool], list[_SubQueue]] = {}
        self._set_aside: dict[tuple[str, str], dict[tuple[_SubQueue, int, int], list[HeapItem]]] = {}
        self._readmitted: list[_SubQueue] = []
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
        sub_queue = self._sub_queue(head)
        level = _LEVEL_OF[head.priority]
        rules = head.rules
        slot = (
            None if rules is None or rules.concurrency_key is None else (rules.concurrency_key, rules.concurrency_limit)
        )
        item = (head.created_at, head.id, head.id) if head.order_key is None else (*head.order_key, head.id)
        self._entries[head.id] = QueueEntry(item, sub_queue, level, max(head.created_at, head.run_at), slot)
        heapq.heappush(sub_queue.levels[level], item)
        sub_queue.waiting += 1
        if not self._waiting.get(sub_queue.share):
            self._tags[sub_queue.share] = max(self._tags.get(sub_queue.share, 0.0), self._virtual)
        self._waiting[sub_queue.share] = self._waiting.get(sub_queue.share, 0) + 1

    def seed(self, seed: int) -> None:
        """For a queue that was built anew: who had been served last is not known, and without lots the tenant of the
        oldest task would gain a dispatch by every restart. Each starts less than one of its dispatches behind."""
        for sub_queue in self._sub_queues.values():
            digest = hashlib.sha256(f"{seed}|{sub_queue.share}".encode()).digest()
            self._tags[sub_queue.share] = int.from_bytes(digest[:4]) / 2**32 / sub_queue.weight

    def discard(self, task_id: str) -> None:
        """Its entry stays behind in the heap and is skipped when it comes up."""
        entry = self._entries.pop(task_id, None)
        if entry is not None:
            entry.sub_queue.waiting -= 1
            self._waiting[entry.sub_queue.share] -= 1
            if entry.slot is not None:
                self.slot_free(entry.sub_queue.workspace, entry.slot[0])

    def take(
        self,
        workspace: str,
        agent_id: str,
        capabilities: frozenset[str],
        now: float,
        regions: frozenset[str] = _NOWHERE,
        *,
        explicit_only: bool = False,
    ) -> str | None:
        """The id of the task that this agent should do first, removed from the queue; None if there is none for it.

        ``explicit_only`` leaves those that require nothing to others, unless they name the agent."""
        best: tuple[tuple[int, float, HeapItem], _SubQueue, int] | None = None
        for sub_queue in self._candidates(workspace, agent_id, capabilities, explicit_only):
            if sub_queue.gated and not self._is_open(sub_queue, now):
                continue
            for level, fifo in enumerate(sub_queue.levels):
                task_id = self._first(sub_queue, fifo)
                if task_id is None:
                    continue
                entry = self._entries[task_id]
                if sub_queue.selection is not None and not sub_queue.selection.admits(
                    agent_id, regions, now - entry.since
                ):
                    continue
                key = self._rank(entry, now).key()
                if best is None or key < best[0]:
                    best = (key, sub_queue, level)
        if best is None:
            return None
        key, sub_queue, level = best
        heapq.heappop(sub_queue.levels[level])
        task_id = key[-1][-1]
        self.discard(task_id)
        self._charge(sub_queue)
        return task_id

    # --- limits ---------------------------------------------------------------------------------------------------

    def control(self, control: Control, now: float) -> bool:
        """Puts a setting in force; False if it is known already. Tasks of a type that had no settings before must be
        pushed again, so that they come into queues of their own."""
        if not self.limits.put(control, now):
            return False
        for sub_queue in self._sub_queues.values():
            if sub_queue.workspace == control.workspace:
                self._set_gate(sub_queue)
        return True

    def slot_free(self, workspace: str, key: str) -> None:
        """One task per queue that was put aside for this key may come up again."""
        set_aside = self._set_aside.get((workspace, key))
        if set_aside is None:
            return
        for where in list(set_aside):
            sub_queue, level, _ = where
            items = set_aside[where]
            while items:
                item = heapq.heappop(items)
                if self._stands(item):
                    heapq.heappush(sub_queue.levels[level], item)
                    self._readmitted.append(sub_queue)
                    break
            if not items:
                del set_aside[where]
        if not set_aside:
            del self._set_aside[workspace, key]

    def readmitted(self) -> list[_SubQueue]:
        """Queues in which tasks have come up again since the last call."""
        sub_queues, self._readmitted = self._readmitted, []
        return sub_queues

    def sub_queues_of(self, workspace: str) -> list[_SubQueue]:
        """Queues of a workspace in which something waits."""
        return [
            sub_queue
            for sub_queue in self._sub_queues.values()
            if sub_queue.workspace == workspace and sub_queue.waiting
        ]

    def next_token(self, workspace: str, now: float) -> float | None:
        """When the next queue of the workspace that waits only for its rate may start a task."""
        times = [
            bucket.ready_at(now)
            for sub_queue in self.sub_queues_of(workspace)
            if not sub_queue.paused and (bucket := self.limits.bucket(workspace, sub_queue.queue)) is not None
        ]
        return min(times, default=None)

    def _set_gate(self, sub_queue: _SubQueue) -> None:
        paused = self.limits.paused
        sub_queue.paused = (
            paused(sub_queue.workspace, ControlKind.QUEUE, sub_queue.queue)
            or paused(sub_queue.workspace, ControlKind.TENANT, sub_queue.tenant)
            or (
                sub_queue.task_type is not None
                and paused(sub_queue.workspace, ControlKind.TASK_TYPE, sub_queue.task_type)
            )
        )
        rated = self.limits.bucket(sub_queue.workspace, sub_queue.queue) is not None
        sub_queue.gated = sub_queue.paused or rated
        control = self.limits.get(sub_queue.workspace, ControlKind.TENANT, sub_queue.tenant)
        sub_queue.weight = self._weights.get(sub_queue.share, 1.0) if control is None else control.weight

    def _is_open(self, sub_queue: _SubQueue, now: float) -> bool:
        if sub_queue.paused:
            return False
        bucket = self.limits.bucket(sub_queue.workspace, sub_queue.queue)
        return bucket is None or bucket.ready(now)

    def _defer(self, entry: QueueEntry) -> None:
        assert entry.slot is not None
        key, limit = entry.slot
        set_aside = self._set_aside.setdefault((entry.sub_queue.workspace, key), {})
        heapq.heappush(set_aside.setdefault((entry.sub_queue, entry.level, limit), []), entry.item)

    def _stands(self, item: HeapItem) -> bool:
        entry = self._entries.get(item[-1])
        return entry is not None and entry.item is item

    # --- order ----------------------------------------------------------------------------------------------------

    def ahead_of(self, head: TaskHead, now: float) -> int | None:
        """How many tasks of the same sub-queue come first; None if it does not wait. Cost grows with its depth."""
        entry = self._entries.get(head.id)
        if entry is None:
            return None
        own = self._rank(entry, now).key()
        return sum(
            self._rank(self._entries[item[-1]], now).key() < own
            for fifo in entry.sub_queue.levels
            for item in fifo
            if self._stands(item)
        )

    def order_key_at(self, head: TaskHead, position: int) -> order_key.OrderKey | None:
        """The order key at which ``position - 1`` other tasks of its level are ahead of it, or the last one; None if
        there is no other. Cost grows with the depth of the line, unless it is to be the first."""
        level = _LEVEL_OF[head.priority]
        sub_queue = self._sub_queues.get(self._sub_queue_key(head))
        lines = [] if sub_queue is None else [sub_queue.levels[level], *self._set_aside_in(sub_queue, level)]
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

    def _set_aside_in(self, sub_queue: _SubQueue, level: int) -> Iterator[list[HeapItem]]:
        for (workspace, _), set_aside in self._set_aside.items():
            if workspace == sub_queue.workspace:
                yield from (items for where, items in set_aside.items() if where[:2] == (sub_queue, level))

    def position_of(self, head: TaskHead, now: float) -> QueuePosition | None:
        """None if it does not wait here."""
        entry, ahead = self._entries.get(head.id), self.ahead_of(head, now)
        if entry is None or ahead is None:
            return None
        shares = {
            sub_queue.share: sub_queue.weight
            for sub_queue in self.sub_queues_of(head.workspace)
            if not sub_queue.paused
        }
        own = entry.sub_queue.weight
        rank = self._rank(entry, now)
        return QueuePosition(
            ahead=ahead,
            effective_level=rank.effective_level,
            share=own / max(own, sum(shares.values())),
            dispatches_behind=max(0.0, (rank.tag - self._virtual) * own),
        )

    def _rank(self, entry: QueueEntry, now: float) -> Rank:
        aged = entry.level + int(max(0.0, now - entry.since) / self._ageing_s)
        return Rank(effective_level=min(_TOP, aged), tag=self._tags.get(entry.sub_queue.share, 0.0), item=entry.item)

    def _charge(self, sub_queue: _SubQueue) -> None:
        tag = self._tags.get(sub_queue.share, 0.0)
        self._virtual = max(self._virtual, tag)
        self._tags[sub_queue.share] = tag = tag + 1.0 / sub_queue.weight
        self._latest = max(self._latest, tag)
        if sub_queue.gated and (bucket := self.limits.bucket(sub_queue.workspace, sub_queue.queue)) is not None:
            bucket.spend()

    def _first(self, sub_queue: _SubQueue, fifo: list[HeapItem]) -> str | None:
        """The head of a queue, after dropping entries of tasks that have left or moved, and putting aside those whose
        concurrency key is full."""
        while fifo:
            task_id = fifo[0][-1]
            entry = self._entries.get(task_id)
            if entry is not None and entry.item is fifo[0]:
                if entry.slot is None or not self.limits.is_full(sub_queue.workspace, *entry.slot):
                    return task_id
                self._defer(entry)
            heapq.heappop(fifo)
        return None

    # --- sub-queues -------------------------------------------------------------------------------------------------

    def _candidates(
        self, workspace: str, agent_id: str, capabilities: frozenset[str], explicit_only: bool
    ) -> Iterator[_SubQueue]:
        key = (workspace, capabilities, explicit_only)
        matching = self._matches.get(key)
        if matching is None:
            sub_queues = self._by_workspace.get(workspace, ())
            if explicit_only:
                sub_queues = [sub_queue for sub_queue in sub_queues if sub_queue.required]
            matching = [
                sub_queue for sub_queue in sub_queues if sub_queue.target is None and sub_queue.required <= capabilities
            ]
            self._matches[key] = matching
        for sub_queue in matching:
            if sub_queue.waiting:
                yield sub_queue
        for sub_queue in self._targeted(workspace, agent_id):
            if sub_queue.waiting and sub_queue.required <= capabilities:
                yield sub_queue

    def _targeted(self, workspace: str, agent_id: str) -> Iterable[_SubQueue]:
        return self._by_workspace.get(f"{workspace}\x1f{agent_id}", ())

    def _sub_queue_key(self, head: TaskHead) -> SubQueueKey:
        selection = None if head.rules is None else head.rules.selection()
        own_type = head.task_type if self.limits.has_type(head.workspace, head.task_type) else None
        return (head.workspace, head.target_agent, head.required, head.queue, own_type, selection)

    def _sub_queue(self, head: TaskHead) -> _SubQueue:
        key = self._sub_queue_key(head)
        sub_queue = self._sub_queues.get(key)
        if sub_queue is None:
            self._make_room()
            sub_queue = self._sub_queues[key] = _new_sub_queue(key, head)
            self._set_gate(sub_queue)
            self._by_workspace.setdefault(_group(sub_queue), []).append(sub_queue)
            self._forget_matches(sub_queue)
        return sub_queue

    def _forget_matches(self, sub_queue: _SubQueue) -> None:
        """Only lists that the new sub-queue belongs into are wrong now."""
        if sub_queue.target is None:
            for key in [k for k in self._matches if k[0] == sub_queue.workspace and sub_queue.required <= k[1]]:
                del self._matches[key]

    def _make_room(self) -> None:
        """Empty lanes are kept for their next task, but not for ever. Looking through all of them comes so seldom that it
        costs each new sub-queue little."""
        if len(self._sub_queues) < self._look_through_at:
            return
        used = sum(sub_queue.waiting > 0 for sub_queue in self._sub_queues.values())
        if used * 2 > len(self._sub_queues):
            self._look_through_at = len(self._sub_queues) * 5 // 4
            return
        self._look_through_at = max(_SPARE_SUB_QUEUES, 2 * used)
        self._sub_queues = {key: sub_queue for key, sub_queue in self._sub_queues.items() if sub_queue.waiting}
        # A tenant that waits for nothing and has had no more than its share is as one that never was.
        self._waiting = {share: tasks for share, tasks in self._waiting.items() if tasks}
        self._tags = {s: tag for s, tag in self._tags.items() if s in self._waiting or tag > self._virtual}
        self._by_workspace.clear()
        self._matches.clear()
        for sub_queue in self._sub_queues.values():
            self._by_workspace.setdefault(_group(sub_queue), []).append(sub_queue)


def _new_sub_queue(key: SubQueueKey, head: TaskHead) -> _SubQueue:
    workspace, target, required, queue, own_type, selection = key
    tenant = head.tenant
    return _SubQueue(
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


def _group(sub_queue: _SubQueue) -> str:
    return sub_queue.workspace if sub_queue.target is None else f"{sub_queue.workspace}\x1f{sub_queue.target}"
