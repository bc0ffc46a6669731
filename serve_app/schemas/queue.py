"""Bodies of what operators do to queues and dead tasks, and how it looks on the wire."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from cluster.domain.scheduling.limits import Control, ControlKind
from cluster.domain.tasks.task import Task, TaskDetail
from serve_app.schemas.fields import MAX_EPOCH_S, Body, Words
from serve_app.schemas.tasks import task_wire

MAX_REPLAY = 1000


class ControlName(Body):
    """A queue, a task type, or a tenant (the workspace's name for tasks that name none)."""

    kind: ControlKind = ControlKind.QUEUE
    name: Words


class ControlSettings(ControlName):
    """Fields that are left out stay as they are; ``rate_per_second`` null lifts the limit."""

    rate_per_second: float | None = Field(None, gt=0, le=1_000_000)
    burst: int | None = Field(None, ge=1, le=1_000_000)
    weight: float | None = Field(None, ge=0.001, le=1000)


class DeadLetterFilter(Body):
    """All given fields must match. Times are epoch seconds of the task's end."""

    task_type: Words | None = None
    queue: Words | None = None
    reason: TaskDetail | None = None
    error_contains: Words | None = None
    ended_after: float | None = Field(None, ge=0, le=MAX_EPOCH_S)
    ended_before: float | None = Field(None, ge=0, le=MAX_EPOCH_S)

    @field_validator("reason")
    @classmethod
    def _reason(cls, value: TaskDetail | None) -> TaskDetail | None:
        if value not in (None, TaskDetail.DEAD_LETTERED, TaskDetail.TIMEOUT):
            raise ValueError("reason must be dead_lettered or timeout")
        return value


class Chosen(Body):
    """Which dead tasks: by ``ids`` or by ``filter``, up to ``limit`` of them, newest first."""

    ids: list[Words] | None = Field(None, min_length=1, max_length=MAX_REPLAY)
    filter: DeadLetterFilter | None = None
    limit: int = Field(MAX_REPLAY, ge=1, le=MAX_REPLAY)
    dry_run: bool = False


class ReplayDead(Chosen):
    """``payload`` replaces the payload of every one, ``payload_patch`` sets some of its fields."""

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
