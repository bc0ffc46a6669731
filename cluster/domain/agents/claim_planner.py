"""The planner of called agents' claims, as a machine: for which agents of a host a claim waits, and whose work is begun.

Agents with equal capabilities compete for the same tasks. Only a few of their claims wait at the shard at a time, for
the agents that the selection strategy would choose next. So the choice is made before the task arrives, and does not
delay it. A task that names its agent is claimed for that agent.

Nothing is claimed for an agent that may not be called: its breaker is open, or it wants to be called later. Then its claim
is withdrawn, and made again at the time at which it may be called, or when its breaker changes before.

A process completes every task that was leased to a claim of its own, even if another host owns the agent by then. The
host that owns an agent takes over the leases of processes that have died, and of no others.

It knows no clock and draws nothing: ``step`` gets both. Every change costs the same, however many agents there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.domain.agents.agent import Agent
from cluster.domain.agents.claim_events import (
    AgentDeregistered,
    AgentsSeen,
    BoundsChanged,
    ClaimEnded,
    ClaimsDue,
    DoTask,
    Effect,
    Event,
    LeasesRead,
    MakeClaim,
    ProcessLost,
    ReadingFailed,
    ReadLeases,
    TaskLeased,
    TaskNamed,
    TaskOver,
    TaskUnsent,
    TimePassed,
    WithdrawClaim,
    WorkEnded,
)
from cluster.domain.agents.claim_plan import (
    MAX_REST_S,
    ClaimPlan,
    Group,
    Phase,
    candidate,
    group_of,
    key_of,
    load_of,
    room_of,
)
from cluster.domain.agents.liveness import Key
from cluster.domain.agents.selection import Ranking

#: How many claims of agents with equal capabilities wait at the shard at a time.
WAITING_PER_GROUP: Final = 2
#: How often leases that nobody works on are looked for, even if nothing has changed.
LOOK_AGAIN_S: Final = 15.0
#: How long an agent gets no task after it was not asked to do one, if nothing says when it may be asked.
REST_S: Final = 0.5
#: One draw gives each choice of an event another number in [0, 1): multiples of the golden ratio, modulo 1, keep apart.
_GOLDEN: Final = 0.6180339887498949


def next_at(plan: ClaimPlan) -> float:
    """When time alone brings something to do."""
    return min(plan.look_at, plan.wakes[0][0]) if plan.wakes else plan.look_at


def step(plan: ClaimPlan, event: Event, now: float) -> tuple[ClaimPlan, tuple[Effect, ...]]:
    """The plan after the event, and what is to be done. The plan that was handed in is the one that comes back, changed."""
    return plan, tuple(TRANSITIONS[type(event)].apply(plan, event, now))


# --- agents ------------------------------------------------------------------------------------------------------


def _agents_seen(plan: ClaimPlan, event: AgentsSeen, now: float) -> list[Effect]:
    moved: dict[Group, None] = {}
    for key, agent in event.agents.items():
        moved |= dict.fromkeys(_update(plan, key, agent, now))
    # Their agents were chosen among the former agents of the group.
    return [WithdrawClaim(key=(group[0], agent_id)) for group in moved for agent_id in plan.claims.get(group, ())]


def _update(plan: ClaimPlan, key: Key, agent: Agent | None, now: float) -> list[Group]:
    """Updates what is kept of one agent; returns the groups that it left or joined."""
    before = plan.takers.get(key)
    if agent is before:  # an agent that has changed is another object
        return []
    was = None if before is None else group_of(before)
    to = None if agent is None else group_of(agent)
    if was is not None and was != to:
        _leave(plan, was, key)
    if agent is None:
        del plan.takers[key]
        plan.unread.discard(key)
        for task_id in plan.named.pop(key, ()):
            del plan.names[task_id]
    else:
        plan.takers[key] = agent
        _rank(plan, key, now)
        if before is None:
            plan.unread.add(key)
        plan.free[key] = None
    return [group for group in (was, to) if group is not None and was != to]


def _leave(plan: ClaimPlan, group: Group, key: Key) -> None:
    ranking = plan.rankings[group]
    ranking.remove(key[1])
    if len(ranking) == 0:
        del plan.rankings[group]
    else:
        plan.short[group] = None  # who left may have been chosen, though its claim under a former group had not ended


def _agent_deregistered(plan: ClaimPlan, event: AgentDeregistered, now: float) -> list[Effect]:
    plan.chosen.pop(event.key, None)
    plan.rests.pop(event.key, None)
    plan.breakers.pop(event.key, None)
    return []


def _bounds_changed(plan: ClaimPlan, event: BoundsChanged, now: float) -> list[Effect]:
    plan.breakers.pop(event.key, None)
    if event.breaker is not None:
        plan.breakers[event.key] = event.breaker
    plan.asked.pop(event.key, None)
    if event.asked:
        plan.asked[event.key] = event.asked
    return _weigh_again(plan, event.key, now)


def _weigh_again(plan: ClaimPlan, key: Key, now: float) -> list[Effect]:
    """An agent may have more or fewer calls than before. Its claim is withdrawn if it may have none."""
    agent = plan.takers.get(key)
    if agent is None:
        return []
    _rank(plan, key, now)
    plan.free[key] = None
    withdrawn = key in plan.waiting and load_of(plan, agent, now) >= agent.max_concurrency
    return [WithdrawClaim(key=key)] if withdrawn else []


def _rank(plan: ClaimPlan, key: Key, now: float) -> None:
    """Ranks a taker anew: it has come or changed, its load has, or it was chosen."""
    agent = plan.takers.get(key)
    if agent is None:
        return
    group = group_of(agent)
    if group not in plan.rankings:
        plan.rankings[group] = Ranking(plan.strategy)
    plan.rankings[group].put(candidate(plan, agent, now))
    plan.short[group] = None
    times = [at for at in (plan.rests.get(key), room_of(plan, key, now).until) if at is not None and at > now]
    if times:
        heapq.heappush(plan.wakes, (min(times), key))


# --- tasks that name their agents --------------------------------------------------------------------------------


def _task_named(plan: ClaimPlan, event: TaskNamed, now: float) -> list[Effect]:
    _note_named(plan, event.key, event.task_id)
    return []


def _note_named(plan: ClaimPlan, key: Key, task_id: str) -> None:
    """Keeps a task that names a taker. Those of an agent that becomes one later are read then."""
    if key in plan.takers:
        plan.named.setdefault(key, set()).add(task_id)
        plan.names[task_id] = key
        plan.free[key] = None


def _task_over(plan: ClaimPlan, event: TaskOver, now: float) -> list[Effect]:
    _end(plan, event.task_id)
    key = plan.names.pop(event.task_id, None)
    if key is not None:
        plan.named[key].discard(event.task_id)
        if not plan.named[key]:
            del plan.named[key]
    return []


def _end(plan: ClaimPlan, task_id: str) -> None:
    if plan.ended is not None:
        plan.ended.add(task_id)


# --- leases on which nobody works --------------------------------------------------------------------------------


def _process_lost(plan: ClaimPlan, event: ProcessLost, now: float) -> list[Effect]:
    plan.look_at = 0.0
    return []


def _time_passed(plan: ClaimPlan, event: TimePassed, now: float) -> list[Effect]:
    """Ranks the agents anew that may have room by now, and has leases read if it is time or an agent has come."""
    while plan.wakes and plan.wakes[0][0] <= now:
        _, key = heapq.heappop(plan.wakes)
        if plan.rests.get(key, now + 1.0) <= now:
            del plan.rests[key]
        if key in plan.takers:
            _rank(plan, key, now)
            plan.free[key] = None
    if plan.ended is not None or not (plan.unread or now >= plan.look_at):
        return []
    plan.look_at = now + LOOK_AGAIN_S  # a process that is lost meanwhile resets it
    plan.ended = set()
    return [ReadLeases(unread=tuple(sorted(plan.unread)))]


def _leases_read(plan: ClaimPlan, event: LeasesRead, now: float) -> list[Effect]:
    """Begins work on leases on which nobody works: those of this process, and those of takers whose claimers have died. The
    same attempt is given to the agent again, under the same key."""
    ended, plan.ended = plan.ended or set(), None
    begun: list[Effect] = []
    for lease in event.leases:
        process = lease.claim_id.rpartition("-")[0]
        agent = None
        if process == plan.owner:  # this process works on it, whichever host owns the agent by now
            agent = lease.agent
        elif process not in event.living:
            agent = plan.takers.get(lease.key)
        if agent is not None and lease.task_id not in ended:
            begun += _begin(plan, agent, lease.task_id, now)
    for key, task_id in event.named:
        if task_id not in ended:
            _note_named(plan, key, task_id)
    plan.unread.difference_update(event.unread)
    return begun


def _reading_failed(plan: ClaimPlan, event: ReadingFailed, now: float) -> list[Effect]:
    plan.ended = None
    plan.look_at = 0.0
    return []


# --- claims ------------------------------------------------------------------------------------------------------


def _claims_due(plan: ClaimPlan, event: ClaimsDue, now: float) -> list[Effect]:
    """Makes claims: first for tasks that name their agents, then for each group as many as may wait, for the agents that would
    be chosen next."""
    claims: list[Effect] = []
    free, plan.free = plan.free, {}
    for key in free:
        agent = plan.takers.get(key)
        if agent is not None and _is_named(plan, key):
            claims += _claim(plan, agent, now)
    short, plan.short = plan.short, {}
    draw = event.draw
    for group in short:
        ranking, waiting = plan.rankings.get(group), set(plan.claims.get(group, ()))
        for _ in range(0 if ranking is None else WAITING_PER_GROUP - len(waiting)):
            assert ranking is not None
            chosen = ranking.choose(draw=draw, excluded=waiting)
            draw = (draw + _GOLDEN) % 1.0
            if chosen is None:
                break
            waiting.add(chosen)
            claims += _claim(plan, plan.takers[group[0], chosen], now)
    return claims


def _is_named(plan: ClaimPlan, key: Key) -> bool:
    """Whether an open task names the agent that is not worked on here. So it asks again after a claim that brought nothing, and
    if the task has to be tried again."""
    named = plan.named.get(key)
    return named is not None and not named <= plan.working.get(key, {}).keys()


def _claim(plan: ClaimPlan, agent: Agent, now: float) -> list[Effect]:
    """Makes a claim for the agent, unless one waits already or the agent has no free slot."""
    key, group = key_of(agent), group_of(agent)
    if key in plan.waiting or load_of(plan, agent, now) >= agent.max_concurrency:
        return []
    plan.waiting[key] = group
    plan.claims.setdefault(group, {})[agent.agent_id] = None
    plan.number += 1
    return [MakeClaim(agent=agent, claim_id=f"{plan.owner}-{plan.number}")]


def _claim_ended(plan: ClaimPlan, event: ClaimEnded, now: float) -> list[Effect]:
    """Forgets a claim. If the agent has changed its group, the new group may lack a claim too."""
    key = event.key
    group = plan.waiting.pop(key)
    del plan.claims[group][key[1]]
    if not plan.claims[group]:
        del plan.claims[group]
    plan.short[group] = None
    if key in plan.takers:
        plan.short[group_of(plan.takers[key])] = None
    plan.free[key] = None
    return []


# --- work --------------------------------------------------------------------------------------------------------


def _task_leased(plan: ClaimPlan, event: TaskLeased, now: float) -> list[Effect]:
    return _begin(plan, event.agent, event.task_id, now)


def _begin(plan: ClaimPlan, agent: Agent, task_id: str, now: float) -> list[Effect]:
    key = key_of(agent)
    if task_id in plan.working.get(key, {}):
        return []
    plan.number += 1
    plan.chosen[key] = plan.number
    plan.working.setdefault(key, {})[task_id] = now
    _rank(plan, key, now)
    return [DoTask(agent=agent, task_id=task_id)]


def _task_unsent(plan: ClaimPlan, event: TaskUnsent, now: float) -> list[Effect]:
    """If the agent's room does not say why, the agent rests, so that it does not take the same task again at once."""
    if room_of(plan, event.key, now).left(0) != 0:
        wait_s = REST_S if event.retry_after_s is None else min(event.retry_after_s, MAX_REST_S)
        plan.rests[event.key] = now + wait_s
    return _weigh_again(plan, event.key, now)


