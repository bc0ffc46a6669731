"""What happens to the open tasks of a shard: the effects of their steps on its tables, down to whom the end of one task frees or
ends.

Every event goes through ``happens``, or through ``step`` and then ``carry_out``. What follows from an event has happened when
it returns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.log import SYSTEM
from cluster.domain.scheduling.answers import AnsweredClaim, Grant
from cluster.domain.scheduling.lease_table import key_of
from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.scheduling.spending import with_entry
from cluster.domain.scheduling.sticky_keys import StickyOver, waits_until
from cluster.domain.scheduling.tables import Tables
from cluster.domain.scheduling.timers import ChildrenEnd, QueuesOpen, WorkspaceTasksEnd
from cluster.domain.scheduling.waiting_claims import Waiting
from cluster.domain.scheduling.workspace_ends import ENDED_APART_S, ENDED_AT_ONCE
from cluster.domain.tasks.effects import (
    AwaitAnswer,
    AwaitChildren,
    Dequeue,
    Effect,
    EndLease,
    Enqueue,
    StartGrace,
    StartLease,
    Transition,
)
from cluster.domain.tasks.events import (
    CancelDelivered,
    CancelGraceOver,
    CancelRequested,
    DependencyFailed,
    Event,
    InputTimedOut,
    LeaseExpired,
    QueueTimedOut,
    RunAtReached,
    RunTimedOut,
    TotalTimedOut,
    Unblocked,
)
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.rules import PREFERENCE_S, Affinity, Edge, WhenFailed
from cluster.domain.tasks.task import TaskDecision, TaskDetail, TaskHead, TaskStatus


class OpenTasks:
    """It alone changes which tasks are open, and what is known of each. ``policy`` is handed to every ``step``: backoffs, and how
    long a holder has to stop."""

    def __init__(self, tables: Tables, policy: RetryPolicy) -> None:
        self._policy = policy
        # What each of them holds is in ``Tables``. They are fields of this object too, since every claim and report reads them.
        self._open = tables.open
        self._queue = tables.queue
        self._leases = tables.leases
        self._sticky = tables.sticky
        self._cancellations = tables.cancellations
        self._dependencies = tables.dependencies
        self._families = tables.families
        self._waiting = tables.waiting
        self._timers = tables.timers
        self._workspace_ends = tables.workspace_ends
        # True while ``settle`` runs. A task that it ends does not call it again: recursion would be as
        # deep as a chain of tasks is long.
        self._settling = False
        # Decisions since the last ``take_output``, in the order in which they must be committed.
        self._decisions: list[TaskDecision] = []
        # Waiting claims answered since the last ``take_output``. Their grants rest on decisions.
        self._answered: list[AnsweredClaim] = []
        # One object for each distinct set of required capabilities, shared by all heads that have it: a million tasks have few
        # sets. Only grows; a new core starts without.
        self._sets: dict[frozenset[str], frozenset[str]] = {}

    def add(self, head: TaskHead, now: float) -> None:
        """Adds a task of the store or the log. Equal texts and sets become one object: that is most of a shard's memory."""
        required = self._sets.setdefault(head.required, head.required)
        head = replace(
            head,
            workspace=sys.intern(head.workspace),
            task_type=sys.intern(head.task_type),
            queue=sys.intern(head.queue),
            required=required,
            run_at=head.created_at if head.run_at == head.created_at else head.run_at,
        )
        self._open[head.id] = head
        self._families.add(head, self._open)
        if head.rules is not None and head.rules.total_timeout_s is not None:
            self._timers.arm(head.created_at + head.rules.total_timeout_s, TotalTimedOut, head.id)
        if head.detail is TaskDetail.BLOCKED:
            assert head.rules is not None, "only rules block"
            self._dependencies.wait(head.id, head.workspace, head.rules.after, self._open)
        elif head.detail is TaskDetail.INPUT_REQUIRED:
            assert head.asking is not None, "what waits for people asks them"
            self._await_answer(head, head, AwaitAnswer(until=head.asking.until(head.run_at)), now)
        elif head.detail is TaskDetail.WAITING_CHILDREN:
            self._await_children(head, head, AwaitChildren(), now)
        elif head.status is TaskStatus.PENDING:
            self._enqueue(head, head.run_at, now)
        else:
            self._acquire(head, now)
            self._leases.loaded(head.id)
            if head.detail is TaskDetail.CANCELLING:
                self._request_cancel(head, now + self._policy.cancel_grace_s, now)

    def happens(self, head: TaskHead, event: Event, now: float) -> TaskHead:
        """Lets an event happen to a task, and returns the new head."""
        return self.carry_out(head, step(head, event, now, self._policy), now)

    def carry_out(self, head: TaskHead, transition: Transition, now: float, cost_nanos: int | None = None) -> TaskHead:
        """Applies a transition to memory: the new head, its decision and its effects. Returns the new head. ``cost_nanos``: what
        the attempt that it ends has cost, in nano-dollars, if its holder said so."""
        new = transition.head
        if new is not head:
            self._open[head.id] = new
        decision = transition.decision
        if decision is not None and self._queue.accounts:
            decision = with_entry(self._queue.accounts, head, transition, cost_nanos)
        if decision is not None:
            self._decisions.append(decision)
        for effect in transition.effects:
            _EFFECTS[type(effect)](self, head, new, effect, now)
        if new.status.terminal:
            self._end(head, new, "" if decision is None else decision.record.cause, now)
        return new

    def _dequeue(self, head: TaskHead, new: TaskHead, effect: Dequeue, now: float) -> None:
        self._queue.discard(head.id)
        self._sticky.leave(head.id)

    def _queue_again(self, head: TaskHead, new: TaskHead, effect: Enqueue, now: float) -> None:
        self._enqueue(new, effect.not_before, now)

    def _start_lease(self, head: TaskHead, new: TaskHead, effect: StartLease, now: float) -> None:
        self._acquire(new, now)

    def _end_lease(self, head: TaskHead, new: TaskHead, effect: EndLease, now: float) -> None:
        self._release(head)
        if not new.status.terminal:
            self._sticky.give_up(head)

    def _start_grace(self, head: TaskHead, new: TaskHead, effect: StartGrace, now: float) -> None:
        self._request_cancel(new, effect.until, now)

    def _await_answer(self, head: TaskHead, new: TaskHead, effect: AwaitAnswer, now: float) -> None:
        if effect.until is not None:
            self.arm(effect.until, InputTimedOut, new)

    def _await_children(self, head: TaskHead, new: TaskHead, effect: AwaitChildren, now: float) -> None:
        edges = [Edge(after=child, when_failed=WhenFailed.RUN_ANYWAY) for child in new.children]
        self._dependencies.wait(new.id, new.workspace, edges, self._open)

    def _end(self, head: TaskHead, new: TaskHead, cause: str, now: float) -> None:
        self._open.pop(head.id, None)
        if head.detail in (TaskDetail.BLOCKED, TaskDetail.WAITING_CHILDREN):
            self._dependencies.forget(head.id)
        self._dependencies.ends(head.id, new.status, cause)
        self._families.leave(head)
        self._families.ends(head.id, new.status, cause)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Frees or fails the dependents of ended tasks, and ends some of their children. A loop and not a recursion, because a
        chain of tasks may be long."""
        if self._settling:
            return
        self._settling = True
        self._settle_dependents(now)
        for _ in range(ENDED_AT_ONCE):
            child = self._families.next_child()
            if child is None:
                break
            self._end_child(*child, now)
            self._settle_dependents(now)
        self._settling = False
        if self._families.has_more:
            self._timers.arm(now + ENDED_APART_S, ChildrenEnd, "")

    def _end_child(self, task_id: str, cause: str, now: float) -> None:
        """Cancels a child of a task that has ended without a result. Its holder gets the usual time to stop."""
        head = self._open.get(task_id)
        if head is not None and head.detail is not TaskDetail.CANCELLING:
            self.happens(head, CancelRequested(principal=SYSTEM, parent_ended=True, cause=cause), now)

    def _settle_dependents(self, now: float) -> None:
        while (end := self._dependencies.next_end()) is not None:
            after, status, cause = end
            for settled in self._dependencies.ended(after, status):
                head = self._open[settled.task_id]
                event = (
                    DependencyFailed(after=after, status=status, cause=cause)
                    if settled.failed
                    else Unblocked(cause=cause)
                )
                self.happens(head, event, now)

    def _enqueue(self, head: TaskHead, not_before: float, now: float) -> None:
        """Puts a task into the ready queue, or arms a timer for it if its time has not come."""
        if not_before > now:
            self.arm(not_before, RunAtReached, head)
            return
        sticky_agent = None if head.rules is None else self._sticky.bind(head, now)
        self._waiting.became_ready(self._queue.push(head, sticky_agent))
        if sticky_agent is not None:
            self.arm(waits_until(head), StickyOver, head)
        if head.rules is not None:
            self._enqueued_with_rules(head, now)

    def _enqueued_with_rules(self, head: TaskHead, now: float) -> None:
        """Arms the timers that a task's rules ask for."""
        rules = head.rules
        assert rules is not None
        since = max(head.created_at, head.run_at) if head.attempt == 0 else now
        if rules.queue_timeout_s is not None:
            self.arm(since + rules.queue_timeout_s, QueueTimedOut, head)
        if rules.affinity is Affinity.PREFERRED:
            self._timers.arm(max(head.created_at, head.run_at) + PREFERENCE_S, QueuesOpen, head.workspace)

    def free(self, task_ids: Iterable[str]) -> None:
        """Offers tasks to anybody that waited for the agent which holds their sticky key."""
        for task_id in task_ids:
            self._waiting.became_ready(self._queue.push(self._open[task_id]))

    def arm(self, at: float, kind: type[Event], head: TaskHead) -> None:
        self._timers.arm(at, kind, head.id, head.attempt)

    # --- leases -------------------------------------------------------------------------------------------------

    def _acquire(self, head: TaskHead, now: float) -> None:
        self._leases.acquire(head, now)
        self._queue.running.started(head.workspace)
        self.arm(self._leases.expires_at(head), LeaseExpired, head)
        started = now if head.started_at is None else head.started_at
        self.arm(started + head.timeout_s, RunTimedOut, head)
        if head.rules is not None and head.rules.concurrency_key is not None:
            self._queue.limits.acquire(head.workspace, head.rules.concurrency_key, head.id)
        self._sticky.hold(head)
        self.free(self._sticky.excess(key_of(head)))

    def _release(self, head: TaskHead) -> None:
        rules = head.rules
        if rules is not None and rules.concurrency_key is not None:
            self._queue.limits.release(head.workspace, rules.concurrency_key, head.id)
            self._queue.slot_free(head.workspace, rules.concurrency_key)
        self._queue.running.ended(head.workspace)
        if self._leases.release(head):
            self._waiting.may_ask(key_of(head))
        self._cancellations.forget(head)

    def _request_cancel(self, head: TaskHead, until: float, now: float) -> None:
        """Asks the holder of a running task to stop. It is told by the answer to its next heartbeat or claim; if a claim of
        its agent waits, that is answered now."""
        self.arm(until, CancelGraceOver, head)
        self._cancellations.ask(key_of(head), head.id)
        self.ask_again(key_of(head), now)

    # --- workspaces ---------------------------------------------------------------------------------------------

    def end_workspace(self, workspace: str, now: float) -> None:
        """Begins to end the tasks of a deleted workspace."""
        self._workspace_ends.put(workspace, self._open.values())
        self.end_some(workspace, now)

    def end_some(self, workspace: str, now: float) -> None:
        """Cancels some tasks of a deleted workspace, and arms a timer for the rest. Whoever runs one of them cannot report any
        more, so nobody gets time to stop."""
        principal, cause = self._workspace_ends.ended_by(workspace)
        task_ids, more = self._workspace_ends.take(workspace)
        for task_id in task_ids:
            head = self._open.get(task_id)  # one may have ended as the dependent of another
            if head is not None and head.detail is not TaskDetail.CANCELLING:
                head = self.happens(head, CancelRequested(principal=principal, cause=cause), now)
            if head is not None and head.detail is TaskDetail.CANCELLING:
                self.happens(head, CancelGraceOver(cause=cause), now)
        if more:
            self._timers.arm(now + ENDED_APART_S, WorkspaceTasksEnd, workspace)

    # --- tasks to stop ------------------------------------------------------------------------------------------

    def stopping(self, agent: AgentKey, now: float) -> tuple[str, ...]:
        """Ids of tasks that the agent should stop. The caller must put them into its answer: they count as told from now on."""
        stopping = self._cancellations.of(agent)
        for task_id in stopping:
            self.tell(self._open[task_id], now)
        return stopping

    def tell(self, head: TaskHead, now: float) -> None:
        """Notes, at the first time, that the holder is told to stop."""
        if self._cancellations.tell(head):
            self.happens(head, CancelDelivered(), now)

    def ask_again(self, key: AgentKey, now: float) -> None:
        """Answers an agent's waiting claims without leases, so that it reads what to stop, or asks again as what it is now."""
        for waiting in self._waiting.take_agent(key):
            self.answer(waiting, (), now)

    def answer(self, waiting: Waiting, grants: tuple[Grant, ...], now: float) -> None:
        """Answers a waiting claim: with leases, with tasks to stop, or with neither, so that its agent asks again."""
        self._waiting.withdraw(waiting.ticket)
        stopping = self.stopping(waiting.request.agent, now)
        self._answered.append(AnsweredClaim(ticket=waiting.ticket, grants=grants, stopping=stopping))

    # --- what goes out ------------------------------------------------------------------------------------------

    def take_output(self) -> tuple[list[TaskDecision], list[AnsweredClaim]]:
        """The decisions and the answers to waiting claims since the last call. The answers may be given only when the decisions
        are durable."""
        decisions, self._decisions = self._decisions, []
        answered, self._answered = self._answered, []
        return decisions, answered


#: How each effect of a step changes memory: the heads before and after the step, the effect, and when it happened.
_EFFECTS: Final[Mapping[type[Effect], Callable[[OpenTasks, TaskHead, TaskHead, Any, float], None]]] = {
    Dequeue: OpenTasks._dequeue,
    Enqueue: OpenTasks._queue_again,
    StartLease: OpenTasks._start_lease,
    EndLease: OpenTasks._end_lease,
    StartGrace: OpenTasks._start_grace,
    AwaitAnswer: OpenTasks._await_answer,
    AwaitChildren: OpenTasks._await_children,
}
