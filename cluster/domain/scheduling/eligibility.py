"""Which agents may have a waiting task, and why the others may not or cannot take it now.

Only the task decides which agents may have it: its required capabilities, its target agent, the agents that it excludes and
its regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.domain.agents.agent import Agent, AgentStatus, Health, Intent, IntentBy
from cluster.domain.agents.breaker import Breaker
from cluster.domain.tasks.rules import PREFERENCE_S, Affinity
from cluster.domain.tasks.task import TaskHead

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a task does not run. ``unblock`` says what would let it run; ``at`` when that happens by itself (epoch seconds)."""

    code: str
    message: str
    unblock: str
    at: float | None = None


def eligible(
    head: TaskHead, agents: Sequence[Agent], now: float, breakers: Mapping[str, Breaker]
) -> tuple[list[str], list[Reason]]:
    """(ids of the agents that may have the task, reasons if none of them could take it now). ``breakers`` is by agent id."""
    if head.target_agent is not None:
        agents = [agent for agent in agents if agent.agent_id == head.target_agent]
        if not agents:
            return [], [_no_agent(f"It is for agent {head.target_agent}, which is not registered.", "Register it.")]
    for_anybody = not head.required and head.target_agent is None
    capable = [
        agent
        for agent in agents
        if head.required <= set(agent.capabilities) and not (for_anybody and agent.explicit_only)
    ]
    if not capable:
        return [], [_incapable(head, agents)]
    excluded = [agent for agent in capable if head.rules is not None and agent.agent_id in head.rules.excluded_agents]
    allowed = [agent for agent in capable if agent not in excluded and _in_region(head, agent, now)]
    barred = _barred(head, excluded, [agent for agent in capable if agent not in excluded and agent not in allowed])
    if not allowed:
        return [], barred
    names = [agent.agent_id for agent in allowed]
    cannot = _cannot_now(allowed, breakers, now)
    return names, [*cannot, *barred] if cannot else []


def _no_agent(message: str, unblock: str) -> Reason:
    return Reason(code="no_agent", message=message, unblock=unblock)


def _incapable(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    names = ", ".join(sorted(head.required))
    known = {name for agent in agents for name in agent.capabilities}
    lacking = ", ".join(sorted(head.required - known)) or names
    if head.target_agent is not None:
        message = f"It is for agent {head.target_agent}, which does not have {lacking}."
        unblock = f"Register {head.target_agent} again with {lacking}."
    elif agents and not names:
        message = "It requires no capability, and only agents that chat or deliberate are registered; those take only tasks that "
        message += "require one."
        unblock = "Register an agent that does other work too, or submit the task with required_capabilities."
    else:
        message = f"No registered agent has {names}." if names else "No agent is registered."
        unblock = f"Register an agent with {lacking}." if names else "Register an agent."
    return Reason(code="no_capable_agent", message=message, unblock=unblock)


def _in_region(head: TaskHead, agent: Agent, now: float) -> bool:
    selection = None if head.rules is None else head.rules.selection()
    return selection is None or selection.admits(agent.agent_id, agent.regions, now - _since(head))


def _since(head: TaskHead) -> float:
    return max(head.created_at, head.run_at)


def _barred(head: TaskHead, excluded: Sequence[Agent], elsewhere: Sequence[Agent]) -> list[Reason]:
    """Why the task does not go to agents that have its capabilities."""
    reasons = []
    if excluded:
        message = f"The task excludes {_named(excluded)}, which could do it."
        unblock = "Another agent that can do it registers, or the task is submitted anew without the exclusion."
        reasons.append(Reason(code="excluded", message=message, unblock=unblock))
    if elsewhere:
        assert head.rules is not None, "only rules ask for a region"
        regions = ", ".join(head.rules.regions)
        if head.rules.affinity is Affinity.PREFERRED:
            message = f"Agents of {regions} come first; {_named(elsewhere)} could do it elsewhere."
            unblock = f"An agent of {regions} claims it, or it has waited {PREFERENCE_S:g} s."
            reasons.append(Reason(code="region", message=message, unblock=unblock, at=_since(head) + PREFERENCE_S))
        else:
            message = f"The task must run in {regions}; {_named(elsewhere)} could do it elsewhere."
            reasons.append(Reason(code="region", message=message, unblock=f"An agent registers in {regions}."))
    return reasons


def _cannot_now(allowed: Sequence[Agent], breakers: Mapping[str, Breaker], now: float) -> list[Reason]:
    """Why none of the agents could take the task now; nothing if one of them could."""
    behind = [agent for agent in allowed if _is_behind(agent, breakers.get(agent.agent_id), now)]
    not_called = _not_called(behind, breakers, now)
    others = [agent for agent in allowed if agent not in behind]
    if not others:
        return not_called
    busy = _busy(others)
    return [] if busy is None else [*not_called, busy]


def _is_behind(agent: Agent, breaker: Breaker | None, now: float) -> bool:
    """Whether only its breaker keeps an agent from being called. An open one makes its health ``failed`` too."""
    if breaker is None or breaker.may_call_at(now) <= now or agent.intent is not Intent.ACTIVE:
        return False
    return agent.takes_work or agent.health is Health.FAILED


def _not_called(behind: Sequence[Agent], breakers: Mapping[str, Breaker], now: float) -> list[Reason]:
    """One reason for each of the agents that may be called again first."""
    by_time = sorted(behind, key=lambda agent: (breakers[agent.agent_id].may_call_at(now), agent.agent_id))
    reasons = []
    for agent in by_time[:_SHOWN]:
        breaker, at = breakers[agent.agent_id], breakers[agent.agent_id].may_call_at(now)
        asked = at == breaker.retry_at
        why = "it asked for that" if asked else "its breaker is open, because its last calls failed"
        reasons.append(
            Reason(
                code="agent_asked_to_wait" if asked else "breaker_open",
                message=f"Agent {agent.agent_id} is not called for another {at - now:.1f} s: {why}.",
                unblock="Its time comes; then it is tried again. No attempt is spent before.",
                at=at,
            )
        )
    return reasons


def _busy(allowed: Sequence[Agent]) -> Reason | None:
    """Why none of these agents takes a task; None if one of them could."""
    working = [agent for agent in allowed if agent.takes_work]
    if not working:
        states = ", ".join(f"{agent.agent_id} is {agent.status.value}" for agent in allowed[:_SHOWN])
        stopped = [a for a in allowed if a.status in (AgentStatus.PAUSED, AgentStatus.DRAINING)]
        unschedulable = [a for a in stopped if a.held_by is IntentBy.OPERATOR]
        resume = f": aragora-cp agents resume {unschedulable[0].agent_id}" if unschedulable else ""
        return _no_agent(f"No agent that may have it takes work: {states}.", f"One of them comes back{resume}.")
    if any(len(agent.running_task_ids) < agent.max_concurrency for agent in working):
        return None
    return Reason(
        code="agents_busy",
        message=f"All {len(working)} agents that may have it are busy.",
        unblock="One of them finishes a task, or another agent registers.",
    )


def _named(agents: Sequence[Agent]) -> str:
    more = len(agents) - _SHOWN
    return ", ".join(agent.agent_id for agent in agents[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
