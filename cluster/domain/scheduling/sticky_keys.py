"""Sticky keys: work that wants the same worker as the work before it, which may have loaded a model or a repository for it.

An agent holds the key of the task that it took last. A further task of the key waits for that agent alone, for ``STICKY_S``
from when it may start, if the agent could take it now. Whether it does is decided once, when the task becomes ready; it is given
up as soon as the agent can no longer take it. Keys change no order: the agent's claims look at such tasks like at all others.

All of it is a hint in memory. After a restart, the agents of running tasks hold their keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cluster.domain.scheduling.eligibility import Profile, demand_of, eligible
from cluster.domain.scheduling.lease_table import LeaseTable, key_of
from cluster.domain.scheduling.requests import AgentKey, ClaimRequest
from cluster.domain.tasks.events import Event
from cluster.domain.tasks.rules import STICKY_S
from cluster.domain.tasks.task import TaskHead

#: For so many keys a shard knows who holds them; those that were taken longest ago are forgotten first.
MOST_KEYS: Final = 10_000


class StickyOver(Event):
    """The kind of the timer that ends a task's wait for the agent that holds its key."""


def waits_until(head: TaskHead) -> float:
    """Until when a task may wait for the agent that holds its key, in epoch seconds."""
    return max(head.created_at, head.run_at) + STICKY_S


def _key(head: TaskHead) -> tuple[str, str] | None:
    """A task for one agent has no use for a key."""
    key = None if head.rules is None or head.target_agent is not None else head.rules.sticky_key
    return None if key is None else (head.workspace, key)


@dataclass(slots=True)
class _Holder:
    # The keys that the agent holds, and ids of the tasks that wait for it, the first one first (ordered sets).
    keys: dict[str, None] = field(default_factory=dict)
    tasks: dict[str, None] = field(default_factory=dict)
    # What its last claim took, and how many slots the agent had. None until it claims: then nothing waits for it.
    profile: Profile | None = None
    slots: int = 0


class StickyKeys:
    """``leases`` says what an agent is doing, and whether it is there; it is only read."""

    def __init__(self, leases: LeaseTable, most_keys: int = MOST_KEYS) -> None:
        self._leases = leases
        self._most_keys = most_keys
        # (workspace, key) → the agent that holds it, in the order in which keys were taken. ``hold`` adds, and removes the first
        # when there are too many; ``give_up`` and ``lose`` remove.
        self._agents: dict[tuple[str, str], str] = {}
        # Agents that hold a key, or that a task waits for. Changed together with ``_agents`` and ``_waiting``.
        self._by_agent: dict[AgentKey, _Holder] = {}
        # Id of a task that waits for an agent → that agent. ``bind`` adds, ``leave``, ``excess`` and ``lose`` remove.
        self._waiting: dict[str, AgentKey] = {}

    # --- who holds a key ------------------------------------------------------------------------------------------

    def note(self, request: ClaimRequest, profile: Profile) -> None:
        """Notes what an agent claims and how many slots it has, if it holds a key."""
        holder = self._by_agent.get(request.agent)
        if holder is not None:
            holder.profile, holder.slots = profile, request.max_concurrency

    def hold(self, head: TaskHead) -> None:
        """The agent of a running task holds its key from now on."""
        key = _key(head)
        if key is None:
            return
        self._drop(key)
        agent = key_of(head)
        self._agents[key] = agent[1]
        self._by_agent.setdefault(agent, _Holder()).keys[key[1]] = None
        if len(self._agents) > self._most_keys:
            self._drop(next(iter(self._agents)))

    def give_up(self, head: TaskHead) -> None:
        """An attempt ended, and the task goes on: whoever had it does not hold its key any more."""
        key = _key(head)
        if key is not None and self._agents.get(key) == head.assigned_agent:
            self._drop(key)

    def lose(self, agent: AgentKey) -> list[str]:
        """The agent is away: it holds no key. Returns the tasks that waited for it, for whom nobody waits now."""
        holder = self._by_agent.get(agent)
        if holder is None:
            return []
        for name in list(holder.keys):
            self._drop((agent[0], name))
        return self._free(agent, 0)

    def _drop(self, key: tuple[str, str]) -> None:
        agent_id = self._agents.pop(key, None)
        if agent_id is not None:
            agent = (key[0], agent_id)
            del self._by_agent[agent].keys[key[1]]
            self._tidy(agent)

    # --- who waits for it -----------------------------------------------------------------------------------------

    def bind(self, head: TaskHead, now: float) -> str | None:
        """The agent that a task which has become ready waits for; None if it is for anybody."""
        self.leave(head.id)
        key = _key(head)
        agent_id = None if key is None else self._agents.get(key)
        if agent_id is None or waits_until(head) <= now:
            return None
        agent = (head.workspace, agent_id)
        holder = self._by_agent[agent]
        if holder.profile is None or self._room(agent, holder) <= len(holder.tasks):
            return None
        if self._leases.is_unschedulable(agent) or not self._leases.is_heard(agent, now):
            return None
        if eligible(demand_of(head, agent_id), holder.profile, agent_id, 0.0) is not None:
            return None
        holder.tasks[head.id] = None
        self._waiting[head.id] = agent
        return agent_id

    def agent_of(self, task_id: str) -> str | None:
        """The agent that a task waits for; None if it is for anybody."""
        agent = self._waiting.get(task_id)
        return None if agent is None else agent[1]

    def leave(self, task_id: str) -> bool:
        """Notes that a task does not wait for an agent any more; False if it did not."""
        agent = self._waiting.pop(task_id, None)
        if agent is not None:
            del self._by_agent[agent].tasks[task_id]
            self._tidy(agent)
        return agent is not None

    def excess(self, agent: AgentKey) -> list[str]:
        """The tasks that an agent has no room for any more, the last ones first to go; nobody waits for them now. All of them if
        it may get nothing new."""
        holder = self._by_agent.get(agent)
        if holder is None or not holder.tasks:
            return []
        return self._free(agent, 0 if self._leases.is_unschedulable(agent) else self._room(agent, holder))

    def _free(self, agent: AgentKey, most: int) -> list[str]:
        holder = self._by_agent.get(agent)
        released = [] if holder is None else list(holder.tasks)[max(0, most) :]
        for task_id in released:
            self.leave(task_id)
        return released

    def _room(self, agent: AgentKey, holder: _Holder) -> int:
        return holder.slots - len(self._leases.leases(agent))

    def _tidy(self, agent: AgentKey) -> None:
        if not self._by_agent[agent].keys and not self._by_agent[agent].tasks:
            del self._by_agent[agent]
