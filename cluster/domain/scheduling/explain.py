"""Why a task is not running, and what would change that.

The shard gives what it knows (``TaskView``), the registry gives the agents, and ``explain`` turns both into reasons. An
explanation decides nothing, and may be out of date when it is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.domain.agents.agent import Agent
from cluster.domain.agents.breaker import Breaker
from cluster.domain.budgets.accounts import Account
from cluster.domain.residency import AwayRegion
from cluster.domain.scheduling.agent_reasons import Reason, able_agents, claims_leave_out
from cluster.domain.scheduling.budget_reasons import budget_reasons
from cluster.domain.scheduling.last_claims import LeftOut
from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.scheduling.ready_queue import AGEING_S, QueuePosition, ReadyQueue
from cluster.domain.scheduling.sticky_keys import waits_until
from cluster.domain.scheduling.sub_queues import LEVELS
from cluster.domain.tasks.task import Priority, TaskDetail, TaskHead, TaskStatus

#: Tasks that one sentence names.
NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """What a shard knows of a task. ``paused_by`` are the controls that pause it, ``rate`` the control that limits its queue,
    ``slot_holders`` the running tasks that take all slots of its concurrency key, ``waits_for`` the tasks that must end
    first, ``left_out`` the agents whose claims leave it out, with what they name instead, ``versions`` those that announce
    versions, with these. ``suspended``: nothing starts in its workspace. ``sticky_agent``: the agent that holds its sticky key
    and that it waits for. ``replayed_as`` is the task that a dead one was submitted again as; ``purged``: it left the dead
    letter for good. ``budgets`` are the accounts that have no room for it, those of agents too. ``running_quota``: how many tasks
    of its workspace may run, if so many do. ``is_near``: an agent of the regions that it prefers is there."""

    head: TaskHead
    position: QueuePosition | None = None
    paused_by: tuple[Control, ...] = ()
    rate: Control | None = None
    rate_ready_at: float | None = None
    slot_holders: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    lease_expires_at: float | None = None
    left_out: LeftOut = field(default_factory=dict)
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    suspended: bool = False
    sticky_agent: str | None = None
    replayed_as: str | None = None
    purged: bool = False
    budgets: tuple[Account, ...] = ()
    running_quota: int | None = None
    is_near: bool = True


def waiting_view(
    head: TaskHead,
    queue: ReadyQueue,
    waits_for: tuple[str, ...],
    left_out: LeftOut,
    versions: Mapping[str, tuple[str, ...]],
    now: float,
) -> TaskView:
    """The view of a task that waits, with the controls and slots that concern it."""
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
        position=queue.position_of(head, now),
        paused_by=tuple(control for control in controls if control.paused),
        rate=None if bucket is None else limits.get(workspace, ControlKind.QUEUE, head.queue),
        rate_ready_at=None if bucket is None else bucket.ready_at(now),
        slot_holders=limits.slot_holders(workspace, key) if full and key is not None else (),
        waits_for=waits_for,
        left_out=left_out,
        versions=versions,
        suspended=limits.is_closed(workspace),
        budgets=tuple(queue.accounts.keeping(workspace, head.task_type, now)),
        running_quota=queue.running.limit(workspace) if queue.running.is_full(workspace) else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """``able_agents`` are the agents that may have the task, whether or not they could take it now."""

    head: TaskHead
    summary: str
    reasons: tuple[Reason, ...] = ()
    position: QueuePosition | None = None
    able_agents: tuple[str, ...] = field(default=())


def explain(
    view: TaskView,
    agents: Sequence[Agent],
    breakers: Mapping[str, Breaker],
    now: float,
    without_actor: Collection[str] = frozenset(),
) -> Explanation:
    """Why a task does not run, the first reason first. ``agents`` are those of the task's workspace, ``breakers`` theirs by
    agent id, ``without_actor`` the ids of the dedicated ones whose own actor does not run."""
    head = view.head
    if head.status.terminal:
        return _ended(view)
    if head.status is TaskStatus.RUNNING:
        return _running(view)
    if head.detail is TaskDetail.INPUT_REQUIRED:
        return _asking(head)
    if head.detail is TaskDetail.WAITING_CHILDREN:
        return _parked(view)
    reasons = [*_time_and_order(view, now), *_limits(view, now), *_sticky(view, now)]
    able, agent_reasons = able_agents(
        head, agents, now, breakers, view.versions, view.sticky_agent, is_near=view.is_near
    )
    if able and not agent_reasons and all(agent_id in without_actor for agent_id in able):
        agent_reasons = [_no_node([agent for agent in agents if agent.agent_id in able])]
    if head.detail is not TaskDetail.BLOCKED:
        reasons += budget_reasons(view.budgets, able)
        reasons += agent_reasons + claims_leave_out(head, able, view.left_out)
        if not reasons and view.position is not None:
            reasons.append(_fairness(view.position, head.tenant))
    summary = reasons[0].message if reasons else "The task may start; the scheduler has not offered it yet."
    return Explanation(
        head=head, summary=summary, reasons=tuple(reasons), position=view.position, able_agents=tuple(able)
    )


def explain_away(head: TaskHead, away: AwayRegion) -> Explanation:
    """Why a task does not run, at a region that follows another one which is away: it knows no more than the task's row."""
    if head.status.terminal:
        return _ended(TaskView(head=head))
    unblock = "It comes back, or another region takes over: aragora-cp region status"
    reason = Reason(code="waiting_region", message=away.message, unblock=unblock)
    return Explanation(head=head, summary=reason.message, reasons=(reason,))


