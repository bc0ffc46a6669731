"""Bodies and answers about workflows: the schema of documents, and runs as readers are shown them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from cluster.domain.base.expressions import MOST_CHARACTERS
from cluster.domain.base.ids import check_id
from cluster.domain.workflows.document import MOST_ITEMS, MOST_STEPS, ON_NO_CONSENSUS, STEP_PATTERN, ItemFailure
from cluster.domain.workflows.machine import StepState
from cluster.domain.workflows.stored import StoredRun, StoredWorkflow, task_id
from cluster.domain.workflows.waits import MOST_WAIT_S
from serve_app.schemas.fields import ExactBody, Text
from serve_app.schemas.tasks import CreateTask, TaskFields

#: In CEL.
Condition = Annotated[str, Field(max_length=MOST_CHARACTERS)]
#: Of a signal; the rule of steps.
SignalName = Annotated[str, Field(pattern=f"^{STEP_PATTERN}$")]
StepId = Annotated[str, Field(pattern=f"^{STEP_PATTERN}$")]
#: Of the metadata of a run, which each of its tasks gets.
MOST_METADATA: Final = 16_384


class StepTask(TaskFields, ExactBody):
    """A task, as in POST /tasks. Its payload is ``input``, in which ``{"from": "input" | "item" | STEP, "path": JSON Pointer,
    "default": VALUE}`` stands for a value that is known when the step starts, and ``{"literal": VALUE}`` for itself."""

    input: Any = {}

    def submit(self) -> CreateTask:
        """The submit of it, without a payload."""
        return CreateTask.model_validate(self.model_dump(mode="json", exclude_unset=True, exclude={"input"}))


#: Of a deliberation; any of them may be, or have in it, a reference.
Reference = dict[str, Any]


class StepDeliberation(ExactBody):
    """A deliberation, as in POST /deliberations, whose result is the step's. Whatever is an object may be a reference, as in
    the input of a task. ``on_no_consensus``: one that ends without a decision fails the step (``fail``), or is its result
    (``complete``)."""

    content: Annotated[str, Field(min_length=1, max_length=20_000)] | Reference
    decision_type: Annotated[Text, Field(max_length=64)] | Reference = "auto"
    config: dict[str, Any] = {}
    context: dict[str, Any] = {}
    documents: list[Any] | Reference = []
    attachments: list[Any] | Reference = []
    evidence: list[Any] | Reference = []
    required_capabilities: list[Any] | Reference = ["deliberation"]
    timeout_seconds: Annotated[float, Field(ge=1, le=86_400)] | Reference | None = None
    on_no_consensus: Literal["fail", "complete"] = "fail"


class FanOut(ExactBody):
    """One task, or one deliberation, for each item of the list that ``over`` becomes, at most ``concurrency`` at a time; the
    result is the list of theirs, in order. ``filter``: a condition in CEL, which leaves out items of which it is false.
    ``on_item_failure``: an item that fails ends the step (``fail``), or is null in the list (``continue``)."""

    over: list[Any] | dict[str, Any]
    filter: Condition | None = None
    concurrency: int | None = Field(None, ge=1, le=MOST_ITEMS)
    on_item_failure: ItemFailure = ItemFailure.FAIL
    task: StepTask | None = None
    deliberation: StepDeliberation | None = None


class SignalWait(ExactBody):
    """The wait for a signal; its value is the step's result. If it has not come after ``timeout_seconds``, the result is
    ``default``; without one the step fails (``signal_timeout``)."""

    name: SignalName
    timeout_seconds: float | None = Field(None, ge=0, le=MOST_WAIT_S)
    default: Any = None


class SleepWait(ExactBody):
    """The wait for ``seconds``, or ``until`` a time (a text of RFC 3339 with its zone, or epoch seconds); or references to
    such."""

    seconds: Annotated[float, Field(ge=0, le=MOST_WAIT_S)] | dict[str, Any] | None = None
    until: Annotated[float, Field(ge=0)] | str | dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one(self) -> SleepWait:
        if (self.seconds is None) is (self.until is None):
            raise ValueError("sleep takes either seconds or until.")
        return self


class Handler(ExactBody):
    """The step that handles a failure; its result stands for that of the step that failed."""

    step: StepId


class StepFields(ExactBody):
    """A step: a ``task``, a ``deliberation``, a ``map``, or the wait for a ``signal`` or a time (``sleep``). It starts when the
    steps ``after`` which it comes and those that it refers to are over. If it fails, the run does (``fail``), goes on without
    its result (``continue``), or another step handles it. ``when``: a condition in CEL; if it is false, the step is
    skipped."""

    id: StepId
    task: StepTask | None = None
    deliberation: StepDeliberation | None = None
    map: FanOut | None = None
    signal: SignalWait | None = None
    sleep: SleepWait | None = None
    when: Condition | None = None
    after: list[StepId] = Field([], max_length=MOST_STEPS)
    on_failure: Literal["fail", "continue"] | Handler = "fail"

    def work(self) -> StepTask | None:
        """Its task, or that of each item; None if it has none."""
        return self.task if self.map is None else self.map.task

    def question(self) -> dict[str, Any] | None:
        """What its deliberation asks, or that of each item; None if it has none."""
        asked = self.deliberation if self.map is None else self.map.deliberation
        return None if asked is None else asked.model_dump(mode="json", exclude_unset=True, exclude={ON_NO_CONSENSUS})


class WorkflowDocument(ExactBody):
    """A workflow: its name, and its steps in any order."""

    name: str
    description: Text | None = Field(None, max_length=2000)
    steps: list[StepFields]

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_id(value, "name")


class SendSignal(ExactBody):
    """``value``: the result of the steps that wait for the signal."""

    value: Any = None


class StartRun(ExactBody):
    """``input``: what references to ``input`` stand for. ``version``: of the workflow, the newest if it is left out.
    ``metadata``: of each task of the run; its ``subject`` says whose work it is."""

    input: Any = None
    version: int | None = Field(None, ge=1, le=2**31 - 1)
    metadata: dict[str, Any] = {}


class ReplayRun(ExactBody):
    """``from_step``: it and what comes after it runs anew, whatever became of it."""

    from_step: StepId | None = None


def schema() -> dict[str, Any]:
    """The JSON Schema of a document."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **WorkflowDocument.model_json_schema()}