def _work_ended(plan: ClaimPlan, event: WorkEnded, now: float) -> list[Effect]:
    key = event.key
    del plan.working[key][event.task_id]
    if not plan.working[key]:
        del plan.working[key]
    _end(plan, event.task_id)
    _rank(plan, key, now)
    plan.free[key] = None
    return []


# --- the table ---------------------------------------------------------------------------------------------------

P = Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """What applies the event, the phases that an agent may pass from and to by it (an agent's phase stays in every other case),
    the effects that it may have, and a note for readers."""

    apply: Callable[[ClaimPlan, Any, float], list[Effect]]
    moves: frozenset[tuple[Phase, Phase]] = frozenset()
    effects: frozenset[type[Effect]] = frozenset()
    note: str = ""


_FILLS = frozenset({(P.FREE, P.FULL)})
_EMPTIES = frozenset({(P.FULL, P.FREE)})

#: Tests and readers read this table. Events that are not in it do not exist.
TRANSITIONS: Final[Mapping[type[Event], EventRule]] = {
    AgentsSeen: EventRule(
        apply=_agents_seen,
        moves=frozenset(
            {
                *((P.AWAY, P.FREE), (P.AWAY, P.FULL), (P.FREE, P.AWAY), (P.FULL, P.AWAY)),
                *((P.CLAIMING, P.LEAVING), (P.LEAVING, P.CLAIMING), *_FILLS, *_EMPTIES),
            }
        ),
        effects=frozenset({WithdrawClaim}),
        note="claims of groups that an agent left or joined are made again",
    ),
    AgentDeregistered: EventRule(apply=_agent_deregistered, moves=_EMPTIES, note="its breaker and rest end with it"),
    BoundsChanged: EventRule(
        apply=_bounds_changed,
        moves=_FILLS | _EMPTIES,
        effects=frozenset({WithdrawClaim}),
        note="no claim waits for an agent that may not be called",
    ),
    TaskNamed: EventRule(apply=_task_named),
    TaskOver: EventRule(apply=_task_over),
    ProcessLost: EventRule(apply=_process_lost, note="leases are read at once"),
    TimePassed: EventRule(apply=_time_passed, effects=frozenset({ReadLeases}), note="leases are read one at a time"),
    LeasesRead: EventRule(
        apply=_leases_read,
        moves=_FILLS,
        effects=frozenset({DoTask}),
        note="own leases, and those of dead processes' claims",
    ),
    ReadingFailed: EventRule(apply=_reading_failed, note="leases are read at once"),
    ClaimsDue: EventRule(
        apply=_claims_due,
        moves=frozenset({(P.FREE, P.CLAIMING)}),
        effects=frozenset({MakeClaim}),
        note="named tasks first, then each group",
    ),
    ClaimEnded: EventRule(
        apply=_claim_ended,
        moves=frozenset({(P.CLAIMING, P.FREE), (P.CLAIMING, P.FULL), (P.LEAVING, P.AWAY)}),
    ),
    TaskLeased: EventRule(apply=_task_leased, moves=_FILLS, effects=frozenset({DoTask})),
    TaskUnsent: EventRule(
        apply=_task_unsent,
        moves=_FILLS,
        effects=frozenset({WithdrawClaim}),
        note="the agent rests, if nothing else says why",
    ),
    WorkEnded: EventRule(apply=_work_ended, moves=_EMPTIES),
}
