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
    """Its leases in order of age, and when it was last seen."""

    leases: dict[str, None] = field(default_factory=dict)
    seen: float = 0.0


class Holders:
    """``ttl_s`` without a sign of life ends an agent's leases."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._holders: dict[AgentKey, _Holder] = {}
        self._removed: set[AgentKey] = set()
        self._resting: set[AgentKey] = set()
        self._extended: dict[str, float] = {}
        self._deliveries: dict[str, set[int]] = {}
        self._numbers = itertools.count(_BEFORE + 1)

    # --- leases -------------------------------------------------------------------------------------------------

    def seen(self, key: AgentKey, now: float) -> None:
        holder = self._holders.get(key)
        if holder is None:
            holder = self._holders[key] = _Holder()
        holder.seen = max(holder.seen, now)

    def leases(self, key: AgentKey) -> Collection[str]:
        """Ids of the tasks that it has, the oldest lease first."""
        holder = self._holders.get(key)
        return () if holder is None else holder.leases.keys()

    def hold(self, head: TaskHead, now: float) -> None:
        key = key_of(head)
        self.seen(key, now)
        self._holders[key].leases[head.id] = None

    def let_go(self, head: TaskHead) -> bool:
        """True if its holder has a slot more now."""
        self._extended.pop(head.id, None)
        self._deliveries.pop(head.id, None)
        holder = None if head.assigned_agent is None else self._holders.get((head.workspace, head.assigned_agent))
        if holder is None:
            return False
        holder.leases.pop(head.id, None)
        return True

    def extend(self, task_id: str, now: float) -> None:
        """A sign of life for one lease alone."""
        self._extended[task_id] = now

    def expires_at(self, head: TaskHead) -> float:
        return max(self._holders[key_of(head)].seen, self._extended.get(head.id, 0.0)) + self._ttl_s

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

    def rests(self, key: AgentKey) -> bool:
        return key in self._resting

    def register(self, key: AgentKey) -> None:
        self._removed.discard(key)

    def remove(self, key: AgentKey) -> None:
        self._removed.add(key)
        self._holders.pop(key, None)

    def rest(self, key: AgentKey, rests: bool) -> None:
        """As the store has it. The row that announces a change does not say what became of the agent: who paused it, and
        whether that has ended, only the store knows."""
        (self._resting.add if rests else self._resting.discard)(key)
