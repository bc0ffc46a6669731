"""The core of a scheduler shard: open tasks, leases, waiting claims and timers. No clock, no I/O.

Every event changes memory at once. ``take_output`` then hands over the decisions, to be committed in order, and the answers
to waiting claims, which may be given only when those decisions are durable. A shard whose commit fails drops this object and
builds a new one from the store, so memory is ahead of the store by no more than the commits in flight.
"""

from __future__ import annotations

import dataclasses
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from cluster.domain.access.workspaces import StateChange, WorkspaceState
from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.base.ids import process_of
from cluster.domain.base.log import SYSTEM, LogRow, caused_by_row
from cluster.domain.budgets.accounts import Accounts, BudgetSums
from cluster.domain.budgets.budget import CHANGES as BUDGETS
from cluster.domain.budgets.budget import DELETED as BUDGET_DELETED
from cluster.domain.budgets.budget import Budget
from cluster.domain.budgets.entries import Reservation
from cluster.domain.quotas.quotas import CHANGES as QUOTAS
from cluster.domain.quotas.quotas import Quotas
from cluster.domain.scheduling.cancellations import PendingCancellations
from cluster.domain.scheduling.dependencies import Dependencies
from cluster.domain.scheduling.dispatch import Dispatch, QueuesOpen
from cluster.domain.scheduling.eligibility import Profile
from cluster.domain.scheduling.explain import TaskView, waiting_view
from cluster.domain.scheduling.families import Families
from cluster.domain.scheduling.last_claims import LastClaims
from cluster.domain.scheduling.lease_table import LeaseTable, key_of
from cluster.domain.scheduling.limits import Control
from cluster.domain.scheduling.ready_queue import ReadyQueue
from cluster.domain.scheduling.requests import AgentKey, AnsweredClaim, ClaimRequest, Grant
from cluster.domain.scheduling.spending import with_entry
from cluster.domain.scheduling.sticky_keys import StickyKeys, StickyOver, waits_until
from cluster.domain.scheduling.timers import ANY_ATTEMPT, Timers
from cluster.domain.scheduling.waiting_claims import WaitingClaims
from cluster.domain.scheduling.workspace_ends import ENDED_APART_S, ENDED_AT_ONCE, WorkspaceEnds
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
    AgentLost,
    CancelGraceOver,
    CancelRequested,
    DependencyFailed,
    Event,
    InputTimedOut,
    LeaseExpired,
    Prioritized,
    QueueTimedOut,
    Reporter,
    RunAtReached,
    RunTimedOut,
    TotalTimedOut,
    Unblocked,
    Undelivered,
)
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.rules import PREFERENCE_S, Affinity, Edge, WhenFailed
from cluster.domain.tasks.task import Priority, TaskDecision, TaskDetail, TaskHead, TaskStatus


class Missing(ControlPlaneError):
    """The task is not open here: it has ended, its log row has not been read yet, or it never existed. The shard finds out
    which, so callers of the shard do not see this error."""

    status = 404


class _WorkspaceEnds(Event):
    """The kind of a timer whose subject is a workspace that was deleted, and has open tasks left."""


class _ChildrenEnd(Event):
    """The kind of a timer for the children of ended tasks that are still to be ended."""


