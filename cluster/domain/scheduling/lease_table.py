"""What a shard remembers of agents: the leases that each has, how long they last, and who may get nothing new."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field

from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.task import TaskHead

#: The answers that a lease had before this shard read it: how many, and whether they arrived, nobody knows any more.
_BEFORE = 0


def key_of(head: TaskHead) -> AgentKey:
    """The holder of a running task."""
    assert head.assigned_agent is not None, "a running task has an agent"
    return head.workspace, head.assigned_agent


@dataclass(slots=True)
class _Holder:
    """Its leases in order of age, and when they were last renewed."""

    leases: dict[str, None] = field(default_factory=dict)
    renewed_at: float = 0.0


class LeaseTable:
    """``ttl_s`` without a sign of life ends an agent's leases."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._by_agent: dict[AgentKey, _Holder] = {}
        self._removed: set[AgentKey] = set()
        self._unschedulable: set[AgentKey] = set()
        self._extended: dict[str, float] = {}
        self._deliveries: dict[str, set[int]] = {}
        self._numbers = itertools.count(_BEFORE + 1)

    # --- leases -------------------------------------------------------------------------------------------------

    def renew(self, key: AgentKey, now: float) -> None:
        holder = self._by_agent.get(key)
        if holder is None:
            holder = self._by_agent[key] = _Holder()
        holder.renewed_at = max(holder.renewed_at, now)

    def leases(self, key: AgentKey) -> Collection[str]:
        """Ids of the tasks that it has, the oldest lease first."""
        holder = self._by_agent.get(key)
        return () if holder is None else holder.leases.keys()

    def acquire(self, head: TaskHead, now: float) -> None:
        key = key_of(head)
        self.renew(key, now)
        self._by_agent[key].leases[head.id] = None

    def release(self, head: TaskHead) -> bool:
        """True if its holder has a slot more now."""
        self._extended.pop(head.id, None)
        self._deliveries.pop(head.id, None)
        holder = None if head.assigned_agent is None else self._by_agent.get((head.workspace, head.assigned_agent))
        if holder is None:
            return False
        holder.leases.pop(head.id, None)
        return True

    def extend(self, task_id: str, now: float) -> None:
        """A sign of life for one lease alone."""
        self._extended[task_id] = now

    def expires_at(self, head: TaskHead) -> float:
        return max(self._by_agent[key_of(head)].renewed_at, self._extended.get(head.id, 0.0)) + self._ttl_s

    def shown_expiry(self, head: TaskHead) -> float:
        """What its holder is told: no sign of life keeps a lease beyond the run time."""
        assert head.started_at is not None
        return min(self.expires_at(head), head.started_at + head.timeout_s)

    # --- answers that carry a lease ------------------------------------------------------------------------------

    def loaded(self, task_id: str) -> None:
        """It was answered by a predecessor, so its holder may know of it: only expiry and reports end it."""
        self._deliveries[task_id] = {_BEFORE}

    def deliver(self, task_id: str) -> int:
        """Numbers one more answer that carries the lease."""
        number = next(self._numbers)
        self._deliveries.setdefault(task_id, set()).add(number)
        return number

    def undelivered(self, task_id: str, delivery: int) -> bool:
        """Notes that an answer reached nobody. True if no other answer can have reached the holder: a client that hangs
        up and comes back may have the lease by its new connection before the old one is seen to be broken."""
        left = self._deliveries.get(task_id)
        if left is None or delivery not in left:
            return False
        left.discard(delivery)
        return not left

    # --- who may get something new --------------------------------------------------------------------------------

    def is_removed(self, key: AgentKey) -> bool:
        return key in self._removed

    def is_unschedulable(self, key: AgentKey) -> bool:
        return key in self._unschedulable

    def register(self, key: AgentKey) -> None:
        self._removed.discard(key)

    def remove(self, key: AgentKey) -> None:
        self._removed.add(key)
        self._by_agent.pop(key, None)

    def set_unschedulable(self, key: AgentKey, is_unschedulable: bool) -> None:
        """As the store has it. The row that announces a change does not say what became of the agent: who paused it, and
        whether that has ended, only the store knows."""
        (self._unschedulable.add if is_unschedulable else self._unschedulable.discard)(key)