def workflow_wire(workflow: StoredWorkflow) -> dict[str, Any]:
    """A version of a workflow as readers are shown it."""
    return {
        "name": workflow.name,
        "version": workflow.version,
        "created_at": workflow.created_at,
        "created_by": workflow.principal,
        "steps": [step["id"] for step in workflow.document["steps"]],
        "document": workflow.document,
    }


def run_wire(
    run: StoredRun, results: dict[str, Any] | None = None, left_out: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """A run as readers are shown it. ``results``: by step, None for none at all; ``left_out``: the steps whose results are
    not shown."""
    return {
        "run_id": run.id,
        "workflow": run.name,
        "version": run.version,
        "status": run.status.value,
        "created_at": run.created_at,
        "changed_at": run.changed_at,
        "ended_at": run.ended_at,
        "created_by": run.principal,
        "replays": run.replays,
        "metadata": run.metadata,
        "steps": [
            _step_wire(run, step_id, state)
            | ({} if results is None else {"result": results.get(step_id), "result_left_out": step_id in left_out})
            for step_id, state in run.steps.items()
        ],
    }


def _step_wire(run: StoredRun, step_id: str, state: StepState) -> dict[str, Any]:
    of = state.run or run.id
    failed = None if not state.failed else task_id(of, step_id, state.failed[-1])
    first = task_id(of, step_id, 0) if state.next else None
    what = "Deliberation" if state.deliberates else "Task"
    reason = state.reason or ("" if failed is None else f"{what} {failed} has no result; its error says why.")
    return {
        "id": step_id,
        "status": state.status.value,
        "tasks": state.total,
        "started": state.next,
        "open": len(state.open),
        "failed": len(state.failed),
        "failed_items": list(state.failed[:100]),
        "first_task_id": None if state.deliberates else first,
        "first_deliberation_id": first if state.deliberates else None,
        "code": None if state.code is None else state.code.value,
        "reason": reason if state.code is not None else "",
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "waits_until": state.until,
    }
