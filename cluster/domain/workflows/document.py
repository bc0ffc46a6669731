"""A workflow: the steps of a document, checked and in an order in which each comes after those that it waits for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.expressions import Expression, expression
from cluster.domain.base.log import IDENTITY, LogTexts
from cluster.domain.workflows.values import FAILURE, INPUT, ITEM, SOURCES, references, resolved
from cluster.domain.workflows.waits import NoTime, Signal, Sleep

#: Steps of a document, items of one fan-out, and tasks of a run.
MOST_STEPS: Final = 500
MOST_ITEMS: Final = 10_000
MOST_TASKS: Final = 100_000
#: Workflows of a workspace, and versions of one.
MOST_WORKFLOWS: Final = 1000
MOST_VERSIONS: Final = 10_000
STEP_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_STEP: Final = re.compile(STEP_PATTERN)
#: In a filter: the place of the item in the list, from 0.
INDEX: Final = "index"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What advances runs, for whoever started them.
PRINCIPAL: Final = "system:workflows"


class ItemFailure(StrEnum):
    """What a failed item means to its fan-out: it fails too and stops the others, or the item's place stays null."""

    FAIL = "fail"
    CONTINUE = "continue"


class RunStatus(StrEnum):
    """``failing`` and ``cancelling``: nothing starts any more, and some tasks have not ended."""

    RUNNING = "running"
    FAILING = "failing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


class StepStatus(StrEnum):
    """``skipped``: it was not needed, its condition was false, or the run failed before it."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class FailureCode(StrEnum):
    """Why a step or an item failed. The first three are ends of its task, the last four of its deliberation."""

    FAILED = "task_failed"
    CANCELLED = "task_cancelled"
    TIMEOUT = "task_timeout"
    INPUT_UNRESOLVED = "input_unresolved"
    INPUT_TOO_LARGE = "input_too_large"
    NOT_A_LIST = "not_a_list"
    NOT_A_TIME = "not_a_time"
    CONDITION_FAILED = "condition_failed"
    SIGNAL_TIMEOUT = "signal_timeout"
    LIMIT_EXCEEDED = "limit_exceeded"
    RESULT_REMOVED = "result_removed"
    POLICY_DENIED = "policy_denied"
    INVALID_DELIBERATION = "invalid_deliberation"
    NO_CONSENSUS = "no_consensus"
    DELIBERATION_FAILED = "deliberation_failed"
    DELIBERATION_CANCELLED = "deliberation_cancelled"
    DELIBERATION_TIMEOUT = "deliberation_timeout"


#: The texts in the data of ``workflow.`` rows.
LOG_TEXTS: LogTexts = {
    **dict.fromkeys(("workflow", "run_id", "replays", "step", "signal", "erasure"), IDENTITY),
    "status": frozenset((*RunStatus, *StepStatus)),
    "code": frozenset(FailureCode),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A task, or with ``over`` one task for each item of the list that this becomes, or the wait for a signal or a time.
    ``input``: the template of the payload. ``filter``: which items there is a task for; ``when``: whether there is the step.
    ``deliberates``: its tasks are deliberations, and ``input`` is the template of what is asked; ``takes_undecided``: one that
    ends without a decision is no failure.

    ``after``: the steps that it waits for, named or referred to. ``handles``: the step whose failure it handles.
    ``handled_by``: the step that handles its own. ``continues``: the run goes on without its result if it fails."""

    id: str
    input: Any = None
    over: Any = None
    is_map: bool = False
    concurrency: int = MOST_ITEMS
    on_item_failure: ItemFailure = ItemFailure.FAIL
    after: frozenset[str] = frozenset()
    handles: str | None = None
    handled_by: str | None = None
    continues: bool = False
    when: Expression | None = None
    filter: Expression | None = None
    signal: Signal | None = None
    sleep: Sleep | None = None
    deliberates: bool = False
    takes_undecided: bool = False

    @property
    def waits(self) -> bool:
        """Whether it has no tasks."""
        return self.signal is not None or self.sleep is not None


