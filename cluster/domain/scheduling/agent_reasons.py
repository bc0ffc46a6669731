"""Which agents may have a waiting task, and why the others may not or cannot take it now.

``eligibility`` alone decides who may; this room has the words for each of its refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.domain.agents.agent import Agent, AgentStatus, Health, Intent, IntentBy
from cluster.domain.agents.breaker import Breaker
from cluster.domain.scheduling.eligibility import Profile, Refusal, demand_of, eligible, patience
from cluster.domain.scheduling.last_claims import LeftOut
from cluster.domain.tasks.rules import PREFERENCE_S
from cluster.domain.tasks.task import TaskHead

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a task does not run. ``unblock`` says what would let it run; ``at`` when that happens by itself (epoch seconds)."""

    code: str
    message: str
    unblock: str
    at: float | None = None


_INCAPABLE = (Refusal.TARGET, Refusal.CAPABILITIES, Refusal.EXPLICIT_ONLY)


def able_agents(
    head: TaskHead,
    agents: Sequence[Agent],
    now: float,
    breakers: Mapping[str, Breaker],
    versions: Mapping[str, tuple[str, ...]],
    sticky_agent: str | None,
    *,
    is_near: bool,
) -> tuple[list[str], list[Reason]]:
    """(ids of the agents that may have the task, reasons if none of them could take it now). ``breakers`` is by agent id, and so
    is ``versions``: those that an agent's claims announce, in place of the one that it registered. ``sticky_agent``: the agent
    that holds its sticky key and that it waits for. ``is_near``: an agent of the regions that it prefers is there."""
    if head.target_agent is not None:
        agents = [agent for agent in agents if agent.agent_id == head.target_agent]
        if not agents:
            return [], [_no_agent(f"It is for agent {head.target_agent}, which is not registered.", "Register it.")]
    demand, waited_s = demand_of(head, sticky_agent), patience(now - _since(head), is_near)
    found: dict[Refusal | None, list[Agent]] = {}
    for agent in agents:
        of_agent = versions.get(agent.agent_id, (agent.version,))
        refusals = [eligible(demand, _profile(agent, version), agent.agent_id, waited_s) for version in of_agent]
        found.setdefault(None if None in refusals else refusals[0], []).append(agent)
    if found.keys() <= set(_INCAPABLE):
        return [], [_incapable(head, agents)]
    barred = [_BARRED[refusal](head, found[refusal]) for refusal in _BARRED if refusal in found]
    allowed = found.get(None, [])
    if not allowed:
        return [], barred
    cannot = _cannot_now(allowed, breakers, now)
    return [agent.agent_id for agent in allowed], [*cannot, *barred] if cannot else []


def _profile(agent: Agent, version: str | None) -> Profile:
    """What the agent's claims take if they leave nothing out."""
    capabilities = frozenset(agent.capabilities)
    return Profile(agent.workspace, capabilities, agent.explicit_only, agent.regions, version=version)


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


def _since(head: TaskHead) -> float:
    return max(head.created_at, head.run_at)


def _excluded(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    message = f"The task excludes {_named(agents)}, which could do it."
    unblock = "Another agent that can do it registers, or the task is submitted anew without the exclusion."
    return Reason(code="excluded", message=message, unblock=unblock)


def _elsewhere(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    message = f"The task must run in {_regions(head)}; {_named(agents)} could do it elsewhere."
    return Reason(code="region", message=message, unblock=f"An agent registers in {_regions(head)}.")


def _elsewhere_yet(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    regions = _regions(head)
    message = f"Agents of {regions} come first; {_named(agents)} could do it elsewhere."
    unblock = f"An agent of {regions} claims it, none of them is there any more, or it has waited {PREFERENCE_S:g} s."
    return Reason(code="region", message=message, unblock=unblock, at=_since(head) + PREFERENCE_S)


def _other_version(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    versions = "" if head.rules is None else head.rules.worker_version
    return Reason(
        code="worker_version",
        message=f"It asks for a worker of version {versions}, which {_named(agents)} could do but for that.",
        unblock=f"A worker of version {versions} claims, which says so: aragora-cp worker run --version VERSION.",
    )


def _against_policy(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    policies = () if head.rules is None else head.rules.policies
    forbid = [
        bounds.policy_id
        for bounds in policies
        if any(bounds.refuses(agent.agent_id, agent.regions) for agent in agents)
    ]
    ids = ", ".join(forbid[:_SHOWN])
    return Reason(
        code="policy",
        message=f"Policy {ids} forbids {_named(agents)}, which could do it.",
        unblock="An agent that the policy allows registers, or the policy is changed and the task submitted anew.",
    )


def _regions(head: TaskHead) -> str:
    return "" if head.rules is None else ", ".join(head.rules.regions)


#: Why a task does not go to agents that have its capabilities, in the order in which it is told.
_BARRED: Final[Mapping[Refusal, Callable[[TaskHead, Sequence[Agent]], Reason]]] = {
    Refusal.EXCLUDED: _excluded,
    Refusal.REGION: _elsewhere,
    Refusal.PREFERRED_REGION: _elsewhere_yet,
    Refusal.VERSION: _other_version,
    Refusal.POLICY: _against_policy,
}


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


#: Refusal of a claim, and not of an agent → (the reason's code, the claim's field, what of the task it is about).
_LEFT_OUT: Final[Mapping[Refusal, tuple[str, str, Callable[[TaskHead], tuple[str, str]]]]] = {
    Refusal.TASK_TYPE: ("task_type", "task_types", lambda head: ("of type", head.task_type)),
    Refusal.QUEUE: ("queue_not_claimed", "queues", lambda head: ("of queue", head.queue)),
}


def claims_leave_out(head: TaskHead, able: Sequence[str], left_out: LeftOut) -> list[Reason]:
    """That no claim takes the task's type, or its queue, if that is so of every agent that may have the task."""
    reasons = []
    for refusal, (code, field_name, about) in _LEFT_OUT.items():
        others = left_out.get(refusal, {})
        if able and all(agent_id in others for agent_id in able):
            words, name = about(head)
            message = f"No claim takes tasks {words} {name}: {_claimed(others, able)}."
            unblock = f"An agent claims with {name} in {field_name}, or without {field_name}."
            reasons.append(Reason(code=code, message=message, unblock=unblock))
    return reasons


def _claimed(others: Mapping[str, Sequence[str]], able: Sequence[str]) -> str:
    shown = "; ".join(f"{agent_id} claims only {_listed(others[agent_id])}" for agent_id in able[:_SHOWN])
    return shown + (f"; and {len(able) - _SHOWN} more" if len(able) > _SHOWN else "")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
