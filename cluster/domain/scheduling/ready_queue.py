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

A task that may not start now delays no other. A pause, a rate and rules about agents concern whole sub-queues, which a claim
skips. A task whose concurrency key is full is set aside when it comes up; for each slot that becomes free, one task per
sub-queue is readmitted.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.domain.access.workspaces import WorkspaceState
from cluster.domain.scheduling.limits import Control, ControlKind, Limits
from cluster.domain.tasks import order_key
from cluster.domain.tasks.rules import Selection
from cluster.domain.tasks.task import Priority, TaskHead

AGEING_S = 120.0
#: The priorities in ascending order; a level is an index into them.
LEVELS = tuple(sorted(int(priority) for priority in Priority))
_LEVEL_OF = {priority: level for level, priority in enumerate(LEVELS)}
_TOP = len(LEVELS) - 1
#: So many task types of a workspace may have sub-queues of their own because claims name them, before those that no waiting
#: claim names are looked for.
MAX_OWN_TYPES = 1000
#: Below so many sub-queues, empty ones are not looked for.
_SPARE_SUB_QUEUES = 1000


_NOWHERE: frozenset[str] = frozenset()

HeapItem = tuple[float, str, str]
"""(time and text of the order key, task id). Without an order key: (created_at, id, id)."""

SubQueueKey = tuple[str, str | None, frozenset[str], str, str | None, Selection | None]
"""(workspace, target agent, required capabilities, queue, task type if it has sub-queues of its own, selection)"""


@dataclass(slots=True, eq=False)
class _SubQueue:
    """Waiting tasks that the same agents may have and the same controls concern.

    It is made when its first task comes and kept when it is empty, until ``_make_room``. Compared by identity, since it is a
    key of maps and changes.
    """

    # What its tasks have in common, and its key in ``_sub_queues``. The six fields that follow are the parts of the key.
    key: SubQueueKey
    workspace: str
    # The agent that the tasks name; None if they are for any agent.
    target: str | None
    # The capabilities that an agent must have.
    required: frozenset[str]
    # The name of the queue that clients gave: queue controls (pause, rate) concern it.
    queue: str
    # None unless the task type has a control, or claims name it (``own_types``). All other types share a sub-queue, which keeps
    # claims that take any type cheap.
    task_type: str | None
    # Rules about agents, regions and tenant; None if the tasks have none.
    selection: Selection | None
    # The tenant that the tasks are for, else the workspace.
    tenant: str
    # Key of that tenant's fair share in ``_tags`` and ``_waiting``: the workspace, or workspace and tenant.
    share: str
    # Set by ``_set_gate`` from the controls. ``paused``: nothing starts. ``gated``: paused or rated, so a claim has to ask
    # ``_is_open``; a flag spares all others that question. ``weight``: of the tenant's share.
    paused: bool = False
    gated: bool = False
    weight: float = 1.0
    # A heap of items per priority level. ``push`` and ``slot_free`` add. Items of tasks that have left or moved stay until they
    # come up (``_first`` drops them), because removing from the middle of a heap would cost its length.
    levels: tuple[list[HeapItem], ...] = field(default_factory=lambda: tuple([] for _ in LEVELS))
    # How many entries it has, those that were set aside included. ``push`` and ``discard`` count; a claim skips it at 0.
    waiting: int = 0
    # How many of them need a slot of a concurrency key, which may be full. ``push`` and ``discard`` count.
    keyed: int = 0


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """Where a waiting task is. ``push`` makes it, and makes a new one when the task moves."""

    # The task's item in a heap. The heap's item counts only if it is this very object: one that is merely equal was left
    # behind when the task was pushed again, and would give the task twice.
    item: HeapItem
    # The sub-queue and the level in whose heap the item is, or in whose set-aside heap.
    sub_queue: _SubQueue
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