@dataclass(frozen=True, slots=True)
class Workflow:
    """``steps``: each comes after those that it waits for."""

    steps: Mapping[str, Step]


def workflow_of(document: Mapping[str, Any]) -> Workflow:
    """The workflow of a document that fits the schema.

    Raises: `InvalidRequest` if ids are not unique, a step refers to what it cannot have, or steps wait for each other."""
    given: Sequence[Mapping[str, Any]] = document["steps"]
    if not 1 <= len(given) <= MOST_STEPS:
        raise InvalidRequest(f"A workflow has 1 to {MOST_STEPS} steps.", "limit_exceeded" if given else INVALID)
    ids = [step["id"] for step in given]
    for step_id in ids:
        _check_step_id(step_id)
        if ids.count(step_id) > 1:
            raise InvalidRequest(f"Two steps are called {step_id}; give each an id of its own.", INVALID)
    handlers: dict[str, str] = {}
    for step in given:
        handler = _handler(step)
        if handler is None:
            continue
        if handler not in ids or handler == step["id"]:
            raise InvalidRequest(f"on_failure of {step['id']} must name another step of the workflow.", INVALID)
        if handler in handlers:
            raise InvalidRequest(f"{handler} handles the failure of two steps; give each a step of its own.", INVALID)
        handlers[handler] = step["id"]
    steps = {step["id"]: _step(step, frozenset(ids), handlers) for step in given}
    return Workflow(_in_order(steps))


INVALID: Final = "invalid_workflow"


def _check_step_id(step_id: str) -> None:
    if _STEP.fullmatch(step_id) is None:
        raise InvalidRequest(
            "The id of a step must be 1 to 64 characters from A-Z a-z 0-9 _ - and start with a letter or digit.",
            INVALID,
        )
    if step_id in SOURCES:
        raise InvalidRequest(f"No step can be called {step_id}, which references use for something else.", INVALID)


def _handler(step: Mapping[str, Any]) -> str | None:
    policy = step.get("on_failure", "fail")
    return None if isinstance(policy, str) else str(policy["step"])


#: Of a deliberation: the field that says whether one without a decision is a failure.
ON_NO_CONSENSUS: Final = "on_no_consensus"
#: What a step is, by the field that says so.
KINDS: Final = ("task", "deliberation", "map", "signal", "sleep")


def _step(given: Mapping[str, Any], ids: frozenset[str], handlers: Mapping[str, str]) -> Step:
    step_id = given["id"]
    if sum(given.get(kind) is not None for kind in KINDS) != 1:
        raise InvalidRequest(f"Step {step_id} must have one of {', '.join(KINDS)}.", INVALID)
    handles = handlers.get(step_id)
    known = ids | {INPUT} | ({FAILURE} if handles else set())
    fields, used = _work(given, known)
    when = None
    if given.get("when") is not None:
        when = _condition(f"when of {step_id}", given["when"], known)
        used |= when.names
    named = frozenset(given.get("after", ()))
    for other in sorted(named - ids):
        raise InvalidRequest(f"after of {step_id} names a step that does not exist: {other}.", INVALID)
    return Step(
        id=step_id,
        after=named | (used & ids) | ({handles} if handles else set()),
        handles=handles,
        handled_by=_handler(given),
        when=when,
        continues=given.get("on_failure", "fail") == "continue",
        **fields,
    )


