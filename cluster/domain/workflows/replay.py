"""A replay: a new run of the same version that keeps what an ended run has done before some step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.workflows.document import RunStatus, Step, StepStatus, waits_for
from cluster.domain.workflows.machine import Condition, Run, StepState


def replay_of(run: Run, run_id: str, from_step: str | None) -> Run:
    """The run before its first event: steps whose outcome stands, and that come after no step that runs anew, are kept.
    ``from_step`` runs anew in any case.

    Raises: `InvalidRequest` if it is no step; `Conflict` if nothing would run."""
    steps = run.workflow.steps
    if from_step is not None and from_step not in steps:
        raise InvalidRequest("from_step must be a step of the workflow; see its document.", "unknown_step")
    kept: dict[str, StepState] = {}
    for step in steps.values():
        if step.id != from_step and waits_for(step, steps) <= kept.keys() and _stands(step, run.steps[step.id], kept):
            state = run.steps[step.id]
            kept[step.id] = replace(state, run=state.run or run_id)
    if len(kept) == len(steps):
        raise Conflict("Nothing of the run is left to do; say from which step to run it anew.", "nothing_to_replay")
    return Run(
        workflow=run.workflow,
        status=RunStatus.RUNNING,
        steps={step_id: kept.get(step_id, StepState()) for step_id in steps},
    )


def _stands(step: Step, state: StepState, kept: Mapping[str, StepState]) -> bool:
    """Whether a run that goes on would have left a step as it is."""
    if state.status is StepStatus.SKIPPED:
        if step.handles is not None and kept[step.handles].status is not StepStatus.FAILED:
            return True
        return state.condition is Condition.ASKED  # it was false; what the end of a run has skipped was not asked
    if state.status is StepStatus.FAILED:
        return step.continues or step.handled_by is not None
    return state.status is StepStatus.COMPLETED