class ReadyQueue:
    """Tasks that could start now. ``weights`` are the weights of shares (1 unless given) for which no control sets one."""

    def __init__(
        self,
        ageing_s: float = AGEING_S,
        weights: Mapping[str, float] | None = None,
        limits: Limits | None = None,
    ) -> None:
        # Controls, tokens and slots. The core takes and frees the slots with its leases; ``_charge`` spends the tokens.
        self.limits = limits or Limits()
        # Seconds of waiting that are worth one level of priority.
        self._ageing_s = ageing_s
        # Share → weight, for shares whose tenant has no control. Fixed.
        self._weights = dict(weights or {})
        # Task id → entry of every task that waits here, those set aside included. ``push`` adds, ``discard`` removes. It alone
        # says whether a task waits: an item of a heap that is not its task's entry means nothing.
        self._entries: dict[str, QueueEntry] = {}
        # All sub-queues, those that are empty included. ``_sub_queue`` adds, ``_make_room`` removes empty ones.
        self._sub_queues: dict[SubQueueKey, _SubQueue] = {}
        # How many sub-queues there may be before ``_make_room`` looks for empty ones again.
        self._look_through_at = _SPARE_SUB_QUEUES
        # The same sub-queues by ``_group``: those for any agent by workspace, those for one agent by workspace and agent.
        self._by_workspace: dict[str, list[_SubQueue]] = {}
        # (workspace, an agent's capabilities, explicit_only, task type) → the sub-queues for any agent that such an agent may
        # take from: those of one type, or with None all. A cache of ``_candidates``: agents have few distinct sets.
        # ``_forget_matches`` removes the lists that a new sub-queue belongs to, ``_make_room`` all of them.
        self._matches: dict[tuple[str, frozenset[str], bool, str | None], list[_SubQueue]] = {}
        # (workspace, task type) → the sub-queues for any agent of a type that has its own. ``_sub_queue`` adds, ``_make_room``
        # makes it anew.
        self._by_type: dict[tuple[str, str], list[_SubQueue]] = {}
        # Workspace → task types whose tasks are in sub-queues of their own because claims name them. ``give_own`` adds, and drops
        # those that no waiting claim names once there are many: then their new tasks are in shared sub-queues again.
        self._own_types: dict[str, set[str]] = {}
        # (workspace, task type) → how many tasks of the type wait in shared sub-queues. ``push`` and ``discard`` count; no zeros.
        # It says whether there is anything to move when a type gets sub-queues of its own.
        self._shared_types: dict[tuple[str, str], int] = {}
        # (workspace, concurrency key) → (sub-queue, level, limit) → heap of items that came up while the key was full.
        # ``_defer`` adds, ``slot_free`` readmits. No map and no heap in it is empty.
        self._set_aside: dict[tuple[str, str], dict[tuple[_SubQueue, int, int], list[HeapItem]]] = {}
        # Sub-queues with readmitted tasks that no waiting claim has been offered yet. ``slot_free`` adds, ``readmitted`` empties.
        self._readmitted: list[_SubQueue] = []
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

    def push(self, head: TaskHead) -> None:
        """Adds a task, sorted by its age or order key. A task that waits already is moved."""
        self.discard(head.id)
        if not self._entries:
            self._virtual = self._latest  # nothing waits, so all shares start equal
        sub_queue = self._sub_queue(head)
        level = _LEVEL_OF[head.priority]
        rules = head.rules
        slot = (
            None if rules is None or rules.concurrency_key is None else (rules.concurrency_key, rules.concurrency_limit)
        )
        kind = (head.workspace, head.task_type)
        item = (head.created_at, head.id, head.id) if head.order_key is None else (*head.order_key, head.id)
        self._entries[head.id] = QueueEntry(item, sub_queue, level, max(head.created_at, head.run_at), slot, kind)
        if sub_queue.task_type is None:
            self._shared_types[kind] = self._shared_types.get(kind, 0) + 1
        heapq.heappush(sub_queue.levels[level], item)
        sub_queue.waiting += 1
        sub_queue.keyed += slot is not None
        if not self._waiting.get(sub_queue.share):
            self._tags[sub_queue.share] = max(self._tags.get(sub_queue.share, 0.0), self._virtual)
        self._waiting[sub_queue.share] = self._waiting.get(sub_queue.share, 0) + 1

    def seed(self, seed: int) -> None:
        """Gives every share a tag at random, less than one of its dispatches. For a queue that was built after a restart, when
        nobody knows which tenant was served last: with equal tags, the tenant of the oldest task would gain a dispatch by every
        restart."""
        for sub_queue in self._sub_queues.values():
            digest = hashlib.sha256(f"{seed}|{sub_queue.share}".encode()).digest()
            self._tags[sub_queue.share] = int.from_bytes(digest[:4]) / 2**32 / sub_queue.weight

    def discard(self, task_id: str) -> None:
        """Removes a task if it waits. Its item stays in the heap and is dropped when it comes up."""
        entry = self._entries.pop(task_id, None)
        if entry is not None:
            entry.sub_queue.waiting -= 1
            self._waiting[entry.sub_queue.share] -= 1
            if entry.sub_queue.task_type is None:
                self._leaves_shared(entry.kind)
            if entry.slot is not None:
                entry.sub_queue.keyed -= 1
                self.slot_free(entry.sub_queue.workspace, entry.slot[0])

    def _leaves_shared(self, kind: tuple[str, str]) -> None:
        left = self._shared_types[kind] - 1
        if left:
            self._shared_types[kind] = left
        else:
            del self._shared_types[kind]

    def give_own(self, workspace: str, task_types: frozenset[str], in_use: Callable[[], set[str]]) -> set[str]:
        """Gives task types that a claim names sub-queues of their own, so that such a claim need not look at others' tasks.
        Returns those of which tasks wait in shared sub-queues: the caller must push these tasks again, which moves them.

        ``in_use`` returns the types that waiting claims name, which keep theirs."""
        own = self._own_types.setdefault(workspace, set())
        new = task_types - own
        if not new:
            return set()
        if len(own) + len(new) > MAX_OWN_TYPES:
            # In place of an order by use: it happens seldom, and a type that is dropped is only moved again.
            own &= in_use()
        own |= task_types
        return {name for name in new if (workspace, name) in self._shared_types}

    def own_type(self, head: TaskHead) -> str | None:
        """The type of a task if it has sub-queues of its own: by a control, or because claims name it."""
        own = self._own_types.get(head.workspace)
        if (own is not None and head.task_type in own) or self.limits.has_type(head.workspace, head.task_type):
            return head.task_type
        return None

    def take(
        self,
        workspace: str,
        agent_id: str,
        capabilities: frozenset[str],
        now: float,
        regions: frozenset[str] = _NOWHERE,
        *,
        explicit_only: bool = False,
        task_types: frozenset[str] | None = None,
        queues: frozenset[str] | None = None,
    ) -> str | None:
        """Removes the task that this agent should do first and returns its id; None if there is none for it.

        ``explicit_only``: tasks that require nothing are not for this agent, unless they name it. ``task_types``: only tasks of
        these types, which must have sub-queues of their own (``give_own``). ``queues``: only those of these queues."""
        best: tuple[tuple[int, float, HeapItem], _SubQueue, int] | None = None
        for sub_queue in self._candidates(workspace, agent_id, capabilities, explicit_only, task_types, queues):
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

    def has_for(
        self,
        workspace: str,
        agent_id: str,
        capabilities: frozenset[str],
        count: int,
        *,
        explicit_only: bool = False,
        task_types: frozenset[str] | None = None,
        queues: frozenset[str] | None = None,
    ) -> bool:
        """Whether so many tasks wait that this agent would certainly be given. It looks at numbers only, so those are left out
        that a control, a rule about agents or a concurrency key may keep back."""
        for sub_queue in self._candidates(workspace, agent_id, capabilities, explicit_only, task_types, queues):
            if count <= 0:
                break
            if not sub_queue.gated and sub_queue.selection is None:
                count -= sub_queue.waiting - sub_queue.keyed
        return count <= 0

    # --- limits ---------------------------------------------------------------------------------------------------

    def control(self, control: Control, now: float) -> bool:
        """Puts a control in force; False if this one or a newer one is in force. After the first control of a task type the
        caller must push the type's waiting tasks again, so that they move to sub-queues of their own."""
        if not self.limits.put(control, now):
            return False
        self._set_gates(control.workspace)
        return True

    def set_state(self, workspace: str, state: WorkspaceState) -> None:
        """Notes what a workspace admits now: nothing starts in one that is suspended or deleted."""
        self.limits.set_state(workspace, state)
        self._set_gates(workspace)

    def _set_gates(self, workspace: str) -> None:
        for sub_queue in self._sub_queues.values():
            if sub_queue.workspace == workspace:
                self._set_gate(sub_queue)

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

    def readmitted(self) -> list[_SubQueue]:
        """Sub-queues in which tasks were readmitted since the last call."""
        sub_queues, self._readmitted = self._readmitted, []
        return sub_queues

    def sub_queues_of(self, workspace: str) -> list[_SubQueue]:
        """Sub-queues of a workspace in which something waits. Looks through all sub-queues."""
        return [
            sub_queue
            for sub_queue in self._sub_queues.values()
            if sub_queue.workspace == workspace and sub_queue.waiting
        ]

    def next_token(self, workspace: str, now: float) -> float | None:
        """When the next queue of the workspace that has a rate and is not paused may start a task; None if there is none."""
        times = [
            bucket.ready_at(now)
            for sub_queue in self.sub_queues_of(workspace)
            if not sub_queue.paused and (bucket := self.limits.bucket(workspace, sub_queue.queue)) is not None
        ]
        return min(times, default=None)

    def _set_gate(self, sub_queue: _SubQueue) -> None:
        """Copies the controls in force into the sub-queue, so that a claim need not look them up."""
        paused = self.limits.paused
        sub_queue.paused = (
            self.limits.is_closed(sub_queue.workspace)
            or paused(sub_queue.workspace, ControlKind.QUEUE, sub_queue.queue)
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
        """Sets a task aside whose concurrency key is full. The caller takes its item out of the sub-queue's heap."""
        assert entry.slot is not None
        key, limit = entry.slot
        set_aside = self._set_aside.setdefault((entry.sub_queue.workspace, key), {})
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
        sub_queue = self._sub_queues.get(self._sub_queue_key(head))
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

    def _set_aside_in(self, sub_queue: _SubQueue, level: int) -> Iterator[list[HeapItem]]:
        """The heaps of what was set aside from one level of a sub-queue."""
        for (workspace, _), set_aside in self._set_aside.items():
            if workspace == sub_queue.workspace:
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
        return Rank(effective_level=min(_TOP, aged), tag=self._tags.get(entry.sub_queue.share, 0.0), item=entry.item)

    def _charge(self, sub_queue: _SubQueue) -> None:
        """Counts a dispatch: advances the share's tag, and spends a token of the queue's rate."""
        tag = self._tags.get(sub_queue.share, 0.0)
        self._virtual = max(self._virtual, tag)
        self._tags[sub_queue.share] = tag = tag + 1.0 / sub_queue.weight
        self._latest = max(self._latest, tag)
        if sub_queue.gated and (bucket := self.limits.bucket(sub_queue.workspace, sub_queue.queue)) is not None:
            bucket.spend()

    def _first(self, sub_queue: _SubQueue, fifo: list[HeapItem]) -> str | None:
        """The id of the first task of a heap that could start; None if there is none. Drops items of tasks that have left or
        moved, and sets tasks aside whose concurrency key is full."""
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
        self,
        workspace: str,
        agent_id: str,
        capabilities: frozenset[str],
        explicit_only: bool,
        task_types: frozenset[str] | None,
        queues: frozenset[str] | None,
    ) -> Iterator[_SubQueue]:
        """The sub-queues that an agent may take from and in which something waits."""
        for task_type in (None,) if task_types is None else task_types:
            for sub_queue in self._matching(workspace, capabilities, explicit_only, task_type):
                if sub_queue.waiting and (queues is None or sub_queue.queue in queues):
                    yield sub_queue
        for sub_queue in self._targeted(workspace, agent_id):
            named = (task_types is None or sub_queue.task_type in task_types) and (
                queues is None or sub_queue.queue in queues
            )
            if sub_queue.waiting and named and sub_queue.required <= capabilities:
                yield sub_queue

    def _matching(
        self, workspace: str, capabilities: frozenset[str], explicit_only: bool, task_type: str | None
    ) -> Sequence[_SubQueue]:
        """The sub-queues for any agent that such an agent may take from: of one type, or with None all."""
        key = (workspace, capabilities, explicit_only, task_type)
        matching = self._matches.get(key)
        if matching is None:
            if task_type is None:
                sub_queues = self._by_workspace.get(workspace, [])
            elif (workspace, task_type) in self._by_type:
                sub_queues = self._by_type[workspace, task_type]
            else:
                return ()  # not kept: claims may name any number of types that no task has
            if explicit_only:
                sub_queues = [sub_queue for sub_queue in sub_queues if sub_queue.required]
            matching = [
                sub_queue for sub_queue in sub_queues if sub_queue.target is None and sub_queue.required <= capabilities
            ]
            self._matches[key] = matching
        return matching

    def _targeted(self, workspace: str, agent_id: str) -> Iterable[_SubQueue]:
        return self._by_workspace.get(f"{workspace}\x1f{agent_id}", ())

    def _sub_queue_key(self, head: TaskHead) -> SubQueueKey:
        """The sub-queue that a task belongs to, by the controls that are in force now."""
        selection = None if head.rules is None else head.rules.selection()
        return (head.workspace, head.target_agent, head.required, head.queue, self.own_type(head), selection)

    def _sub_queue(self, head: TaskHead) -> _SubQueue:
        key = self._sub_queue_key(head)
        sub_queue = self._sub_queues.get(key)
        if sub_queue is None:
            self._make_room()
            sub_queue = self._sub_queues[key] = _new_sub_queue(key, head)
            self._set_gate(sub_queue)
            self._index(sub_queue)
            self._forget_matches(sub_queue)
        return sub_queue

    def _index(self, sub_queue: _SubQueue) -> None:
        """Adds a sub-queue to the maps by which claims find it."""
        self._by_workspace.setdefault(_group(sub_queue), []).append(sub_queue)
        if sub_queue.target is None and sub_queue.task_type is not None:
            self._by_type.setdefault((sub_queue.workspace, sub_queue.task_type), []).append(sub_queue)

    def _forget_matches(self, sub_queue: _SubQueue) -> None:
        """Removes the cached lists that a new sub-queue belongs to; all others are still right."""
        if sub_queue.target is None:
            of_type = (None, sub_queue.task_type)
            for key in [
                k
                for k in self._matches
                if k[0] == sub_queue.workspace and k[3] in of_type and sub_queue.required <= k[1]
            ]:
                del self._matches[key]

    def _make_room(self) -> None:
        """Removes empty sub-queues if there are many. They are kept for their next task, but not for ever. It looks through all
        of them so seldom that each new sub-queue bears little of the cost."""
        if len(self._sub_queues) < self._look_through_at:
            return
        used = sum(sub_queue.waiting > 0 for sub_queue in self._sub_queues.values())
        if used * 2 > len(self._sub_queues):
            self._look_through_at = len(self._sub_queues) * 5 // 4
            return
        self._look_through_at = max(_SPARE_SUB_QUEUES, 2 * used)
        self._sub_queues = {key: sub_queue for key, sub_queue in self._sub_queues.items() if sub_queue.waiting}
        # A share with nothing waiting and a tag that the virtual time has passed starts as if it were new, so forget it.
        self._waiting = {share: tasks for share, tasks in self._waiting.items() if tasks}
        self._tags = {s: tag for s, tag in self._tags.items() if s in self._waiting or tag > self._virtual}
        self._by_workspace.clear()
        self._by_type.clear()
        self._matches.clear()
        for sub_queue in self._sub_queues.values():
            self._index(sub_queue)


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
    """The key of ``_by_workspace``."""
    return sub_queue.workspace if sub_queue.target is None else f"{sub_queue.workspace}\x1f{sub_queue.target}"