def _ended(view: TaskView) -> Explanation:
    head = view.head
    summary = f"The task has ended: {head.detail.value}."
    if head.detail not in (TaskDetail.DEAD_LETTERED, TaskDetail.TIMEOUT) or head.asking is not None:
        return Explanation(head=head, summary=summary)
    if head.detail is TaskDetail.TIMEOUT:
        code, message = "timed_out", f"A time limit ended it in attempt {head.attempt}."
        if head.attempt == 0:
            message = "A time limit ended it before an agent took it."
    else:
        code = "attempts_exhausted"
        message = (
            f"Its last attempt, number {head.attempt}, failed, and all of its {head.max_retries} retries are used."
        )
    done, unblock = _after_the_end(view)
    return Explanation(
        head=head, summary=summary, reasons=(Reason(code=code, message=message + done, unblock=unblock),)
    )


def _after_the_end(view: TaskView) -> tuple[str, str]:
    """What was done with a dead task already, and what can be done: it is replayed once, and never after a purge."""
    if view.replayed_as is not None:
        return (
            f" It was replayed as {view.replayed_as}.",
            f"Look at the new task: aragora-cp tasks explain {view.replayed_as}",
        )
    if view.purged:
        return " It was purged, so it cannot be replayed.", "Submit a new task."
    return "", f"Replay it: aragora-cp dlq replay {view.head.id}"


def _running(view: TaskView) -> Explanation:
    head = view.head
    if head.detail is TaskDetail.CANCELLING:
        reason = Reason(
            code="cancelling",
            message=f"Agent {head.assigned_agent} was asked to stop.",
            unblock="It stops, or its lease is revoked at the end of the grace.",
        )
    else:
        reason = Reason(
            code="running",
            message=f"Agent {head.assigned_agent} is running attempt {head.attempt}.",
            unblock="It reports, or it sends no heartbeat and its lease expires.",
            at=view.lease_expires_at,
        )
    return Explanation(head=head, summary=reason.message, reasons=(reason,))


def _asking(head: TaskHead) -> Explanation:
    """It waits for people. No agent can have it meanwhile, so nothing else matters."""
    until, has_default = None, False
    if head.asking is not None:
        until, has_default = head.asking.until(head.run_at), head.asking.has_default
    unblock = f"Somebody answers it: aragora-cp questions show {head.id}"
    if until is not None:
        unblock += ". When its time is over, " + ("its default answer applies." if has_default else "the task fails.")
    reason = Reason(
        code="input_required", message="It waits until a person answers its question.", unblock=unblock, at=until
    )
    return Explanation(head=head, summary=reason.message, reasons=(reason,))


