"""What rows of the log are to the runs of workflows that they are about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.domain.workflows.deliberations import DELIBERATION_ENDS, why_undecided
from cluster.domain.workflows.machine import CancelAsked, Due, Event, Go, ItemEnded, Signalled
from cluster.domain.workflows.stored import TASK_ENDS, task_of


def run_of(entity: str) -> str:
    """The run that a row is about, by the row's entity: the run itself, or a task or a deliberation of it."""
    task = task_of(entity)
    return entity if task is None else task[0]


def event_of(kind: str, entity: str, data: Mapping[str, Any]) -> Event | None:
    """What a row is to the run that it is about; None if it says only what the run has done itself."""
    task = task_of(entity)
    if task is not None:
        _, step_id, index = task
        code = why_undecided(data["terminal"]) if kind in DELIBERATION_ENDS else TASK_ENDS[kind]
        return ItemEnded(step=step_id, index=index, code=code)
    if kind == "workflow.run_cancel_requested":
        return CancelAsked()
    if kind == "workflow.run_signalled":
        return Signalled(name=data["signal"])
    if kind == "workflow.run_due":
        return Due()
    if kind == "workflow.run_started" or data.get("more"):
        return Go()
    return None
