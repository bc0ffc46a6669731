"""What the planner of called agents' claims knows, and what follows from it: how full an agent is, and in which phase."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cluster.domain.agents.agent import Agent
from cluster.domain.agents.breaker import Breaker, Room, room
from cluster.domain.agents.liveness import Key
from cluster.domain.agents.selection import Candidate, Ranking, Strategy

#: The longest time that an agent gets no task because its own rate, of its registration, leaves no room for one.
MAX_REST_S: Final = 60.0
Group = tuple[str, frozenset[str], frozenset[str], bool]
"""(workspace, capabilities, regions, chats): agents that compete for the same tasks"""


@dataclass(slots=True, kw_only=True)
class ClaimPlan:
    """What the planner knows. ``step`` changes it in place, because a copy would cost as much as all agents. Dicts whose values
    are None are sets that keep an order, so that the same events have the same effects."""

    #: This process, as its claims' ids begin. A lease whose claim id begins otherwise was claimed by another process.
    owner: str
    strategy: Strategy
    #: Numbers claims and choices: no two claims of this process have the same id, and a later choice has more.
    number: int = 0
    #: The agents that this host owns and that take tasks.
    takers: dict[Key, Agent] = field(default_factory=dict)
    #: Takers whose leases and named tasks have not been read yet.
    unread: set[Key] = field(default_factory=set)
    #: Group → its takers in the order in which they are chosen. Each taker is in the ranking of its group and in no other. No
    #: ranking is empty.
    rankings: dict[Group, Ranking] = field(default_factory=dict)
    #: Agent → the group under which a claim for it waits at the shard: at most one claim per agent, until `ClaimEnded`.
    waiting: dict[Key, Group] = field(default_factory=dict)
    #: The same claims: group → agent ids. No group is empty.
    claims: dict[Group, dict[str, None]] = field(default_factory=dict)
    #: Agent → task id → when the work on it began, from `TaskLeased` to `WorkEnded`, also if another host owns the agent by
    #: then. An agent without work has no entry.
    working: dict[Key, dict[str, float]] = field(default_factory=dict)
    #: Agent → the number of its last choice, for strategies that take who was chosen longest ago; until it is deregistered.
    chosen: dict[Key, int] = field(default_factory=dict)
    #: Agent → its breaker, as of the last `BoundsChanged`, and how many of its slots questions have. 0 is left out.
    breakers: dict[Key, Breaker] = field(default_factory=dict)
    asked: dict[Key, int] = field(default_factory=dict)
    #: Agent → before when it gets no task, though its breaker may admit calls: one was given back, and another would be too.
    rests: dict[Key, float] = field(default_factory=dict)
    #: A heap of (time, agent): when an agent's room changes by time alone. A time that counts no more only ranks its agent once
    #: too often.
    wakes: list[tuple[float, Key]] = field(default_factory=list)
    #: Agent → open tasks that name it, and task → agent. A task is forgotten when it ends, or when the agent is no taker any
    #: more.
    named: dict[Key, set[str]] = field(default_factory=dict)
    names: dict[str, Key] = field(default_factory=dict)
    #: Groups that may have fewer waiting claims than they could. `ClaimsDue` takes all.
    short: dict[Group, None] = field(default_factory=dict)
    #: Agents that may claim a task that names them, because the agent or such a task has come, or a claim or a task of the
    #: agent has ended. `ClaimsDue` takes all.
    free: dict[Key, None] = field(default_factory=dict)
    #: Tasks that ended since `ReadLeases`: what is being read may still show them as open. None: nothing is being read.
    ended: set[str] | None = None
    #: When leases are read again, even if nothing changes.
    look_at: float = 0.0

    @property
    def due(self) -> bool:
        """Whether `ClaimsDue` may make a claim."""
        return bool(self.free or self.short)

    @property
    def tasks(self) -> int:
        """How many tasks are being worked on."""
        return sum(len(tasks) for tasks in self.working.values())


class Phase(StrEnum):
    """What an agent is to the planner."""

    #: Takes no tasks here.
    AWAY = "away"
    #: Takes none any more, and its claim has not ended yet.
    LEAVING = "leaving"
    #: Has no slot free, or may not be called.
    FULL = "full"
    #: Could have a task more.
    FREE = "free"
    #: A claim waits for it.
    CLAIMING = "claiming"


def phase(plan: ClaimPlan, key: Key, now: float) -> Phase:
    """What the agent is to the planner now. It may become free or full by time alone."""
    agent = plan.takers.get(key)
    if key in plan.waiting:
        return Phase.LEAVING if agent is None else Phase.CLAIMING
    if agent is None:
        return Phase.AWAY
    return Phase.FREE if load_of(plan, agent, now) < agent.max_concurrency else Phase.FULL


def group_of(agent: Agent) -> Group:
    """The agents with which this one competes."""
    return agent.workspace, frozenset(agent.capabilities), agent.regions, agent.explicit_only


def candidate(plan: ClaimPlan, agent: Agent, now: float) -> Candidate:
    """The agent as the selection strategy sees it."""
    key = key_of(agent)
    ended = agent.tasks_completed + agent.tasks_failed
    price = agent.options.price
    return Candidate(
        agent_id=agent.agent_id,
        load=load_of(plan, agent, now),
        slots=agent.max_concurrency,
        latency_ms=agent.avg_latency_ms or None,
        success=agent.tasks_completed / ended if ended else None,
        cost=None if price is None else price.output_per_mtok,
        region=agent.region_id,
        chosen=plan.chosen.get(key, 0),
    )


def load_of(plan: ClaimPlan, agent: Agent, now: float) -> int:
    """How many of the agent's slots are taken: all of them if it may not be called."""
    key = key_of(agent)
    if plan.rests.get(key, now) > now:
        return agent.max_concurrency
    working, room_now = plan.working.get(key, {}), room_of(plan, key, now)
    taken = len(working) + plan.asked.get(key, 0)
    left = room_now.left(sum(begun >= room_now.since for begun in working.values()))
    return taken if left is None else max(taken, agent.max_concurrency - left)


def room_of(plan: ClaimPlan, key: Key, now: float) -> Room:
    breaker = plan.breakers.get(key)
    return Room() if breaker is None else room(breaker, now)


def key_of(agent: Agent) -> Key:
    return agent.workspace, agent.agent_id