def _parked(view: TaskView) -> Explanation:
    """It waits for its children, of which ``waits_for`` are those that have not ended."""
    left, total = view.waits_for, len(view.head.children)
    some = ", ".join(left[:NAMED]) + (", …" if len(left) > NAMED else "")
    reason = Reason(
        code="waiting_children",
        message=f"It waits for {len(left)} of its {total} children: {some}.",
        unblock=f"They end: aragora-cp tasks explain {left[0]}" if left else "The scheduler learns how they ended.",
    )
    return Explanation(head=view.head, summary=reason.message, reasons=(reason,))


def _time_and_order(view: TaskView, now: float) -> list[Reason]:
    head, reasons = view.head, []
    if view.waits_for:
        names = ", ".join(view.waits_for)
        reasons.append(
            Reason(code="blocked", message=f"It runs after tasks that have not ended: {names}.", unblock="They end.")
        )
    if head.run_at > now:
        retrying = head.detail is TaskDetail.RETRYING
        what = "It is delayed"
        if retrying:
            what = f"Attempt {head.attempt} failed (retry {head.retries} of {head.max_retries}); the next one is backing off"
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
    if view.suspended:
        reasons.append(
            Reason(
                code="workspace_suspended",
                message=f"The workspace {view.head.workspace} is suspended, so nothing starts in it.",
                unblock=f"An administrator resumes it: aragora-cp workspaces resume {view.head.workspace}",
            )
        )
    for control in view.paused_by:
        what = f"{control.kind.value.replace('_', ' ')} {control.name}"
        reasons.append(
            Reason(
                code="paused",
                message=f"The {what} was paused by {control.principal or 'an operator'}.",
                unblock=f"Resume it: aragora-cp queue resume {control.name} --kind {control.kind.value}",
            )
        )
    if view.running_quota is not None:
        reasons.append(
            Reason(
                code="quota",
                message=f"{view.running_quota} tasks of the workspace {view.head.workspace} run, which is its quota "
                "running_tasks.",
                unblock="One of them ends, or the quota is raised: aragora-cp quotas set --running-tasks NUMBER",
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
        slot_holders = ", ".join(view.slot_holders)
        reasons.append(
            Reason(
                code="concurrency",
                message=f"{len(view.slot_holders)} of {rules.concurrency_limit} slots of key {rules.concurrency_key} "
                f"are taken by {slot_holders}.",
                unblock="One of them ends.",
            )
        )
    return reasons


def _sticky(view: TaskView, now: float) -> list[Reason]:
    agent_id, rules, until = view.sticky_agent, view.head.rules, waits_until(view.head)
    if agent_id is None or rules is None:
        return []
    message = f"It waits for agent {agent_id}, which had the last task of sticky key {rules.sticky_key}, for another "
    return [
        Reason(
            code="sticky_key",
            message=f"{message}{max(0.0, until - now):.1f} s.",
            unblock=f"Agent {agent_id} claims it. Anybody may have it when that time is over, or {agent_id} is full or away.",
            at=until,
        )
    ]


def _no_node(agents: Sequence[Agent]) -> Reason:
    """No agent that may have the task has its own actor running."""
    names = ", ".join(agent.agent_id for agent in agents[:5]) + (", …" if len(agents) > 5 else "")
    needs = agents[0].dedicated
    words = needs.words if needs is not None else "what it needs"
    return Reason(
        code="waiting_for_node",
        message=f"The actor of {names} does not run: it is being started, or it waits for a node that has {words} free.",
        unblock=f"Add a node that has {words} free, or register {agents[0].agent_id} again with what a node has.",
    )


def _fairness(position: QueuePosition, tenant: str) -> Reason:
    level = Priority(LEVELS[position.effective_level]).wire_name
    others = ""
    if position.dispatches_behind > 0:
        others = f" Other tenants come first: {tenant} has {position.share:.0%} of the dispatches."
    return Reason(
        code="waiting_for_turn",
        message=f"{position.ahead} tasks of its own queue are ahead of it; it is served as {level}.{others}",
        unblock=f"Agents claim those ahead of it; it rises one level per {AGEING_S:g} s of waiting, up to urgent.",
    )
