"""What is stored of workflows and their runs, and the ids of a run's tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.log import Origin, caused_by_row
from cluster.domain.tasks.tally import ENDS
from cluster.domain.tasks.task import TaskDecision, TaskStatus
from cluster.domain.workflows.document import FailureCode, RunStatus
from cluster.domain.workflows.machine import Run, StepState

#: What ids of runs begin with, and so do those of their tasks.
RUN_PREFIX: Final = "wfrun"
#: Kinds of the rows that end a task → why its step fails, None if it does not.
TASK_ENDS: Final[Mapping[str, FailureCode | None]] = {
    kind: {
        TaskStatus.COMPLETED: None,
        TaskStatus.FAILED: FailureCode.FAILED,
        TaskStatus.CANCELLED: FailureCode.CANCELLED,
        TaskStatus.TIMEOUT: FailureCode.TIMEOUT,
    }[status]
    for kind, status in ENDS.items()
}
#: The attempt of a run in the ids of its tasks. There is one: a replay is a run of its own.
_ATTEMPT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWorkflow:
    """One version of a workflow. ``templates``: the checked submit of each step, without its payload. ``digest``: of the
    document. Times are epoch seconds."""

    workspace: str
    name: str
    version: int
    principal: str
    document: Mapping[str, Any]
    templates: Mapping[str, Any]
    digest: bytes
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run, without what it was given or sent. ``state`` is the JSON of `Run`; ``started_row`` the row of its start, which is
    the cause of its tasks. ``metadata`` is given to each task. ``due_at``: when the first of its waits is over, in epoch
    seconds. ``missed``: signals that it gives up with the commit that stores it. ``replays``:
    the run that it is a replay of."""

    id: str
    workspace: str
    name: str
    version: int
    principal: str
    metadata: Mapping[str, Any]
    status: RunStatus
    state: Mapping[str, Any]
    created_at: float
    changed_at: float
    ended_at: float | None = None
    started_row: int = 0
    due_at: float | None = None
    missed: frozenset[str] = frozenset()
    replays: str | None = None

    @property
    def steps(self) -> dict[str, StepState]:
        return {step_id: StepState.from_json(state) for step_id, state in self.state.get("steps", {}).items()}

    @property
    def refers(self) -> list[str]:
        """The other runs whose tasks it refers to."""
        return sorted({state.run for state in self.steps.values() if state.run is not None})

    def owner(self) -> Origin:
        """In whose name its tasks start."""
        return Origin(workspace=self.workspace, principal=self.principal, cause=caused_by_row(self.started_row))

    def after(self, run: Run, now: float, missed: Collection[str]) -> StoredRun:
        return replace(
            self,
            status=run.status,
            state=run.to_json(),
            changed_at=now,
            ended_at=run.ended_at,
            due_at=run.due_at,
            missed=frozenset(missed),
        )


def started_data(run: StoredRun) -> dict[str, Any]:
    """The data of the row that says that a run was started."""
    return {"run_id": run.id, "workflow": run.name, "version": run.version}


class SignalAnswer(StrEnum):
    """What became of a signal: ``repeated``: the run has it with this value, ``other``: with another one; ``late``: no step
    waits for it any more; ``full``: the run was sent too much."""

    TAKEN = "taken"
    REPEATED = "repeated"
    OTHER = "other"
    LATE = "late"
    FULL = "full"
    ABSENT = "absent"


def task_id(run_id: str, step_id: str, index: int) -> str:
    """The id of a task or a deliberation of a run: the same whenever it is asked. Those of a fan-out sort as its items do."""
    return f"{run_id}.{step_id}.{index:05d}.{_ATTEMPT}"


def result_ids(run_id: str, step_id: str, state: StepState) -> list[str | None]:
    """The ids of the tasks or deliberations of a step, in order; None for one that has failed, and may never have started."""
    failed, of = frozenset(state.failed), state.run or run_id
    return [None if index in failed else task_id(of, step_id, index) for index in range(state.total or 0)]


def ends_task_of_run(decision: TaskDecision) -> bool:
    """Whether a decision ends a task that a run waits for."""
    return decision.head.status.terminal and decision.head.id.startswith(f"{RUN_PREFIX}_")


def is_of_run(entity: str) -> bool:
    """Whether an id is one that a task or a deliberation of a run may have."""
    return entity.startswith(f"{RUN_PREFIX}_") and task_of(entity) is not None


def task_of(entity: str) -> tuple[str, str, int] | None:
    """(run, step, index) of the id of a run's task or deliberation; None if it is none."""
    parts = entity.split(".")
    if len(parts) != 4 or not parts[2].isdecimal():
        return None
    return parts[0], parts[1], int(parts[2])