def _work(given: Mapping[str, Any], known: frozenset[str]) -> tuple[dict[str, Any], set[str]]:
    """(the fields of what a step does, the sources that it refers to). ``known``: the sources that it may refer to.

    Raises: `InvalidRequest` if it refers to another one, or a sleep says no time."""
    step_id = given["id"]
    if (signal := given.get("signal")) is not None:
        return {"signal": Signal.of(signal)}, set()
    if given.get("sleep") is not None:
        sleep = Sleep.of(given["sleep"])
        used = _used(step_id, sleep.length, known)
        try:
            if not used:
                sleep.check(resolved(sleep.length, {}))
        except NoTime as error:
            raise InvalidRequest(f"Step {step_id}: {error.message}", INVALID) from None
        return {"sleep": sleep}, used
    if given.get("map") is None:
        work = _job(given)
        return work, _used(step_id, work["input"], known)
    fan_out = given["map"]
    if (fan_out.get("task") is None) is (fan_out.get("deliberation") is None):
        raise InvalidRequest(f"map of {step_id} must have either task or deliberation.", INVALID)
    work, over = _job(fan_out), fan_out["over"]
    if not isinstance(over, list | Mapping):
        raise InvalidRequest(f"over of {step_id} must be a list or a reference to one.", INVALID)
    fields = {
        **work,
        "over": over,
        "is_map": True,
        "concurrency": fan_out.get("concurrency") or MOST_ITEMS,
        "on_item_failure": ItemFailure(fan_out.get("on_item_failure", "fail")),
    }
    used = _used(step_id, work["input"], known | {ITEM}) | _used(step_id, over, known - {FAILURE})
    if fan_out.get("filter") is not None:
        keeps = _condition(f"filter of {step_id}", fan_out["filter"], (known - {FAILURE}) | {ITEM, INDEX})
        fields["filter"] = keeps
        used |= keeps.names - {ITEM, INDEX}
    return fields, used


def _job(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of what is done once, or for each item: a task or a deliberation."""
    if (task := given.get("task")) is not None:
        return {"input": task.get("input", {})}
    asked = {name: value for name, value in given["deliberation"].items() if name != ON_NO_CONSENSUS}
    takes_undecided = given["deliberation"].get(ON_NO_CONSENSUS) == "complete"
    return {"input": asked, "deliberates": True, "takes_undecided": takes_undecided}


def _condition(where: str, source: str, known: frozenset[str]) -> Expression:
    """``known``: the sources that it may name; those that are no names in CEL it cannot.

    Raises: `InvalidRequest` (``invalid_condition``)."""
    try:
        return expression(source, frozenset(name for name in known if _NAME.fullmatch(name)))
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error.message}", error.code) from None


def _used(step_id: str, template: Any, known: frozenset[str] | set[str]) -> set[str]:
    used = {reference.source for reference in references(template)}
    for source in sorted(used - known):
        raise InvalidRequest(
            f'Step {step_id} refers to "{source[:64]}", which is no value that it has: give input, an earlier step, item (in a '
            'map) or failure (in a step that handles one); write {"literal": …} around what is no reference.',
            INVALID,
        )
    return used


def deliberates(document: Mapping[str, Any]) -> bool:
    """Whether runs of a document start deliberations."""
    of_steps = (part for step in document["steps"] for part in (step, step.get("map") or {}))
    return any(part.get("deliberation") is not None for part in of_steps)


def waits_for(step: Step, steps: Mapping[str, Step]) -> frozenset[str]:
    """The steps that have to be over: those that it is after, and those that handle their failures."""
    handlers = {steps[other].handled_by for other in step.after} - {step.id, None}
    return step.after | frozenset(handler for handler in handlers if handler is not None)


def _in_order(steps: Mapping[str, Step]) -> Mapping[str, Step]:
    """Raises: `InvalidRequest` if steps wait for each other."""
    left = {step_id: set(waits_for(step, steps)) for step_id, step in steps.items()}
    ordered: dict[str, Step] = {}
    while left:
        ready = [step_id for step_id, others in left.items() if not others - ordered.keys()]
        if not ready:
            raise InvalidRequest(f"Steps wait for each other: {', '.join(sorted(left)[:5])}.", INVALID)
        for step_id in ready:
            ordered[step_id] = steps[step_id]
            del left[step_id]
    return ordered