class SchedulerCore:
    """All of it is memory: whatever a field holds can be read again from the store, or may be lost.

    Leases end when their agent sends nothing (heartbeat, claim, report) for ``lease_ttl_s``. Those of a claim that names its
    process end when that process sends nothing, whatever other processes of the agent send.
    """

    #: Kinds of log rows that ``apply`` reads (matched by their beginnings). The shard's own decisions are not among them: they
    #: are in memory before they are rows.
    FOLLOWS = ("task.submitted", "agent.", "control.", "access.workspace_changed", *BUDGETS, *QUOTAS)

    def __init__(
        self, *, lease_ttl_s: float, policy: RetryPolicy | None = None, queue: ReadyQueue | None = None
    ) -> None:
        # Handed to every ``step``: backoffs, and how long a holder has to stop.
        self._policy = policy or RetryPolicy()
        # Pending tasks whose ``run_at`` has come and that are not blocked. The effects Enqueue and Dequeue and a claim's
        # ``take`` change it. Delayed tasks are in ``_timers`` only, blocked ones in ``_dependencies`` only.
        self._queue = ReadyQueue() if queue is None else queue
        # Task id → head of every task that has not ended, as of the last step, committed or not. ``_add`` adds, ``carry_out``
        # replaces, ``_end`` removes. Every entry of the queue, lease and pending cancellation is of a task in here.
        self._open: dict[str, TaskHead] = {}
        # The lease of every running task, by agent, and what is known of agents. StartLease and ``_add`` add, EndLease removes.
        self._leases = LeaseTable(lease_ttl_s)
        # Which agents hold sticky keys, and which tasks of the queue wait for them. StartLease and EndLease change who holds a
        # key; a task waits from ``_enqueue`` to Dequeue, or until ``_free``.
        self._sticky = StickyKeys(self._leases)
        # Running tasks that are being cancelled. StartGrace adds, EndLease removes.
        self._cancellations = PendingCancellations()
        # The edges of every blocked task, and of each that waits for its children. ``_add`` and AwaitChildren add; ``_settle``
        # removes those to a task that has ended, ``_end`` those of a waiting task that has ended itself.
        self._dependencies = Dependencies()
        # The children of every task that has open ones. ``_add`` adds, ``_end`` removes.
        self._families = Families()
        # True while ``_settle`` runs. A task that it ends does not call it again: recursion would be as
        # deep as a chain of tasks is long.
        self._settling = False
        # Claims that found nothing and wait (long polls), and what they are to be offered.
        self._waiting = WaitingClaims()
        # What agents' claims leave out, for explanations. The dispatch notes it, ``_agent_changed`` forgets it.
        self._last_claims = LastClaims()
        # Everything that time brings: ends of delays, leases, run times, graces, queue times and total times.
        self._timers = Timers()
        # Deleted workspaces, whose tasks it ends.
        self._workspace_ends = WorkspaceEnds()
        # Decisions since the last ``take_output``, in the order in which they must be committed.
        self._decisions: list[TaskDecision] = []
        # One object for each distinct set of required capabilities, shared by all heads that have it: a million tasks have few
        # sets. Only grows; a new core starts without.
        self._sets: dict[frozenset[str], frozenset[str]] = {}
        # Who gets which task: the part of the core that claims ask. It refers to the core weakly: in a cycle, a million heads of
        # a state that was dropped would stay until garbage is collected, beside those of the next one.
        core = weakref.proxy(self)
        self._dispatch = Dispatch(
            open_tasks=self._open,
            queue=self._queue,
            leases=self._leases,
            cancellations=self._cancellations,
            waiting=self._waiting,
            last_claims=self._last_claims,
            sticky=self._sticky,
            timers=self._timers,
            happens=lambda head, event, now: core._happens(head, event, now),
        )

    # --- what comes in ------------------------------------------------------------------------------------------

    def load_controls(self, controls: Iterable[Control], now: float) -> None:
        """Puts the stored controls in force. Comes before ``load``, so that tasks get into the right sub-queues."""
        for control in controls:
            self._dispatch.control(control, now)

    def load_budgets(
        self, budgets: Iterable[Budget], sums: Mapping[str, BudgetSums], reservations: Iterable[Reservation], now: float
    ) -> None:
        """Puts the stored budgets in force, with what is spent and reserved. Comes before ``load``, as controls do."""
        self.accounts.load(budgets, sums, reservations, now)

    def load_quotas(self, quotas: Iterable[Quotas]) -> None:
        """Puts the stored quotas in force. Comes before ``load``, as controls do."""
        for each in quotas:
            self._dispatch.quotas(each)

    @property
    def accounts(self) -> Accounts:
        """The budgets, with what is spent and reserved."""
        return self._queue.accounts

    def load_states(self, closed: Mapping[str, StateChange]) -> None:
        """Notes the workspaces that are not active. Comes before ``load``; then call ``end_deleted``."""
        for workspace, change in closed.items():
            self._note_state(workspace, change)

    def end_deleted(self, now: float) -> None:
        """Begins to end the tasks that deleted workspaces still have: a predecessor may not have come to that."""
        for workspace in self._workspace_ends.workspaces():
            self._end_workspace(workspace, now)

    def load(self, heads: Iterable[TaskHead], now: float) -> None:
        """Adds open tasks from the store. Leases get their full time again, since nobody took heartbeats while the shard was
        away."""
        for head in heads:
            self._add(head, now)

    def load_agents(self, unschedulable: Iterable[AgentKey]) -> None:
        """Notes the agents that get nothing new."""
        for key in unschedulable:
            self._leases.set_unschedulable(key, True)

    def loaded(self, generation: int) -> None:
        """Call it when all open tasks are loaded and before anything is dispatched: seeds the fairness between tenants."""
        self._queue.seed(generation)

    def apply(self, rows: Iterable[LogRow], now: float, *, unschedulable: Collection[AgentKey]) -> None:
        """Applies rows of the log: new tasks, agents that changed, controls, budgets and quotas.

        ``unschedulable`` holds those of the rows' agents that get nothing new. It must be read from the store after the rows,
        because a row does not say who paused an agent and whether that is over."""
        for row in rows:
            if row.kind == "task.submitted":
                if row.entity not in self._open:
                    head = TaskHead.from_log(row.entity, row.workspace, row.at, row.data)
                    self._add(head, now)
                    if self._workspace_ends.comes_late(head):
                        self._end_some(head.workspace, now)
            elif row.kind == "access.workspace_changed":
                self._state_changed(row, now)
            elif row.kind.startswith("agent."):
                self._agent_changed(row, (row.workspace, row.entity) in unschedulable, now)
            else:
                self._limit_changed(row, now)

    def _limit_changed(self, row: LogRow, now: float) -> None:
        """Puts a control, a budget or quotas in force, or takes a budget out of it."""
        if row.kind == BUDGET_DELETED:
            self._dispatch.remove_budget(row.workspace, row.entity)
        elif row.kind in BUDGETS:
            self._dispatch.budget(Budget.from_log(row.entity, row.workspace, row.at, row.principal, row.data), now)
        elif row.kind in QUOTAS:
            self._dispatch.quotas(Quotas.from_log(row.entity, row.at, row.principal, row.data))
        elif row.kind.startswith("control."):
            self._dispatch.control(Control.from_log(row.workspace, row.seq, row.at, row.principal, row.data), now)

    def claim(self, request: ClaimRequest, ticket: int | None, now: float) -> tuple[Grant, ...] | None:
        """``Dispatch.claim``. Raises: `NotFound` if the agent was deregistered."""
        return self._dispatch.claim(request, ticket, now)

    def can_satisfy(self, request: ClaimRequest) -> bool:
        """Whether newer tasks would change nothing for a claim: memory certainly has as many as it may get."""
        return self._dispatch.can_satisfy(request)

    def stopping(self, agent: AgentKey, now: float) -> tuple[str, ...]:
        """Ids of tasks that the agent should stop. The caller must put them into its answer: they count as told from now on."""
        return self._dispatch.stopping(agent, now)

    def doubts(self, agent: AgentKey, unschedulable: bool) -> bool:
        """Whether memory contradicts the asker, who found the agent registered, and schedulable unless ``unschedulable``. Then
        the rows that say so have not been read yet."""
        return self._leases.is_deregistered(agent) or (self._leases.is_unschedulable(agent) and not unschedulable)

    def withdraw(self, ticket: int) -> bool:
        """Removes a waiting claim; False if none waits under the ticket."""
        return self._waiting.withdraw(ticket)

    def consider(self, task_id: str, workspace: str, event: Event, now: float) -> tuple[TaskHead, Transition]:
        """What an event that somebody brings (a report, a cancellation) would do to a task. Pass both to ``carry_out`` at once.

        Two steps, so that an error in the first one leaves memory as it was: only the reporter's leases have been renewed.

        Raises: `Missing` if the task is not open; `Conflict` if its phase does not allow the event; `ImpossibleTransition` if
        the event cannot happen to it."""
        head = self._known(task_id, workspace)
        by = getattr(event, "by", None)
        if isinstance(by, Reporter) and by.agent_id is not None:
            # A report names no process. It can only come from the one whose lease it is about.
            self._leases.renew((workspace, by.agent_id), now, process_of(head.claim_id))
        return head, step(head, event, now, self._policy)

    def consider_priority(
        self,
        task_id: str,
        workspace: str,
        principal: str,
        priority: Priority | None,
        position: int | None,
        now: float,
        cause: str = "",
    ) -> tuple[TaskHead, Transition]:
        """``consider`` for a new priority or position. ``position`` counts from 1 the tasks of its sub-queue that have the same
        priority.

        Raises: `Missing` if the task is not open; `Conflict` if it is not waiting."""
        order_key = None
        head = self._known(task_id, workspace)
        if position is not None and head.status is TaskStatus.PENDING:
            moved = head if priority is None else replace(head, priority=int(priority))
            order_key = self._queue.order_key_at(moved, position)
        event = Prioritized(principal=principal, priority=priority, order_key=order_key, cause=cause)
        return self.consider(task_id, workspace, event, now)

    def extend(self, task_id: str, workspace: str, attempt: int, agent_id: str, now: float) -> float | None:
        """Renews one lease and returns when it expires; None if this agent and attempt do not hold it.

        Raises: `Missing` if the task is not open."""
        head = self._known(task_id, workspace)
        if head.status is not TaskStatus.RUNNING or (head.attempt, head.assigned_agent) != (attempt, agent_id):
            return None
        self._leases.extend(task_id, now)
        return self._leases.shown_expiry(head)

    def undelivered(
        self, task_id: str, workspace: str, attempt: int, agent_id: str, delivery: int, principal: str, now: float
    ) -> None:
        """Notes that the answer number ``delivery`` reached nobody, and releases its lease, unless another answer carries it that
        may have arrived."""
        head = self._open.get(task_id)
        if head is not None and head.workspace == workspace and self._leases.undelivered(task_id, delivery):
            by = Reporter(principal=principal, agent_id=agent_id, attempt=attempt)
            self._happens(head, Undelivered(by=by), now)

    def heartbeat(
        self, agents: Sequence[AgentKey], now: float, processes: Sequence[tuple[str, str, str]] = ()
    ) -> list[tuple[str, str, str]]:
        """Renews every lease of these agents. Of those in ``processes`` (workspace, agent_id, process) the leases that another
        process claimed stay as they are. Returns (workspace, agent_id, task_id) of tasks that their holders should stop."""
        for key in agents:
            self._leases.renew(key, now)
        for workspace, agent_id, process in processes:
            self._leases.renew((workspace, agent_id), now, process)
        cancelling = []
        for key in dict.fromkeys([*agents, *(entry[:2] for entry in processes)]):
            for task_id in self._leases.leases(key):
                head = self._open[task_id]
                if head.detail is TaskDetail.CANCELLING:
                    cancelling.append((*key, task_id))
                    self._dispatch.tell(head, now)
        return cancelling

    def head(self, task_id: str) -> TaskHead:
        """The head of an open task. Raises: `KeyError` if the task is not open."""
        return self._open[task_id]

    def tick(self, now: float) -> None:
        """Applies every timer that is due."""
        while (due := self._timers.pop(now)) is not None:
            kind, subject, attempt = due
            if kind is _WorkspaceEnds:
                self._end_some(subject, now)
                continue
            if kind is _ChildrenEnd:
                self._settle(now)
                continue
            if kind is QueuesOpen:
                self._dispatch.opens(subject)
                continue
            head = self._open.get(subject)
            if head is not None and attempt in (head.attempt, ANY_ATTEMPT):
                self._due(head, kind, now)

    def restart_leases(self, now: float) -> None:
        """Gives all leases their full time again: this process stood still, and the heartbeats of that time are not read yet."""
        self._leases.restart(now)

    def next_timer(self) -> float | None:
        """When the next timer is due, in epoch seconds; None if there is no timer."""
        return self._timers.next()

    # --- what goes out ------------------------------------------------------------------------------------------

    def take_output(self, now: float) -> tuple[list[TaskDecision], list[AnsweredClaim]]:
        """Serves waiting claims with what became ready, then hands over the decisions and the answers to waiting claims. The
        answers may be given only when the decisions are durable."""
        self._dispatch.serve(now)
        decisions, self._decisions = self._decisions, []
        return decisions, self._dispatch.take_answers()

    def take_unresolved(self) -> dict[str, list[str]]:
        """Workspace → ids of tasks that others wait for, or are children of, and that are not open here. The shell must look up
        how they ended and call ``ended_before``."""
        unresolved = self._dependencies.take_unresolved(self._open)
        for parent, workspace in self._families.take_unresolved(self._open).items():
            unresolved.setdefault(workspace, []).append(parent)
        return unresolved

    def ended_before(self, ends: Iterable[tuple[str, TaskStatus]], now: float) -> None:
        """Settles the dependents and children of tasks that the shell has looked up. The ends have no cause: their rows were not
        read."""
        for task_id, status in ends:
            self._dependencies.ends(task_id, status, "")
            self._families.ends(task_id, status, "")
        self._settle(now)

    def view(self, task_id: str, workspace: str, now: float) -> TaskView:
        """What the shard knows of a task, for an explanation. Raises: `Missing` if the task is not open."""
        head = self._known(task_id, workspace)
        if head.status is TaskStatus.RUNNING:
            return TaskView(head=head, lease_expires_at=self._leases.shown_expiry(head))

        def waiting(agent: AgentKey) -> list[Profile]:
            return [claim.profile for claim in self._waiting.of_agent(agent)]

        left_out = self._last_claims.leave_out(head, waiting)
        versions = self._last_claims.versions(workspace, waiting)
        view = waiting_view(head, self._queue, self._dependencies.waits_for(task_id), left_out, versions, now)
        sticky_agent = self._sticky.agent_of(task_id)
        return view if sticky_agent is None else dataclasses.replace(view, sticky_agent=sticky_agent)

    @property
    def waiting_claims(self) -> int:
        return len(self._waiting)

    @property
    def open_tasks(self) -> int:
        return len(self._open)

    # --- tasks --------------------------------------------------------------------------------------------------

    def _known(self, task_id: str, workspace: str) -> TaskHead:
        head = self._open.get(task_id)
        if head is None or head.workspace != workspace:
            raise Missing(f"There is no open task {task_id}.", "task_not_found")
        return head

    def _add(self, head: TaskHead, now: float) -> None:
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

    def _happens(self, head: TaskHead, event: Event, now: float) -> TaskHead:
        return self.carry_out(head, step(head, event, now, self._policy), now)

    def carry_out(self, head: TaskHead, transition: Transition, now: float, cost_nanos: int | None = None) -> TaskHead:
        """Applies a transition to memory: the new head, its decision and its effects. Returns the new head. ``cost_nanos``: what
        the attempt that it ends has cost, in nano-dollars, if its holder said so."""
        new = transition.head
        if new is not head:
            self._open[head.id] = new
        decision = transition.decision
        if decision is not None and self._queue.accounts:
            decision = with_entry(self.accounts, head, transition, cost_nanos)
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
            self._arm(effect.until, InputTimedOut, new)

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
        self._settle(now)

    def _settle(self, now: float) -> None:
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
            self._timers.arm(now + ENDED_APART_S, _ChildrenEnd, "")

    def _end_child(self, task_id: str, cause: str, now: float) -> None:
        """Cancels a child of a task that has ended without a result. Its holder gets the usual time to stop."""
        head = self._open.get(task_id)
        if head is not None and head.detail is not TaskDetail.CANCELLING:
            self._happens(head, CancelRequested(principal=SYSTEM, parent_ended=True, cause=cause), now)

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
                self._happens(head, event, now)

    def _enqueue(self, head: TaskHead, not_before: float, now: float) -> None:
        """Puts a task into the ready queue, or arms a timer for it if its time has not come."""
        if not_before > now:
            self._arm(not_before, RunAtReached, head)
            return
        sticky_agent = None if head.rules is None else self._sticky.bind(head, now)
        self._waiting.became_ready(self._queue.push(head, sticky_agent))
        if sticky_agent is not None:
            self._arm(waits_until(head), StickyOver, head)
        if head.rules is not None:
            self._enqueued_with_rules(head, now)

    def _enqueued_with_rules(self, head: TaskHead, now: float) -> None:
        """Arms the timers that a task's rules ask for."""
        rules = head.rules
        assert rules is not None
        since = max(head.created_at, head.run_at) if head.attempt == 0 else now
        if rules.queue_timeout_s is not None:
            self._arm(since + rules.queue_timeout_s, QueueTimedOut, head)
        if rules.affinity is Affinity.PREFERRED:
            self._timers.arm(max(head.created_at, head.run_at) + PREFERENCE_S, QueuesOpen, head.workspace)

    def _free(self, task_ids: Iterable[str]) -> None:
        """Offers tasks to anybody that waited for the agent which holds their sticky key."""
        for task_id in task_ids:
            self._waiting.became_ready(self._queue.push(self._open[task_id]))

    def _arm(self, at: float, kind: type[Event], head: TaskHead) -> None:
        self._timers.arm(at, kind, head.id, head.attempt)

    def _due(self, head: TaskHead, kind: type[Event], now: float) -> None:
        """Applies a timer if it still concerns the task. Timers are never taken back, so it may have moved on."""
        running = head.status is TaskStatus.RUNNING
        if kind is RunAtReached:
            waits = head.id in self._queue or head.detail in (TaskDetail.INPUT_REQUIRED, TaskDetail.WAITING_CHILDREN)
            if not running and not waits and head.run_at <= now:
                self._happens(head, RunAtReached(), now)
        elif kind is LeaseExpired and running:
            self._lease_due(head, now)
        elif kind is RunTimedOut and running:
            self._happens(head, RunTimedOut(), now)
        elif kind is CancelGraceOver and head.detail is TaskDetail.CANCELLING:
            self._happens(head, CancelGraceOver(), now)
        elif kind is TotalTimedOut:
            self._happens(head, TotalTimedOut(), now)
        elif kind is StickyOver and self._sticky.leave(head.id):
            self._free([head.id])
        elif kind is QueueTimedOut and head.id in self._queue:
            self._happens(head, QueueTimedOut(), now)
        elif kind is InputTimedOut and head.detail is TaskDetail.INPUT_REQUIRED:
            self._happens(head, InputTimedOut(), now)

    def _lease_due(self, head: TaskHead, now: float) -> None:
        """Expires a lease, or arms its timer again if the lease was renewed. Renewing moves no timer: it happens far more often
        than leases expire."""
        key = key_of(head)
        for waiting in self._waiting.of_agent(key):
            # An agent whose long poll is open is alive.
            self._leases.renew(key, now, process_of(waiting.request.claim_id))
        expires_at = self._leases.expires_at(head)
        if expires_at > now:
            self._arm(expires_at, LeaseExpired, head)
        else:
            self._happens(head, LeaseExpired(), now)

    # --- leases -------------------------------------------------------------------------------------------------

    def _acquire(self, head: TaskHead, now: float) -> None:
        self._leases.acquire(head, now)
        self._queue.running.started(head.workspace)
        self._arm(self._leases.expires_at(head), LeaseExpired, head)
        started = now if head.started_at is None else head.started_at
        self._arm(started + head.timeout_s, RunTimedOut, head)
        if head.rules is not None and head.rules.concurrency_key is not None:
            self._queue.limits.acquire(head.workspace, head.rules.concurrency_key, head.id)
        self._sticky.hold(head)
        self._free(self._sticky.excess(key_of(head)))

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
        self._arm(until, CancelGraceOver, head)
        self._cancellations.ask(key_of(head), head.id)
        self._dispatch.ask_again(key_of(head), now)

    def _agent_changed(self, row: LogRow, is_unschedulable: bool, now: float) -> None:
        key = (row.workspace, row.entity)
        # The kind is stored, so it keeps the word of an earlier build for deregistered.
        deregistered = row.kind == "agent.unregistered"
        offline = row.data.get("new_status") == "offline"
        if deregistered or offline:
            self._lose(key, now, caused_by_row(row.seq), was_deregistered=deregistered)
        if deregistered:
            self._leases.deregister(key)
            self._last_claims.forget(key)
        elif row.kind == "agent.registered":
            self._leases.register(key)
        self._leases.set_unschedulable(key, is_unschedulable and not deregistered)
        self._free(self._sticky.lose(key) if deregistered or offline else self._sticky.excess(key))
        if deregistered or is_unschedulable:
            self._dispatch.ask_again(key, now)
        else:
            self._dispatch.offer_again(key, now)

    def _lose(self, key: AgentKey, now: float, cause: str, *, was_deregistered: bool) -> None:
        for task_id in list(self._leases.leases(key)):
            self._happens(self._open[task_id], AgentLost(was_deregistered=was_deregistered, cause=cause), now)

    # --- workspaces ---------------------------------------------------------------------------------------------

    def _note_state(self, workspace: str, change: StateChange) -> None:
        self._queue.set_state(workspace, change.state)
        if change.state is WorkspaceState.DELETED:
            self._workspace_ends.delete(workspace, change.principal, change.cause)

    def _state_changed(self, row: LogRow, now: float) -> None:
        """Stops or resumes all starts of a workspace, or ends its tasks if it was deleted."""
        change = StateChange.of(row)
        self._note_state(row.entity, change)
        if change.state is WorkspaceState.DELETED:
            self._end_workspace(row.entity, now)
        elif change.state is WorkspaceState.ACTIVE:
            self._dispatch.wake(row.entity)

    def _end_workspace(self, workspace: str, now: float) -> None:
        self._workspace_ends.put(workspace, self._open.values())
        self._end_some(workspace, now)

    def _end_some(self, workspace: str, now: float) -> None:
        """Cancels some tasks of a deleted workspace, and arms a timer for the rest. Whoever runs one of them cannot report any
        more, so nobody gets time to stop."""
        principal, cause = self._workspace_ends.ended_by(workspace)
        task_ids, more = self._workspace_ends.take(workspace)
        for task_id in task_ids:
            head = self._open.get(task_id)  # one may have ended as the dependent of another
            if head is not None and head.detail is not TaskDetail.CANCELLING:
                head = self._happens(head, CancelRequested(principal=principal, cause=cause), now)
            if head is not None and head.detail is TaskDetail.CANCELLING:
                self._happens(head, CancelGraceOver(cause=cause), now)
        if more:
            self._timers.arm(now + ENDED_APART_S, _WorkspaceEnds, workspace)


#: How each effect of a step changes memory: the heads before and after the step, the effect, and when it happened.
_EFFECTS: Final[Mapping[type[Effect], Callable[[SchedulerCore, TaskHead, TaskHead, Any, float], None]]] = {
    Dequeue: SchedulerCore._dequeue,
    Enqueue: SchedulerCore._queue_again,
    StartLease: SchedulerCore._start_lease,
    EndLease: SchedulerCore._end_lease,
    StartGrace: SchedulerCore._start_grace,
    AwaitAnswer: SchedulerCore._await_answer,
    AwaitChildren: SchedulerCore._await_children,
}
