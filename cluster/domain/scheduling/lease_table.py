"""What a shard knows of agents: the leases of each, when they expire, and which agents get nothing new."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field

from cluster.domain.base.ids import process_of
from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.tasks.task import TaskHead

#: Stands for all answers that carried a lease before this shard read its state: nobody knows how many there were, and whether
#: they arrived.
_BEFORE = 0


def key_of(head: TaskHead) -> AgentKey:
    """The agent that holds the lease on a running task."""
    assert head.assigned_agent is not None, "a running task has an agent"
    return head.workspace, head.assigned_agent


@dataclass(slots=True)
class _Process:
    # When the process was last heard (epoch seconds).
    renewed_at: float
    # How many leases the agent holds by claims that name the process.
    leases: int = 0


@dataclass(slots=True)
class _AgentLeases:
    # Ids of the tasks that the agent holds (an ordered set), in the order in which this shard acquired or loaded the leases.
    # ``acquire`` adds, ``release`` removes.
    leases: dict[str, None] = field(default_factory=dict)
    # When the agent was last heard by a call that names no process (epoch seconds). It never goes back, and renews all its
    # leases at once: a heartbeat costs the same for one lease and for a hundred.
    renewed_at: float = 0.0
    # The same of any call. It renews the leases whose claims name no process.
    heard_at: float = 0.0
    # Process → when it was heard, of those alone that hold leases: an agent may be restarted without end. ``acquire`` adds,
    # ``release`` removes. Apart from the agent's times: a process must not keep the leases of a predecessor that was killed.
    processes: dict[str, _Process] = field(default_factory=dict)


class LeaseTable:
    """The leases of all agents. The table decides nothing: the core's timers ask it when a lease expires."""

    def __init__(self, ttl_s: float) -> None:
        # How long a lease lasts from the last time that its holder was heard, or that the lease itself was extended.
        self._ttl_s = ttl_s
        # Every agent that was heard, with its leases. ``renew`` adds, ``deregister`` removes. Each running task of the core is in
        # the leases of exactly one agent: the one that its head names.
        self._by_agent: dict[AgentKey, _AgentLeases] = {}
        # Agents that were deregistered since this shard read its state. ``deregister`` adds, ``register`` removes. A set of
        # those deregistered and not of those registered: an agent registers at the API, and may claim before the shard has read
        # its row.
        self._deregistered: set[AgentKey] = set()
        # Agents that get nothing new (paused, draining, unhealthy), as the store had them when it was last asked.
        # ``set_unschedulable`` adds and removes.
        self._unschedulable: set[AgentKey] = set()
        # From when leases count at the earliest: before that nobody could be heard. ``restart`` sets it.
        self._restarted_at = 0.0
        # Task id → when its lease was last extended by itself. ``extend`` adds, ``release`` removes. Apart from the agent's
        # time: extending one lease must not keep others that the agent may have lost sight of.
        self._extended: dict[str, float] = {}
        # Task id → numbers of the answers that carried its lease and may have arrived. ``deliver`` and ``loaded`` add,
        # ``undelivered`` removes one, ``release`` all.
        self._deliveries: dict[str, set[int]] = {}
        # The next number of an answer. Unique within this table, so within a generation of the shard.
        self._numbers = itertools.count(_BEFORE + 1)

    # --- leases -------------------------------------------------------------------------------------------------

    def renew(self, key: AgentKey, now: float, process: str | None = None) -> None:
        """Notes that an agent was heard, which renews all its leases. If it was one process of the agent, the leases that
        another process claimed stay as they are."""
        agent = self._by_agent.get(key)
        if agent is None:
            agent = self._by_agent[key] = _AgentLeases()
        agent.heard_at = max(agent.heard_at, now)
        if process is None:
            agent.renewed_at = max(agent.renewed_at, now)
        elif process in agent.processes:
            heard = agent.processes[process]
            heard.renewed_at = max(heard.renewed_at, now)

    def leases(self, key: AgentKey) -> Collection[str]:
        """Ids of the tasks that an agent holds, the oldest lease first. A live view: copy it before you release any of them."""
        agent = self._by_agent.get(key)
        return () if agent is None else agent.leases.keys()

    def acquire(self, head: TaskHead, now: float) -> None:
        """Adds the lease of a task that has just begun to run, for the agent that its head names."""
        key, process = key_of(head), process_of(head.claim_id)
        self.renew(key, now, process)
        agent = self._by_agent[key]
        if process is not None and head.id not in agent.leases:
            agent.processes.setdefault(process, _Process(now)).leases += 1
        agent.leases[head.id] = None

    def release(self, head: TaskHead) -> bool:
        """Removes the lease of a task; ``head`` is the one that still names the holder. True if the agent has gained a slot."""
        self._extended.pop(head.id, None)
        self._deliveries.pop(head.id, None)
        agent = None if head.assigned_agent is None else self._by_agent.get((head.workspace, head.assigned_agent))
        if agent is None:
            return False
        process = process_of(head.claim_id)
        if head.id in agent.leases and process is not None:
            agent.processes[process].leases -= 1
            if agent.processes[process].leases == 0:
                del agent.processes[process]
        agent.leases.pop(head.id, None)
        return True

    def extend(self, task_id: str, now: float) -> None:
        """Renews one lease and no other of its agent."""
        self._extended[task_id] = now

    def restart(self, now: float) -> None:
        """Gives all leases their full time again, because nobody could be heard for a while."""
        self._restarted_at = now

    def expires_at(self, head: TaskHead) -> float:
        """When the lease of a running task expires, in epoch seconds, if nothing renews it."""
        agent, process = self._by_agent[key_of(head)], process_of(head.claim_id)
        heard_at = agent.heard_at
        if process is not None:
            heard_at = max(agent.renewed_at, agent.processes[process].renewed_at)
        return max(heard_at, self._extended.get(head.id, 0.0), self._restarted_at) + self._ttl_s

    def shown_expiry(self, head: TaskHead) -> float:
        """The expiry that its holder is told: not later than the end of the run time, which nothing renews."""
        assert head.started_at is not None
        return min(self.expires_at(head), head.started_at + head.timeout_s)

    # --- answers that carry a lease ------------------------------------------------------------------------------

    def loaded(self, task_id: str) -> None:
        """Notes a lease that was read from the store. Its holder may have it from the predecessor's answer, so the lease ends
        only by a report or by expiry, not because an answer of this shard was lost."""
        self._deliveries[task_id] = {_BEFORE}

    def deliver(self, task_id: str) -> int:
        """The number of one more answer that carries the lease."""
        number = next(self._numbers)
        self._deliveries.setdefault(task_id, set()).add(number)
        return number

    def undelivered(self, task_id: str, delivery: int) -> bool:
        """Notes that an answer reached nobody. True if no other answer can have reached the holder.

        There may be another one: a client that hangs up and claims again may have the lease by its new connection before the
        old one is found broken."""
        left = self._deliveries.get(task_id)
        if left is None or delivery not in left:
            return False
        left.discard(delivery)
        return not left

    # --- who is there, and may get something new --------------------------------------------------------------------------------

    def is_heard(self, key: AgentKey, now: float) -> bool:
        """Whether an agent was heard lately, so that a lease of its own would not have expired."""
        agent = self._by_agent.get(key)
        return agent is not None and max(agent.heard_at, self._restarted_at) + self._ttl_s > now

    def is_deregistered(self, key: AgentKey) -> bool:
        return key in self._deregistered

    def is_unschedulable(self, key: AgentKey) -> bool:
        return key in self._unschedulable

    def register(self, key: AgentKey) -> None:
        self._deregistered.discard(key)

    def deregister(self, key: AgentKey) -> None:
        self._deregistered.add(key)
        self._by_agent.pop(key, None)

    def set_unschedulable(self, key: AgentKey, is_unschedulable: bool) -> None:
        """Sets whether an agent gets nothing new, as read from the store. The log row of a change is not enough: it does not say
        who paused the agent and whether that is over."""
        (self._unschedulable.add if is_unschedulable else self._unschedulable.discard)(key)
