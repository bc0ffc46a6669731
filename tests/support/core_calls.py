"""What a shard does with the core for one request: an event is considered, and at once carried out."""

from __future__ import annotations

from cluster.domain.scheduling.core import SchedulerCore
from cluster.domain.tasks.events import CancelRequested, Event
from cluster.domain.tasks.task import Priority, TaskHead


def report(core: SchedulerCore, task_id: str, workspace: str, event: Event, now: float) -> TaskHead:
    return core.carry_out(*core.consider(task_id, workspace, event, now), now)


def cancel(core: SchedulerCore, task_id: str, workspace: str, principal: str, now: float) -> TaskHead:
    return report(core, task_id, workspace, CancelRequested(principal=principal), now)


def prioritize(
    core: SchedulerCore,
    task_id: str,
    workspace: str,
    priority: Priority | None,
    now: float,
    position: int | None = None,
) -> TaskHead:
    return core.carry_out(*core.consider_priority(task_id, workspace, "p", priority, position, now), now)
