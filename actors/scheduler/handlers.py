"""How each kind of request is handled: one table, by the request's type.

A handler works in two steps, so that an error in the first leaves memory as it was. A third is for a task that memory does not
have: it gives the answer from the task as the store has it, if it has ended there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from actors.scheduler.state import Asker, ShardState
from actors.scheduler.unstorable import malformed
from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.base.json_values import check_json, check_text, read_json
from cluster.domain.scheduling.answers import ClaimAnswer, Done, HeartbeatAnswer, Recorded
from cluster.domain.scheduling.core import Missing
from cluster.domain.scheduling.explain import TaskView
from cluster.domain.scheduling.requests import (
    AnswerRequest,
    AskRequest,
    CancelRequest,
    ClaimRequest,
    ExplainRequest,
    ExtendRequest,
    HeartbeatRequest,
    ParkRequest,
    PrioritizeRequest,
    ReleaseRequest,
    ReportRequest,
    SchedulerRequest,
)
from cluster.domain.tasks.columns import check_claimant
from cluster.domain.tasks.effects import Transition
from cluster.domain.tasks.events import (
    Complete,
    Event,
    Fail,
    Prioritized,
)
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.progress import ProgressReport
from cluster.domain.tasks.refusals import LEASE_LOST
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import Priority, Task, TaskHead


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When and by whom something is asked. ``caught_up``: the newest rows of the log have been read for it."""

    asker: Asker
    now: float
    caught_up: bool


def _nothing(state: ShardState, request: Any, occasion: Occasion) -> None:
    """For requests of which nothing can be checked before memory is changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """``prepare`` checks a request as far as that is possible before memory is changed, and returns what ``change`` needs.
    ``change`` changes memory and returns the answer; None if the request waits now. ``ended`` is the answer about a task that has
    ended, as the store has it; None for a request about no one task. ``claims``: it is a claim, which may be withdrawn while it
    waits, and replaces older ones. ``reports``: it is a report, whose result the store may have refused before."""

    change: Callable[[ShardState, Any, Any, Occasion], Any]
    prepare: Callable[[ShardState, Any, Occasion], Any] = _nothing
    ended: Callable[[Any, Task, float, RetryPolicy], Any] | None = None
    claims: bool = False
    reports: bool = False


# --- claims -----------------------------------------------------------------------------------------------------------


def _check_claim(state: ShardState, claim: ClaimRequest, occasion: Occasion) -> None:
    """Raises `Missing` if memory contradicts the claim about its agent, or lacks tasks that the claim might get. A registration,
    a resume and a submit count from the moment that they are answered, also here, where their rows may not have been read
    yet."""
    if not occasion.caught_up:
        if state.core.doubts((claim.workspace, claim.agent_id), claim.unschedulable):
            raise Missing(f"The newest rows about agent {claim.agent_id} have not been read.", "agent_changed")
        # With tasks enough for it in memory, reading on first would only delay the claim. Tasks of others do not count: with a
        # backlog of theirs, an agent that submits three tasks and claims three got one.
        if state.follower.cursor < claim.after_seq and not state.core.can_satisfy(claim):
            raise Missing("The newest submits have not been read.", "submits_unread")
    check_claimant(claim.agent_id, claim.claim_id, claim.principal, claim.cause)


def _claim(state: ShardState, claim: ClaimRequest, prepared: None, occasion: Occasion) -> ClaimAnswer | None:
    if occasion.asker in state.by_caller:
        # It arrived twice, because its call was lost after it had arrived: it waits already, and gets one answer.
        return None
    ticket = next(state.numbers) if claim.wait else None
    grants = state.core.claim(claim, ticket, occasion.now)
    if grants is not None:
        return state.claim_answer(grants, state.core.stopping(claim.agent, occasion.now))
    assert ticket is not None
    state.await_claim(ticket, occasion.asker)
    return None


# --- leases -----------------------------------------------------------------------------------------------------------


def _heartbeat(state: ShardState, request: HeartbeatRequest, prepared: None, occasion: Occasion) -> HeartbeatAnswer:
    return HeartbeatAnswer(cancelling=tuple(state.core.heartbeat(request.agents, occasion.now, request.processes)))


def _release(state: ShardState, request: ReleaseRequest, prepared: None, occasion: Occasion) -> HeartbeatAnswer:
    state.release(request, occasion.now)
    return HeartbeatAnswer()


def _extend(state: ShardState, request: ExtendRequest, prepared: None, occasion: Occasion) -> Done | None:
    """The answer to an extension; None if it has to wait until what it reports is durable."""
    core, now = state.core, occasion.now
    expires_at = core.extend(request.task_id, request.workspace, request.attempt, request.agent_id, now)
    if expires_at is None:
        raise Conflict(
            f"You do not hold the lease on task {request.task_id}; drop this attempt and claim again.", "lease_lost"
        )
    done = Done(head=core.head(request.task_id), lease_expires_at=expires_at)
    if request.progress is None:
        return done
    report = ProgressReport(
        workspace=request.workspace,
        task_id=request.task_id,
        attempt=request.attempt,
        at=now,
        progress=request.progress,
    )
    state.progress.add(report, (*occasion.asker, done))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extension(Event):
    """Stands for an extension in an error's text; the task machine has no such event."""


_EXTENSION: Final = _Extension()


