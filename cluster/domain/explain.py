"""Why a task is not running, and what would change that.

A shard gives what it sees (``TaskView``), the registry gives the agents; ``explain`` turns both into reasons. It reads
and decides nothing, so an explanation is as right as the moment it was made in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.domain.agents import Agent
from cluster.domain.limits import Control, ControlKind
from cluster.domain.queue import AGEING_S, LEVELS, ReadyQueue, Standing
from cluster.domain.task_rules import PREFERENCE_S, Affinity
from cluster.domain.tasks import Priority, TaskDetail, TaskHead, TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """A task as its shard sees it. ``paused_by`` and ``rate`` are settings that hold it up, ``slot_holders`` the
    running tasks that fill its concurrency key, ``waits_for`` the tasks that must end first."""

    head: TaskHead
    standing: Standing | None = None
    paused_by: tuple[Control, ...] = ()
    rate: Control | None = None
    rate_ready_at: float | None = None
    slot_holders: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    lease_expires_at: float | None = None


def waiting_view(head: TaskHead, queue: ReadyQueue, waits_for: tuple[str, ...], now: float) -> TaskView:
    """A task that waits, with the settings and slots that concern it."""
    limits, rules, workspace = queue.limits, head.rules, head.workspace
    names = (
        (ControlKind.QUEUE, head.queue),
        (ControlKind.TASK_TYPE, head.task_type),
        (ControlKind.TENANT, head.tenant),
    )
    controls = [control for kind, name in names if (control := limits.get(workspace, kind, name)) is not None]
    bucket = limits.bucket(workspace, head.queue)
    key = None if rules is None else rules.concurrency_key
    full = rules is not None and key is not None and limits.is_full(workspace, key, rules.concurrency_limit)
    return TaskView(
        head=head,
        standing=queue.standing(head, now),
        paused_by=tuple(control for control in controls if control.paused),
        rate=None if bucket is None else limits.get(workspace, ControlKind.QUEUE, head.queue),
        rate_ready_at=None if bucket is None else bucket.ready_at(now),
        slot_holders=limits.holders(workspace, key) if full and key is not None else (),
        waits_for=waits_for,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """``unblock`` says what would let the task go on; ``at`` when that happens by itself (epoch seconds)."""

    code: str
    message: str
    unblock: str
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    head: TaskHead
    summary: str
    reasons: tuple[Reason, ...] = ()
    standing: Standing | None = None
    able_agents: tuple[str, ...] = field(default=())


def explain(view: TaskView, agents: Sequence[Agent], now: float) -> Explanation:
    """``agents`` are those of the task's workspace."""
    head = view.head
    if head.status.terminal:
        return Explanation(head=head, summary=f"The task has ended: {head.detail.value}.")
    if head.status is TaskStatus.RUNNING:
        return _running(view)
    reasons = [*_time_and_order(view, now), *_limits(view, now)]
    able, agent_reasons = _agents(head, agents, now)
    if head.detail is not TaskDetail.BLOCKED:
        reasons += agent_reasons
        if not reasons and view.standing is not None:
            reasons.append(_turn(view.standing))
    summary = reasons[0].message if reasons else "The task may start; the scheduler has not offered it yet."
    return Explanation(
        head=head, summary=summary, reasons=tuple(reasons), standing=view.standing, able_agents=tuple(able)
    )


def _running(view: TaskView) -> Explanation:
    head = view.head
    if head.detail is TaskDetail.CANCELLING:
        reason = Reason(
            code="cancelling",
            message=f"Agent {head.assigned_agent} was asked to stop.",
            unblock="It stops, or its lease is revoked when the grace is over.",
        )
    else:
        reason = Reason(
            code="running",
            message=f"Agent {head.assigned_agent} is running attempt {head.attempt}.",
            unblock="It reports, or its lease expires without a sign of life.",
            at=view.lease_expires_at,
        )
    return Explanation(head=head, summary=reason.message, reasons=(reason,))


def _time_and_order(view: TaskView, now: float) -> list[Reason]:
    head, reasons = view.head, []
    if view.waits_for:
        names = ", ".join(view.waits_for)
        reasons.append(
            Reason(code="blocked", message=f"It runs after tasks that have not ended: {names}.", unblock="They end.")
        )
    if head.run_at > now:
        retrying = head.detail is TaskDetail.RETRYING
        what = f"Attempt {head.attempt} failed and the next one is backing off" if retrying else "It is delayed"
        reasons.append(
            Reason(
                code="retrying" if retrying else "delayed",
                message=f"{what} for another {head.run_at - now:.1f} s.",
                unblock="Its time comes.",
                at=head.run_at,
            )
        )
    return reasons


