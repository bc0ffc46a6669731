"""Which waiting task an agent gets: the index of a scheduler shard, in memory.

Tasks that the same agents may have share a sub-queue, which is a heap per priority level, sorted by age or order key. Only
the first tasks of the heaps are compared. So a claim costs the number of sub-queues that the agent may take from, however
long they are, and sub-queues that it may not take from cost it nothing.

Order: effective priority, then fairness between tenants, then order key (age unless a task was moved). A task gains one
level per ``ageing_s`` of waiting, up to the highest, so nothing starves. Ageing is computed when the first tasks of heaps are
compared: nothing is sorted again as time passes, and within a heap order keys alone decide.

Tenants take turns by start-time fair queueing (Goyal, Vin and Cheng 1996): a dispatch advances a tenant's tag by 1 / weight,
and the tenant with the lowest tag comes next. A tenant that had nothing waiting starts again at the present virtual time, so
it does not save up a credit. A task without a tenant counts for its workspace.

A task that may not start now delays no other. A pause, a rate, a budget, a quota on running tasks and rules about agents
concern whole sub-queues, which a claim skips. A budget that throttles lowers the level of its tasks as it is used up. A task
whose concurrency key is full is set aside when it comes up; for each slot that becomes free, one task per sub-queue is
readmitted.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cluster.domain.scheduling.eligibility import Demand, Profile, demand_key, patience
from cluster.domain.scheduling.gates import Gates
from cluster.domain.scheduling.limits import Limits
from cluster.domain.scheduling.sub_queues import LEVELS, MAX_PROFILES, HeapItem, SubQueue, SubQueues
from cluster.domain.tasks import order_key
from cluster.domain.tasks.rules import PREFERENCE_S
from cluster.domain.tasks.task import TaskHead

AGEING_S = 120.0
_LEVEL_OF = {priority: level for level, priority in enumerate(LEVELS)}
_TOP = len(LEVELS) - 1


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """Where a waiting task is. ``push`` makes it, and makes a new one when the task moves."""

    # The task's item in a heap. The heap's item counts only if it is this very object: one that is merely equal was left
    # behind when the task was pushed again, and would give the task twice.
    item: HeapItem
    # The sub-queue and the level in whose heap the item is, or in whose set-aside heap.
    sub_queue: SubQueue
    level: int
    # From when its waiting counts for ageing (epoch seconds): when it was created or may first run, whichever is later.
    since: float
    # (concurrency key, limit) that it needs a slot of; None if it needs none.
    slot: tuple[str, int] | None
    # The key of the queue's ``_shared_types``.
    kind: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """How long a task has yet to wait. ``ahead``: tasks of its sub-queue that come first. ``share``: the part of the next
    dispatches that its tenant gets, among the tenants that wait in the workspace. ``dispatches_behind``: how many of its own
    dispatches its tenant is ahead of its share, and has to wait for the others to catch up."""

    ahead: int
    effective_level: int
    share: float
    dispatches_behind: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What waiting tasks are compared by: the higher level first, then the lower tag, then the lower item."""

    effective_level: int
    tag: float
    item: HeapItem

    def key(self) -> tuple[int, float, HeapItem]:
        return (-self.effective_level, self.tag, self.item)


def _always_near(demand: Demand, now: float) -> bool:
    return True


