"""The core of a scheduler shard: open tasks, leases, waiting claims and timers. No clock, no I/O.

Its parts: ``open_tasks`` (what happens to a task), ``dispatch`` (who gets which), ``deadlines`` (what time brings), over the
tables of ``tables``. Here is what comes from outside: what is loaded, rows of the log, requests.

Every event changes memory at once. ``take_output`` then hands over the decisions, to be committed in order, and the answers
to waiting claims, which may be given only when those decisions are durable. A shard whose commit fails drops this object and
builds a new one from the store, so memory is ahead of the store by no more than the commits in flight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence

from cluster.domain.access.workspaces import StateChange, WorkspaceState
from cluster.domain.base.compact import evolve as replace
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.base.ids import process_of
from cluster.domain.base.log import LogRow, caused_by_row
from cluster.domain.budgets.accounts import Accounts, BudgetSums
from cluster.domain.budgets.budget import CHANGES as BUDGETS
from cluster.domain.budgets.budget import DELETED as BUDGET_DELETED
from cluster.domain.budgets.budget import Budget
from cluster.domain.budgets.entries import Reservation
from cluster.domain.quotas.quotas import CHANGES as QUOTAS
from cluster.domain.quotas.quotas import Quotas
from cluster.domain.scheduling.answers import AnsweredClaim
from cluster.domain.scheduling.deadlines import Deadlines
from cluster.domain.scheduling.dispatch import Dispatch
from cluster.domain.scheduling.eligibility import Profile, demand_of, prefers
from cluster.domain.scheduling.explain import TaskView, waiting_view
from cluster.domain.scheduling.lease_table import LeaseTable
from cluster.domain.scheduling.limits import Control
from cluster.domain.scheduling.open_tasks import OpenTasks
from cluster.domain.scheduling.preferred_agents import PreferredAgents
from cluster.domain.scheduling.ready_queue import ReadyQueue
from cluster.domain.scheduling.requests import AgentKey
from cluster.domain.scheduling.sticky_keys import StickyKeys
from cluster.domain.scheduling.tables import Tables
from cluster.domain.tasks.effects import Transition
from cluster.domain.tasks.events import AgentLost, Event, Prioritized, Reporter, Undelivered
from cluster.domain.tasks.machine import step
from cluster.domain.tasks.retries import RetryPolicy
from cluster.domain.tasks.task import Priority, TaskDecision, TaskDetail, TaskHead, TaskStatus


class Missing(ControlPlaneError):
    """The task is not open here: it has ended, its log row has not been read yet, or it never existed. The shard finds out
    which, so callers of the shard do not see this error."""

    status = 404


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
        # The parts share these tables, and each holds those that it reads often as fields of its own.
        leases = LeaseTable(lease_ttl_s)
        tables = Tables(
            queue=ReadyQueue() if queue is None else queue,
            leases=leases,
            sticky=StickyKeys(leases),
            preferred=PreferredAgents(leases),
        )
        self._queue = tables.queue
        self._queue.is_near = tables.preferred.is_near
        self._open: Mapping[str, TaskHead] = tables.open
        self._leases = tables.leases
        self._sticky = tables.sticky
        self._dependencies = tables.dependencies
        self._families = tables.families
        self._waiting = tables.waiting
        self._last_claims = tables.last_claims
        self._preferred = tables.preferred
        self._timers = tables.timers
        self._workspace_ends = tables.workspace_ends
        # What happens to tasks, then who gets them, then what time brings: each knows those before it and none after it, nor the
        # core. In a cycle, a million heads of a state that was dropped would stay until garbage is collected, beside those of the
        # next one.
        self._tasks = OpenTasks(tables, self._policy)
        self._dispatch = Dispatch(tables, self._tasks)
        self._deadlines = Deadlines(tables, self._tasks, self._dispatch)
        # Verbs that are those of a part: as fields, they cost a claim or a report no call more.
        self.claim = self._dispatch.claim
        self.can_satisfy = self._dispatch.can_satisfy
        self.stopping = self._tasks.stopping
        self.carry_out = self._tasks.carry_out
        self.tick = self._deadlines.tick
        self.withdraw = self._waiting.withdraw

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
            self._tasks.end_workspace(workspace, now)

    def load(self, heads: Iterable[TaskHead], now: float) -> None:
        """Adds open tasks from the store. Leases get their full time again, since nobody took heartbeats while the shard was
        away."""
        for head in heads:
            self._tasks.add(head, now)

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
                    self._tasks.add(head, now)
                    if self._workspace_ends.comes_late(head):
                        self._tasks.end_some(head.workspace, now)
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

    def doubts(self, agent: AgentKey, unschedulable: bool) -> bool:
        """Whether memory contradicts the asker, who found the agent registered, and schedulable unless ``unschedulable``. Then
        the rows that say so have not been read yet."""
        return self._leases.is_deregistered(agent) or (self._leases.is_unschedulable(agent) and not unschedulable)

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
            self._tasks.happens(head, Undelivered(by=by), now)

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
                    self._tasks.tell(head, now)
        return cancelling

    def head(self, task_id: str) -> TaskHead:
        """The head of an open task. Raises: `KeyError` if the task is not open."""
        return self._open[task_id]

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
        return self._tasks.take_output()

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
        self._tasks.settle(now)

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
        demand = demand_of(head, sticky_agent)
        if prefers(demand) and not self._preferred.is_near(demand, now):
            view = dataclasses.replace(view, is_near=False)
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

    # --- agents -------------------------------------------------------------------------------------------------

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
            self._preferred.forget(key)
        elif row.kind == "agent.registered":
            self._leases.register(key)
        self._leases.set_unschedulable(key, is_unschedulable and not deregistered)
        self._tasks.free(self._sticky.lose(key) if deregistered or offline else self._sticky.excess(key))
        self._preferred.changed()
        if deregistered or is_unschedulable:
            if self._preferred.is_asked:
                self._dispatch.offer_preferring(row.workspace)
            self._tasks.ask_again(key, now)
        else:
            self._dispatch.offer_again(key, now)

    def _lose(self, key: AgentKey, now: float, cause: str, *, was_deregistered: bool) -> None:
        for task_id in list(self._leases.leases(key)):
            self._tasks.happens(self._open[task_id], AgentLost(was_deregistered=was_deregistered, cause=cause), now)

    # --- workspaces ---------------------------------------------------------------------------------------------

    def _note_state(self, workspace: str, change: StateChange) -> None:
        self._queue.gates.set_state(workspace, change.state)
        if change.state is WorkspaceState.DELETED:
            self._workspace_ends.delete(workspace, change.principal, change.cause)

    def _state_changed(self, row: LogRow, now: float) -> None:
        """Stops or resumes all starts of a workspace, or ends its tasks if it was deleted."""
        change = StateChange.of(row)
        self._note_state(row.entity, change)
        if change.state is WorkspaceState.DELETED:
            self._tasks.end_workspace(row.entity, now)
        elif change.state is WorkspaceState.ACTIVE:
            self._dispatch.wake(row.entity)