def _limits(view: TaskView, now: float) -> list[Reason]:
    reasons = []
    for control in view.paused_by:
        what = f"{control.kind.value.replace('_', ' ')} {control.name}"
        reasons.append(
            Reason(
                code="paused",
                message=f"The {what} was paused by {control.principal or 'an operator'}.",
                unblock=f"Resume it: aragora-cp queue resume {control.name} --kind {control.kind.value}",
            )
        )
    if view.rate is not None and view.rate_ready_at is not None and view.rate_ready_at > now:
        reasons.append(
            Reason(
                code="rate_limited",
                message=f"Queue {view.rate.name} starts at most {view.rate.rate_per_s:g} tasks a second.",
                unblock="The next token comes in, or the limit is raised.",
                at=view.rate_ready_at,
            )
        )
    rules = view.head.rules
    if view.slot_holders and rules is not None:
        holders = ", ".join(view.slot_holders)
        reasons.append(
            Reason(
                code="concurrency",
                message=f"{len(view.slot_holders)} of {rules.concurrency_limit} slots of key {rules.concurrency_key} "
                f"are taken by {holders}.",
                unblock="One of them ends.",
            )
        )
    return reasons


def _agents(head: TaskHead, agents: Sequence[Agent], now: float) -> tuple[list[str], list[Reason]]:
    """(agents that may have the task, what is wrong if there is none that could take it now)"""
    if head.target_agent is not None:
        agents = [agent for agent in agents if agent.agent_id == head.target_agent]
        if not agents:
            return [], [_missing(f"It is for agent {head.target_agent}, which is not registered.", "Register it.")]
    capable = [agent for agent in agents if head.required <= set(agent.capabilities)]
    if not capable:
        return [], [_incapable(head, agents)]
    allowed = [agent for agent in capable if _admitted(head, agent, now)]
    if not allowed:
        return [], [_not_admitted(head)]
    working = [agent for agent in allowed if agent.takes_work]
    names = [agent.agent_id for agent in allowed]
    if not working:
        states = ", ".join(f"{agent.agent_id} is {agent.status.value}" for agent in allowed[:5])
        return names, [_missing(f"No agent that may have it takes work: {states}.", "One of them comes back.")]
    if all(len(agent.running_task_ids) >= agent.max_concurrency for agent in working):
        return names, [
            Reason(
                code="agents_busy",
                message=f"All {len(working)} agents that may have it are busy.",
                unblock="One of them finishes a task, or another agent registers.",
            )
        ]
    return names, []


def _missing(message: str, unblock: str) -> Reason:
    return Reason(code="no_agent", message=message, unblock=unblock)


def _incapable(head: TaskHead, agents: Sequence[Agent]) -> Reason:
    names = ", ".join(sorted(head.required))
    message = f"No registered agent has {names}." if names else "No agent is registered."
    known = {name for agent in agents for name in agent.capabilities}
    lacking = ", ".join(sorted(head.required - known)) or names
    return Reason(
        code="no_capable_agent",
        message=message,
        unblock=f"Register an agent with {lacking}." if names else "Register an agent.",
    )


def _admitted(head: TaskHead, agent: Agent, now: float) -> bool:
    selection = None if head.rules is None else head.rules.selection()
    regions = frozenset((agent.region_id, *agent.available_regions))
    waited = now - max(head.created_at, head.run_at)
    return selection is None or selection.admits(agent.agent_id, regions, waited)


def _not_admitted(head: TaskHead) -> Reason:
    rules = head.rules
    assert rules is not None, "only rules refuse a capable agent"
    if rules.affinity is Affinity.ANY:
        return Reason(code="excluded", message="All capable agents are excluded.", unblock="Another agent registers.")
    regions = ", ".join(rules.regions)
    if rules.affinity is Affinity.PREFERRED:
        return Reason(
            code="region",
            message=f"Agents of {regions} have the first go.",
            unblock=f"One of them claims it, or it has waited {PREFERENCE_S:g} s.",
            at=max(head.created_at, head.run_at) + PREFERENCE_S,
        )
    return Reason(
        code="region", message=f"No capable agent is in {regions}.", unblock="An agent registers in one of them."
    )


def _turn(standing: Standing) -> Reason:
    level = Priority(LEVELS[standing.effective_level]).wire_name
    return Reason(
        code="waiting_for_turn",
        message=f"{standing.ahead} tasks of its own queue are ahead of it; it is served as {level}.",
        unblock=f"Agents claim those ahead of it; it rises one level per {AGEING_S:g} s of waiting, up to urgent.",
    )
