"""What time brings to the tasks of a shard. Timers are never taken back, so each is looked at whether it still applies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from cluster.domain.base.ids import process_of
from cluster.domain.scheduling.dispatch import Dispatch
from cluster.domain.scheduling.lease_table import key_of
from cluster.domain.scheduling.open_tasks import OpenTasks
from cluster.domain.scheduling.sticky_keys import StickyOver
from cluster.domain.scheduling.tables import Tables
from cluster.domain.scheduling.timers import ANY_ATTEMPT, ChildrenEnd, QueuesOpen, WorkspaceTasksEnd
from cluster.domain.tasks.events import (
    CancelGraceOver,
    Event,
    InputTimedOut,
    LeaseExpired,
    QueueTimedOut,
    RunAtReached,
    RunTimedOut,
    TotalTimedOut,
)
from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus

#: Tasks that wait for something else than their time.
_WAITING = (TaskDetail.INPUT_REQUIRED, TaskDetail.WAITING_CHILDREN)


class Deadlines:
    """It takes timers that others arm, and arms those of renewed leases again."""

    def __init__(self, tables: Tables, tasks: OpenTasks, dispatch: Dispatch) -> None:
        self._tables = tables
        self._tasks = tasks
        self._dispatch = dispatch

    def tick(self, now: float) -> None:
        """Applies every timer that is due."""
        timers, heads = self._tables.timers, self._tables.open
        while (due := timers.pop(now)) is not None:
            kind, subject, attempt = due
            of_no_task = _OF_NO_TASK.get(kind)
            if of_no_task is not None:
                of_no_task(self, subject, now)
                continue
            head = heads.get(subject)
            if head is not None and attempt in (head.attempt, ANY_ATTEMPT):
                _OF_TASKS[kind](self, head, now)

    def _queues_open(self, workspace: str, now: float) -> None:
        self._dispatch.opens(workspace)

    def _workspace_tasks_end(self, workspace: str, now: float) -> None:
        self._tasks.end_some(workspace, now)

    def _children_end(self, _: str, now: float) -> None:
        self._tasks.settle(now)

    def _run_at_reached(self, head: TaskHead, now: float) -> None:
        waits = head.id in self._tables.queue or head.detail in _WAITING
        if head.status is not TaskStatus.RUNNING and not waits and head.run_at <= now:
            self._tasks.happens(head, RunAtReached(), now)

    def _lease_expired(self, head: TaskHead, now: float) -> None:
        """Expires a lease, or arms its timer again if the lease was renewed. Renewing moves no timer: it happens far more often
        than leases expire."""
        if head.status is not TaskStatus.RUNNING:
            return
        key, leases = key_of(head), self._tables.leases
        for waiting in self._tables.waiting.of_agent(key):
            # An agent whose long poll is open is alive.
            leases.renew(key, now, process_of(waiting.request.claim_id))
        expires_at = leases.expires_at(head)
        if expires_at > now:
            self._tables.timers.arm(expires_at, LeaseExpired, head.id, head.attempt)
        else:
            self._tasks.happens(head, LeaseExpired(), now)

    def _run_timed_out(self, head: TaskHead, now: float) -> None:
        if head.status is TaskStatus.RUNNING:
            self._tasks.happens(head, RunTimedOut(), now)

    def _grace_over(self, head: TaskHead, now: float) -> None:
        if head.detail is TaskDetail.CANCELLING:
            self._tasks.happens(head, CancelGraceOver(), now)

    def _total_timed_out(self, head: TaskHead, now: float) -> None:
        self._tasks.happens(head, TotalTimedOut(), now)

    def _sticky_over(self, head: TaskHead, now: float) -> None:
        if self._tables.sticky.leave(head.id):
            self._tasks.free([head.id])

    def _queue_timed_out(self, head: TaskHead, now: float) -> None:
        if head.id in self._tables.queue:
            self._tasks.happens(head, QueueTimedOut(), now)

    def _input_timed_out(self, head: TaskHead, now: float) -> None:
        if head.detail is TaskDetail.INPUT_REQUIRED:
            self._tasks.happens(head, InputTimedOut(), now)


#: What each kind of timer brings whose subject is no task.
_OF_NO_TASK: Final[Mapping[type[Event], Callable[[Deadlines, str, float], None]]] = {
    QueuesOpen: Deadlines._queues_open,
    WorkspaceTasksEnd: Deadlines._workspace_tasks_end,
    ChildrenEnd: Deadlines._children_end,
}
#: What each kind of timer brings to the task that it concerns, if it still applies.
_OF_TASKS: Final[Mapping[type[Event], Callable[[Deadlines, TaskHead, float], None]]] = {
    RunAtReached: Deadlines._run_at_reached,
    LeaseExpired: Deadlines._lease_expired,
    RunTimedOut: Deadlines._run_timed_out,
    CancelGraceOver: Deadlines._grace_over,
    TotalTimedOut: Deadlines._total_timed_out,
    StickyOver: Deadlines._sticky_over,
    QueueTimedOut: Deadlines._queue_timed_out,
    InputTimedOut: Deadlines._input_timed_out,
}
