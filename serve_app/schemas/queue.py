"""Bodies and answers about queue controls and the dead letter."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.task import Task, TaskDetail
from serve_app.schemas.fields import MAX_EPOCH_S, ExactBody, Text, Words
from serve_app.schemas.tasks import task_wire

MAX_REPLAY = 1000


class DeadReason(StrEnum):
    """The details with which a task is in the dead letter. Not a ``Literal``: its error would show Python's names."""

    DEAD_LETTERED = TaskDetail.DEAD_LETTERED.value
    TIMEOUT = TaskDetail.TIMEOUT.value


class ControlName(ExactBody):
    """Names a queue, a task type or a tenant. Tasks without a tenant belong to a tenant named like the workspace."""

    kind: ControlKind = ControlKind.QUEUE
    name: Words


class ControlSettings(ControlName):
    """Settings of a queue or tenant. Fields that are left out stay as they are; null for ``rate_per_second`` lifts the
    limit."""

    rate_per_second: float | None = Field(None, gt=0, le=1_000_000)
    burst: int | None = Field(None, ge=1, le=1_000_000)
    weight: float | None = Field(None, ge=0.001, le=1000)


class DeadLetterFilter(ExactBody):
    """Chooses dead tasks: all given fields must match. Times are epoch seconds of the task's end."""

    task_type: Words | None = None
    queue: Words | None = None
    reason: DeadReason | None = None
    error_contains: Annotated[Text, Field(min_length=1, max_length=256)] | None = None
    ended_after: float | None = Field(None, ge=0, le=MAX_EPOCH_S)
    ended_before: float | None = Field(None, ge=0, le=MAX_EPOCH_S)


class Chosen(ExactBody):
    """Chooses dead tasks by ``ids`` or by ``filter``, at most ``limit`` of them, newest first."""

    ids: list[Words] | None = Field(None, min_length=1, max_length=MAX_REPLAY)
    filter: DeadLetterFilter | None = None
    limit: int = Field(MAX_REPLAY, ge=1, le=MAX_REPLAY)
    dry_run: bool = False


class ReplayDead(Chosen):
    """``payload`` replaces the payload of every chosen task; ``payload_patch`` sets some fields of it."""

    payload: Any = None
    payload_patch: dict[str, Any] | None = None


def control_wire(control: Control) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "kind": control.kind.value,
        "name": control.name,
        "paused": control.paused,
        "changed_at": control.changed_at,
        "changed_by": control.principal,
    }
    if control.kind is ControlKind.QUEUE:
        wire |= {"rate_per_second": control.rate_per_s, "burst": control.burst}
    if control.kind is ControlKind.TENANT:
        wire["weight"] = control.weight
    return wire


def dead_wire(task: Task) -> dict[str, Any]:
    return {**task_wire(task), "reason": task.status_detail.value, "ended_at": task.completed_at}