class ReadyQueue:
    """Tasks that could start now. ``weights`` are the weights of shares (1 unless given) for which no control sets one."""

    def __init__(
        self,
        ageing_s: float = AGEING_S,
        weights: Mapping[str, float] | None = None,
        limits: Limits | None = None,
        most_profiles: int = MAX_PROFILES,
    ) -> None:
        # Whether an agent of the regions that a demand prefers is there. The core knows; without it somebody always is.
        self.is_near: Callable[[Demand, float], bool] = _always_near
        # Seconds of waiting that are worth one level of priority.
        self._ageing_s = ageing_s
        # Task id → entry of every task that waits here, those set aside included. ``push`` adds, ``discard`` removes. It alone
        # says whether a task waits: an item of a heap that is not its task's entry means nothing.
        self._entries: dict[str, QueueEntry] = {}
        # All sub-queues, and the index by which claims find them.
        self._sub_queues = SubQueues(most_profiles)
        # What keeps whole sub-queues back, and its parts, which claims read.
        self.gates = Gates(self._sub_queues, limits or Limits(), dict(weights or {}))
        self.limits, self.accounts, self.running = self.gates.limits, self.gates.accounts, self.gates.running
        # (workspace, task type) → how many tasks of the type wait in shared sub-queues. ``push`` and ``discard`` count; no zeros.
        # It says whether there is anything to move when a type gets sub-queues of its own.
        self._shared_types: dict[tuple[str, str], int] = {}
        # (workspace, concurrency key) → (sub-queue, level, limit) → heap of items that came up while the key was full.
        # ``_defer`` adds, ``slot_free`` readmits. No map and no heap in it is empty.
        self._set_aside: dict[tuple[str, str], dict[tuple[SubQueue, int, int], list[HeapItem]]] = {}
        # Sub-queues with readmitted tasks that no waiting claim has been offered yet. ``slot_free`` adds, ``readmitted`` empties.
        self._readmitted: list[SubQueue] = []
        # Share → tag: the virtual time at which its next dispatch starts; the lowest comes next. ``push`` sets it when a share
        # begins to wait, ``_charge`` advances it, ``seed`` sets it after a restart.
        self._tags: dict[str, float] = {}
        # Share → number of its entries. ``push`` and ``discard`` count; ``_make_room`` removes zeros.
        self._waiting: dict[str, int] = {}
        # The virtual time: the highest tag that was dispatched. Never goes back.
        self._virtual = 0.0
        # The highest tag that any share has reached by being dispatched. The virtual time jumps to it when nothing waits, so that
        # nobody is owed or owes a dispatch from before.
        self._latest = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._entries

    def push(self, head: TaskHead, sticky_agent: str | None = None) -> SubQueue:
        """Adds a task, sorted by its age or order key, to the sub-queue that it returns: for ``sticky_agent`` alone, if there is
        one. A task that waits already is moved."""
        self.discard(head.id)
        if not self._entries:
            self._virtual = self._latest  # nothing waits, so all shares start equal
        sub_queue = self._sub_queue(head, sticky_agent)
        level = _LEVEL_OF[head.priority]
        rules = head.rules
        slot = (
            None if rules is None or rules.concurrency_key is None else (rules.concurrency_key, rules.concurrency_limit)
        )
        kind = (head.workspace, head.task_type)
        item = (head.created_at, head.id, head.id) if head.order_key is None else (*head.order_key, head.id)
        self._entries[head.id] = QueueEntry(item, sub_queue, level, max(head.created_at, head.run_at), slot, kind)
        if sub_queue.is_shared:
            self._shared_types[kind] = self._shared_types.get(kind, 0) + 1
        heapq.heappush(sub_queue.levels[level], item)
        sub_queue.waiting += 1
        sub_queue.keyed += slot is not None
        if not self._waiting.get(sub_queue.share):
            self._tags[sub_queue.share] = max(self._tags.get(sub_queue.share, 0.0), self._virtual)
        self._waiting[sub_queue.share] = self._waiting.get(sub_queue.share, 0) + 1
        return sub_queue

    def seed(self, seed: int) -> None:
        """Gives every share a tag at random, less than one of its dispatches. For a queue that was built after a restart, when
        nobody knows which tenant was served last: with equal tags, the tenant of the oldest task would gain a dispatch by every
        restart."""
        for sub_queue in self._sub_queues:
            digest = hashlib.sha256(f"{seed}|{sub_queue.share}".encode()).digest()
            self._tags[sub_queue.share] = int.from_bytes(digest[:4]) / 2**32 / sub_queue.weight

    def discard(self, task_id: str) -> None:
        """Removes a task if it waits. Its item stays in the heap and is dropped when it comes up."""
        entry = self._entries.pop(task_id, None)
        if entry is not None:
            entry.sub_queue.waiting -= 1
            self._waiting[entry.sub_queue.share] -= 1
            if entry.sub_queue.is_shared:
                self._leaves_shared(entry.kind)
            if entry.slot is not None:
                entry.sub_queue.keyed -= 1
                self.slot_free(entry.sub_queue.demand.workspace, entry.slot[0])

    def _leaves_shared(self, kind: tuple[str, str]) -> None:
        left = self._shared_types[kind] - 1
        if left:
            self._shared_types[kind] = left
        else:
            del self._shared_types[kind]

    def give_own(self, workspace: str, task_types: frozenset[str], in_use: Callable[[], set[str]]) -> set[str]:
        """``SubQueues.give_own``. Returns the types of which tasks wait in shared sub-queues: the caller must push these tasks
        again, which moves them."""
        new = self._sub_queues.give_own(workspace, task_types, in_use)
        return {name for name in new if (workspace, name) in self._shared_types}

    def _own_type(self, head: TaskHead) -> str | None:
        """The type of a task if it has sub-queues of its own: by a control or a budget, or because claims name it."""
        workspace, name = head.workspace, head.task_type
        is_own = self._sub_queues.is_own(workspace, name) or self.limits.has_type(workspace, name)
        return name if is_own or self.accounts.has_type(workspace, name) else None

    def take(self, profile: Profile, agent_id: str, now: float) -> str | None:
        """Removes the task that an agent should do first by a claim of this profile, and returns its id; None if there is none.

        The task types that the profile names must have sub-queues of their own (``give_own``)."""
        best: tuple[tuple[int, float, HeapItem], SubQueue, int] | None = None
        for sub_queue in self._sub_queues.candidates(profile, agent_id):
            if sub_queue.gated and not self.gates.is_open(sub_queue, agent_id, now):
                continue
            for level, fifo in enumerate(sub_queue.levels):
                task_id = self._first(sub_queue, fifo)
                if task_id is None:
                    continue
                entry = self._entries[task_id]
                if sub_queue.turns and not sub_queue.admits(profile, agent_id, self._waited_s(entry, now)):
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

    def _waited_s(self, entry: QueueEntry, now: float) -> float:
        """How long a task has waited, as the conditions count it."""
        waited_s, sub_queue = now - entry.since, entry.sub_queue
        if not sub_queue.prefers or waited_s >= PREFERENCE_S:
            return waited_s
        return patience(waited_s, self.is_near(sub_queue.demand, now))

    def has_for(self, profile: Profile, agent_id: str, count: int) -> bool:
        """Whether so many tasks wait that such a claim would certainly be given. It looks at numbers only, so those are left out
        that a control, a condition of the moment or a concurrency key may keep back."""
        for sub_queue in self._sub_queues.candidates(profile, agent_id):
            if count <= 0:
                break
            if not sub_queue.gated and not sub_queue.turns:
                count -= sub_queue.waiting - sub_queue.keyed
        return count <= 0

    # --- concurrency keys -----------------------------------------------------------------------------------------

    def slot_free(self, workspace: str, key: str) -> None:
        """Readmits one task per sub-queue, level and limit that was set aside for this key: which of them is next depends on who
        claims. Those that find the key full again are set aside again."""
        set_aside = self._set_aside.get((workspace, key))
        if set_aside is None:
            return
        for where in list(set_aside):
            sub_queue, level, _ = where
            items = set_aside[where]
            while items:
                item = heapq.heappop(items)
                if self._is_current(item):
                    heapq.heappush(sub_queue.levels[level], item)
                    self._readmitted.append(sub_queue)
                    break
            if not items:
                del set_aside[where]
        if not set_aside:
            del self._set_aside[workspace, key]

    def readmitted(self) -> list[SubQueue]:
        """Sub-queues in which tasks were readmitted since the last call."""
        sub_queues, self._readmitted = self._readmitted, []
        return sub_queues

    def sub_queues_of(self, workspace: str) -> list[SubQueue]:
        """Sub-queues of a workspace in which something waits. Looks through all sub-queues."""
        return self._sub_queues.of_workspace(workspace)

    def _defer(self, entry: QueueEntry) -> None:
        """Sets a task aside whose concurrency key is full. The caller takes its item out of the sub-queue's heap."""
        assert entry.slot is not None
        key, limit = entry.slot
        set_aside = self._set_aside.setdefault((entry.sub_queue.demand.workspace, key), {})
        heapq.heappush(set_aside.setdefault((entry.sub_queue, entry.level, limit), []), entry.item)

    def _is_current(self, item: HeapItem) -> bool:
        """Whether an item of a heap is that of a task that waits, and not one that was left behind."""
        entry = self._entries.get(item[-1])
        return entry is not None and entry.item is item

    # --- order ----------------------------------------------------------------------------------------------------

    def ahead_of(self, head: TaskHead, now: float) -> int | None:
        """How many tasks of its sub-queue come before a task, without those set aside; None if it does not wait.

        Looks through the whole sub-queue."""
        entry = self._entries.get(head.id)
        if entry is None:
            return None
        own = self._rank(entry, now).key()
        return sum(
            self._rank(self._entries[item[-1]], now).key() < own
            for fifo in entry.sub_queue.levels
            for item in fifo
            if self._is_current(item)
        )

    def order_key_at(self, head: TaskHead, position: int) -> order_key.OrderKey | None:
        """The order key that gives a task a position (from 1) among the other tasks of its sub-queue and level, or the last one
        if there are fewer. None if there is no other, or the task is the first already.

        Looks through all of that level, except for position 1."""
        level = _LEVEL_OF[head.priority]
        entry = self._entries.get(head.id)
        sticky_agent = None if entry is None else entry.sub_queue.demand.sticky_agent
        sub_queue = self._sub_queues.get(demand_key(head, self._own_type(head), sticky_agent))
        heaps = [] if sub_queue is None else [sub_queue.levels[level], *self._set_aside_in(sub_queue, level)]
        if position <= 1:
            # If a task has left this item behind, the new key is ahead of it and so of all tasks too.
            first = min((heap[0] for heap in heaps if heap), default=None)
            is_first = first is not None and first[-1] == head.id and self._is_current(first)
            return None if first is None or is_first else order_key.before(first[:2], head.id)
        others = (item for item in itertools.chain(*heaps) if item[-1] != head.id and self._is_current(item))
        ahead = [item[:2] for item in heapq.nsmallest(position, others)]
        if not ahead:
            return None
        if len(ahead) < position:
            return order_key.between(ahead[-1], None)
        return order_key.between(ahead[-2], ahead[-1])

    def _set_aside_in(self, sub_queue: SubQueue, level: int) -> Iterator[list[HeapItem]]:
        """The heaps of what was set aside from one level of a sub-queue."""
        for (workspace, _), set_aside in self._set_aside.items():
            if workspace == sub_queue.demand.workspace:
                yield from (items for where, items in set_aside.items() if where[:2] == (sub_queue, level))

    def position_of(self, head: TaskHead, now: float) -> QueuePosition | None:
        """Where a waiting task is; None if it does not wait here."""
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
        level, sub_queue = min(_TOP, aged), entry.sub_queue
        if sub_queue.budgeted:
            level = max(0, level - self.accounts.lowered(sub_queue.demand.workspace, sub_queue.demand.task_type, now))
        return Rank(effective_level=level, tag=self._tags.get(sub_queue.share, 0.0), item=entry.item)

    def _charge(self, sub_queue: SubQueue) -> None:
        """Counts a dispatch: advances the share's tag, and spends a token of the queue's rate."""
        tag = self._tags.get(sub_queue.share, 0.0)
        self._virtual = max(self._virtual, tag)
        self._tags[sub_queue.share] = tag = tag + 1.0 / sub_queue.weight
        self._latest = max(self._latest, tag)
        if (
            sub_queue.gated
            and (bucket := self.limits.bucket(sub_queue.demand.workspace, sub_queue.demand.queue)) is not None
        ):
            bucket.spend()

    def _first(self, sub_queue: SubQueue, fifo: list[HeapItem]) -> str | None:
        """The id of the first task of a heap that could start; None if there is none. Drops items of tasks that have left or
        moved, and sets tasks aside whose concurrency key is full."""
        while fifo:
            task_id = fifo[0][-1]
            entry = self._entries.get(task_id)
            if entry is not None and entry.item is fifo[0]:
                if entry.slot is None or not self.limits.is_full(sub_queue.demand.workspace, *entry.slot):
                    return task_id
                self._defer(entry)
            heapq.heappop(fifo)
        return None

    # --- sub-queues -------------------------------------------------------------------------------------------------

    def _sub_queue(self, head: TaskHead, sticky_agent: str | None) -> SubQueue:
        key = demand_key(head, self._own_type(head), sticky_agent)  # by the controls that are in force now
        sub_queue = self._sub_queues.get(key)
        if sub_queue is None:
            if self._sub_queues.make_room():
                # A share with nothing waiting and a tag that the virtual time has passed starts as if it were new, so forget it.
                self._waiting = {share: tasks for share, tasks in self._waiting.items() if tasks}
                self._tags = {s: tag for s, tag in self._tags.items() if s in self._waiting or tag > self._virtual}
            sub_queue = self._sub_queues.add(key, head.tenant)
            self.gates.set_gate(sub_queue)
        return sub_queue