def _extend_ended(request: ExtendRequest, task: Task, now: float, policy: RetryPolicy) -> Done:
    raise LEASE_LOST.error(task.head(), _EXTENSION)


# --- explanations -----------------------------------------------------------------------------------------------------


def _view(state: ShardState, request: ExplainRequest, occasion: Occasion) -> TaskView:
    return state.core.view(request.task_id, request.workspace, occasion.now)


def _viewed(state: ShardState, request: ExplainRequest, view: TaskView, occasion: Occasion) -> TaskView:
    return view


def _view_ended(request: ExplainRequest, task: Task, now: float, policy: RetryPolicy) -> TaskView:
    return TaskView(head=task.head(), replayed_as=task.replayed_as, purged=task.purged_at is not None)


# --- what is asked of the task machine --------------------------------------------------------------------------------

Considered = tuple[TaskHead, Transition]
BringsEvent = ReportRequest | CancelRequest | AskRequest | ParkRequest | AnswerRequest


def _check_result(request: ReportRequest, event: Complete) -> None:
    if event.result_json is not None:
        (check_text if request.checked else read_json)(event.result_json, "result")


def _check_failure(request: ReportRequest, event: Fail) -> None:
    check_json(event.retry_after_s, "retry_after_seconds")


#: What is checked of a report, by its event.
_CHECKS: Final[Mapping[type[Event], Callable[[ReportRequest, Any], None]]] = MappingProxyType(
    {Complete: _check_result, Fail: _check_failure}
)


def _consider_report(state: ShardState, request: ReportRequest, occasion: Occasion) -> Considered:
    """Checks of a report what the columns of its decision do not show, and what that decision is made of. Results are long and
    many, so one that our own code has written (``checked``) is not parsed again."""
    if (check := _CHECKS.get(type(request.event))) is not None:
        check(request, request.event)
    return _consider(state, request, occasion)


def _consider_priority(state: ShardState, request: PrioritizeRequest, occasion: Occasion) -> Considered:
    priority = None if request.priority is None else Priority(request.priority)
    return state.core.consider_priority(
        request.task_id, request.workspace, request.principal, priority, request.position, occasion.now, request.cause
    )


def _consider(state: ShardState, request: BringsEvent, occasion: Occasion) -> Considered:
    return state.core.consider(request.task_id, request.workspace, request.event, occasion.now)


def _wait(
    state: ShardState, request: AskRequest | ParkRequest, considered: Considered, occasion: Occasion
) -> Done | None:
    """The answer to whoever asks or parks; None if it has to wait until the checkpoint is durable too, which comes first."""
    done = Done(head=state.core.carry_out(*considered, occasion.now, request.cost_nanos))
    if request.progress is None or considered[1].decision is None:
        return done
    report = ProgressReport(
        workspace=request.workspace,
        task_id=request.task_id,
        attempt=considered[0].attempt,
        at=occasion.now,
        progress=request.progress,
    )
    state.progress.add(report, (*occasion.asker, done))
    return None


def _change_task(state: ShardState, request: Any, considered: Considered, occasion: Occasion) -> Done:
    return Done(head=state.core.carry_out(*considered, occasion.now))


def _report(
    state: ShardState, request: ReportRequest, considered: Considered, occasion: Occasion
) -> Done | Recorded | InvalidRequest:
    state.reports[request.task_id] = request
    return _reported(request, state.core.carry_out(*considered, occasion.now, request.cost_nanos))


def _reported(request: ReportRequest, head: TaskHead) -> Done | Recorded | InvalidRequest:
    if request.unstorable:
        return malformed(request.task_id)
    return Recorded() if request.brief else Done(head=head)


def _report_ended(
    request: ReportRequest, task: Task, now: float, policy: RetryPolicy
) -> Done | Recorded | InvalidRequest:
    """A repeated report is answered as before, any other is refused."""
    return _reported(request, step(task.head(), request.event, now, policy).head)


def _ended(request: BringsEvent, task: Task, now: float, policy: RetryPolicy) -> Done:
    """The machine's answer, which is a refusal unless the request repeats."""
    return Done(head=step(task.head(), request.event, now, policy).head)


def _priority_ended(request: PrioritizeRequest, task: Task, now: float, policy: RetryPolicy) -> Done:
    event = Prioritized(principal=request.principal, cause=request.cause)  # only a waiting task has a position
    return Done(head=step(task.head(), event, now, policy).head)


HANDLERS: Final[Mapping[type[SchedulerRequest], Handler]] = MappingProxyType(
    {
        ClaimRequest: Handler(prepare=_check_claim, change=_claim, claims=True),
        HeartbeatRequest: Handler(change=_heartbeat),
        ExtendRequest: Handler(change=_extend, ended=_extend_ended),
        ReleaseRequest: Handler(change=_release),
        ExplainRequest: Handler(prepare=_view, change=_viewed, ended=_view_ended),
        ReportRequest: Handler(prepare=_consider_report, change=_report, ended=_report_ended, reports=True),
        CancelRequest: Handler(prepare=_consider, change=_change_task, ended=_ended),
        AskRequest: Handler(prepare=_consider, change=_wait, ended=_ended),
        ParkRequest: Handler(prepare=_consider, change=_wait, ended=_ended),
        AnswerRequest: Handler(prepare=_consider, change=_change_task, ended=_ended),
        PrioritizeRequest: Handler(prepare=_consider_priority, change=_change_task, ended=_priority_ended),
    }
)
