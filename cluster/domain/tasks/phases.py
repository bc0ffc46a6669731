"""The phases of a task: the rows of its machine's table."""

from __future__ import annotations

from enum import StrEnum

from cluster.domain.tasks.task import TaskDetail, TaskHead, TaskStatus


class Phase(StrEnum):
    """The rows of the table: the wire's statuses, with a running task that is being cancelled told apart."""

    PENDING = "pending"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


TERMINAL = (Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED, Phase.TIMEOUT)
_PHASE_OF_STATUS = {status: Phase(status.value) for status in TaskStatus}


def phase_of(head: TaskHead) -> Phase:
    if head.detail is TaskDetail.CANCELLING:
        return Phase.CANCELLING
    return _PHASE_OF_STATUS[head.status]
