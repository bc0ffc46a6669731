"""The phases of a task: the rows of its machine's table."""

from __future__ import annotations

from enum import StrEnum

from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus


class TaskPhase(StrEnum):
    """The statuses of the wire, and three more: a task that waits for people, one that waits for its children, and a running one
    that is being cancelled have phases of their own."""

    PENDING = "pending"
    INPUT_REQUIRED = "input_required"
    WAITING_CHILDREN = "waiting_children"
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
    if head.detail is TaskDetail.INPUT_REQUIRED:
        return TaskPhase.INPUT_REQUIRED
    if head.detail is TaskDetail.WAITING_CHILDREN:
        return TaskPhase.WAITING_CHILDREN
    return _PHASE_OF_STATUS[head.status]
