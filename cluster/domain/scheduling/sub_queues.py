"""The sub-queues of a ready queue, and the index by which a claim finds those that it may take from.

Tasks with an equal demand (``eligibility``) share a sub-queue. The index answers ``admits_profile`` for all sub-queues at once
and keeps the answer: agents have few different profiles. So a claim costs the number of sub-queues that it may take from,
and sub-queues that it may not take from cost it nothing. It decides nothing of its own: whatever it finds, the predicate
admits, and it finds all that the predicate admits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from cluster.domain.scheduling.eligibility import Demand, DemandKey, Profile, Turns, admits_profile, prefers, turns
from cluster.domain.tasks.task import Priority

#: The priorities in ascending order; a level is an index into them.
LEVELS = tuple(sorted(int(priority) for priority in Priority))

HeapItem = tuple[float, str, str]
"""(time and text of the order key, task id). Without an order key: (created_at, id, id)."""

#: So many task types of a workspace may have sub-queues of their own because claims name them, before those that no waiting
#: claim names are looked for.
MAX_OWN_TYPES: Final = 1000
#: Below so many sub-queues, empty ones are not looked for.
SPARE_SUB_QUEUES: Final = 1000
#: For so many profiles the index is kept. A claim may name any types and queues, so there is no end of different ones.
MAX_PROFILES: Final = 1000


@dataclass(slots=True, eq=False)
class SubQueue:
    """Waiting tasks that the same claims may have and the same controls concern.

    It is made when its first task comes and kept when it is empty, until ``forget_empty``. Compared by identity, since it is a
    key of maps and changes.
    """

    # What its tasks ask of a claim, and its key in the index. ``task_type`` in it is None unless the type has a control, or
    # claims name it: all other types share a sub-queue, which keeps claims that take any type cheap.
    demand: Demand
    # The tenant that the tasks are for, else the workspace.
    tenant: str
    # Key of that tenant's fair share: the workspace, or workspace and tenant.
    share: str
    # The conditions that are asked at each claim; most have none.
    turns: Turns
    # Whether tasks of several types share it.
    is_shared: bool
    # Whether agents of some regions come first.
    prefers: bool
    # Set by the ready queue from controls and budgets. ``paused``: nothing starts. ``budgeted``: its workspace has budgets.
    # ``gated``: paused, rated or budgeted, or its workspace has a quota on running tasks, so a claim has to ask whether it is
    # open; a flag spares all others that question.
    # ``weight``: of the tenant's share.
    paused: bool = False
    gated: bool = False
    budgeted: bool = False
    weight: float = 1.0
    # A heap of items per priority level. Items of tasks that have left or moved stay until they come up, because removing from
    # the middle of a heap would cost its length.
    levels: tuple[list[HeapItem], ...] = field(default_factory=lambda: tuple([] for _ in LEVELS))
    # How many entries it has, those that were set aside included; a claim skips it at 0. The ready queue counts.
    waiting: int = 0
    # How many of them need a slot of a concurrency key, which may be full. The ready queue counts.
    keyed: int = 0

    def admits(self, profile: Profile, agent_id: str, waited_s: float) -> bool:
        """Whether its ``turns`` let a claim that found it have a task that has waited so long."""
        return not any(refuses(self.demand, profile, agent_id, waited_s) for refuses in self.turns)


class SubQueues:
    """All sub-queues of a shard, and the maps by which claims find them. ``most_profiles``: for how many different profiles of
    claims it is kept what they may take from."""

    def __init__(self, most_profiles: int = MAX_PROFILES) -> None:
        self._most_profiles = most_profiles
        # All sub-queues, those that are empty included. ``of`` adds, ``forget_empty`` removes empty ones.
        self._all: dict[DemandKey, SubQueue] = {}
        # How many there may be before ``make_room`` says that empty ones should be looked for again.
        self._look_through_at = SPARE_SUB_QUEUES
        # The same: those for any agent by workspace, those for one agent by workspace and agent. ``_index`` adds.
        self._by_target: dict[str | tuple[str, str], list[SubQueue]] = {}
        # (workspace, task type) → the sub-queues for any agent of a type that has its own. ``_index`` adds.
        self._by_type: dict[tuple[str, str], list[SubQueue]] = {}
        # Profile → the sub-queues for any agent that its claims may take from. ``_matching`` adds, and begins anew when there are
        # too many; ``_index`` adds a new sub-queue to the lists of those that it admits.
        self._matches: dict[Profile, list[SubQueue]] = {}
        # Workspace → task types whose tasks are in sub-queues of their own because claims name them. ``give_own`` adds, and drops
        # those that no waiting claim names once there are many: then their new tasks are in shared sub-queues again.
        self._own_types: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[SubQueue]:
        return iter(self._all.values())

    def get(self, key: DemandKey) -> SubQueue | None:
        return self._all.get(key)

    def add(self, key: DemandKey, tenant: str) -> SubQueue:
        """A new sub-queue, for which there was none."""
        demand = Demand(*key)
        workspace = demand.workspace
        share = workspace if tenant == workspace else f"{workspace}\x1f{tenant}"
        sub_queue = self._all[demand] = SubQueue(
            demand, tenant, share, turns(demand), demand.task_type is None, prefers(demand)
        )
        self._index(sub_queue)
        return sub_queue

    def of_workspace(self, workspace: str) -> list[SubQueue]:
        """Sub-queues of a workspace in which something waits. Looks through all sub-queues."""
        return [
            sub_queue
            for sub_queue in self._all.values()
            if sub_queue.demand.workspace == workspace and sub_queue.waiting
        ]

    # --- what claims find -----------------------------------------------------------------------------------------

    def candidates(self, profile: Profile, agent_id: str) -> Iterator[SubQueue]:
        """The sub-queues that a claim may take from and in which something waits; their ``turns`` are still to be asked."""
        for sub_queue in self._matching(profile):
            if sub_queue.waiting:
                yield sub_queue
        for sub_queue in self._by_target.get((profile.workspace, agent_id), ()):
            if sub_queue.waiting and admits_profile(sub_queue.demand, profile):
                yield sub_queue

    def _matching(self, profile: Profile) -> Sequence[SubQueue]:
        matching = self._matches.get(profile)
        if matching is None:
            if len(self._matches) >= self._most_profiles:
                self._matches.clear()
            found = self._of_types(profile)
            matching = self._matches[profile] = [s for s in found if admits_profile(s.demand, profile)]
        return matching

    def _of_types(self, profile: Profile) -> Iterable[SubQueue]:
        """The sub-queues for any agent among which a profile's are. Those that types share have no task of a type that it
        names: ``give_own`` comes first."""
        workspace = profile.workspace
        if profile.task_types is None:
            return self._by_target.get(workspace, ())
        return (s for name in profile.task_types for s in self._by_type.get((workspace, name), ()))

    def _index(self, sub_queue: SubQueue) -> None:
        """Adds a sub-queue to the maps by which claims find it."""
        demand = sub_queue.demand
        workspace = demand.workspace
        if demand.agent is not None:
            self._by_target.setdefault((workspace, demand.agent), []).append(sub_queue)
            return
        self._by_target.setdefault(workspace, []).append(sub_queue)
        if demand.task_type is not None:
            self._by_type.setdefault((workspace, demand.task_type), []).append(sub_queue)
        for profile, matching in self._matches.items():
            if profile.workspace == workspace and admits_profile(demand, profile):
                matching.append(sub_queue)

    # --- types of their own ---------------------------------------------------------------------------------------

    def give_own(self, workspace: str, task_types: frozenset[str], in_use: Callable[[], set[str]]) -> frozenset[str]:
        """Gives task types that a claim names sub-queues of their own, so that such a claim need not look at others' tasks.
        Returns those that had none: their tasks in shared sub-queues are to be moved.

        ``in_use`` returns the types that waiting claims name, which keep theirs."""
        own = self._own_types.setdefault(workspace, set())
        new = task_types - own
        if not new:
            return new
        if len(own) + len(new) > MAX_OWN_TYPES:
            # In place of an order by use: it happens seldom, and a type that is dropped is only moved again.
            own &= in_use()
        own |= task_types
        return new

    def is_own(self, workspace: str, task_type: str) -> bool:
        """Whether claims have given a type sub-queues of its own."""
        own = self._own_types.get(workspace)
        return own is not None and task_type in own

    # --- empty ones -----------------------------------------------------------------------------------------------

    def make_room(self) -> bool:
        """Removes empty sub-queues if there are many; True if it did. They are kept for their next task, but not for ever. It
        looks through all of them so seldom that each new sub-queue bears little of the cost."""
        if len(self._all) < self._look_through_at:
            return False
        used = sum(sub_queue.waiting > 0 for sub_queue in self._all.values())
        if used * 2 > len(self._all):
            self._look_through_at = len(self._all) * 5 // 4
            return False
        self._look_through_at = max(SPARE_SUB_QUEUES, 2 * used)
        self._all = {demand: sub_queue for demand, sub_queue in self._all.items() if sub_queue.waiting}
        self._by_target.clear()
        self._by_type.clear()
        self._matches.clear()
        for sub_queue in self._all.values():
            self._index(sub_queue)
        return True
