"""The phases of a task: the rows of its machine's table."""

from __future__ import annotations

from enum import StrEnum

from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus


class TaskPhase(StrEnum):
    """The statuses of the wire, and one more: a running task that is being cancelled has a phase of its own."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


TERMINAL = (TaskPhase.COMPLETED, TaskPhase.FAILED, TaskPhase.CANCELLED, TaskPhase.TIMEOUT)
_PHASE_OF_STATUS = {status: TaskPhase(status.value) for status in TaskStatus}


def phase_of(head: TaskHead) -> TaskPhase:
    if head.detail is TaskDetail.CANCELLING:
        return TaskPhase.CANCELLING
    return _PHASE_OF_STATUS[head.status]
