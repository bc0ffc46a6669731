"""The machine of a run: which of its steps start, and what becomes of it. It knows no clock; ``step`` gets the time.

A **step** goes through these states, and each change is made once:

    waiting → running      all that it waits for is over (and, if it handles a failure, that step has failed)
    waiting → skipped      the step whose failure it handles did not fail; its condition (``when``) is false, which is asked once
                           all that it waits for is over; or the run is failing
    waiting → failed       its condition cannot be evaluated
    waiting → cancelled    the run is being cancelled
    running → completed    all its tasks have completed, or have failed and may; the signal or the time that it waited for has
                           come; or the signal has not, and has a default
    running → failed       a task failed; what it should get cannot be had; or the signal has not come in time
    running → cancelled    another step's failure ends the run, or somebody does

A step that has failed is over if its run goes on without it, or when the step that handles its failure is over. A run that fails
or is cancelled ends when none of its tasks is open any more: those that are (`Run.stopping`) are asked to stop.

An event may come again, since whoever reads the log may read it twice: one that the state has taken in changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from cluster.domain.workflows.document import (
    MOST_ITEMS,
    MOST_TASKS,
    FailureCode,
    ItemFailure,
    RunStatus,
    Step,
    StepStatus,
    Workflow,
    waits_for,
)
from cluster.domain.workflows.indexes import Indexes

#: Tasks of one commit. One that stands alone counts as several items, since its input may be larger.
PAGE: Final = 500
ALONE: Final = 20
_OVER: Final = (StepStatus.COMPLETED, StepStatus.SKIPPED, StepStatus.CANCELLED)


class Condition(StrEnum):
    """How far the condition of a step is known. One that is false skips the step."""

    UNASKED = "unasked"
    ASKED = "asked"
    HOLDS = "holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """``fan_out``: it has a result for each item. ``total``: how many tasks it has, None until that is known. Those before
    ``next`` were started; ``open`` have not ended; ``failed`` have, without a result. ``code`` and ``reason``: why the step
    failed. Of a step without tasks: ``until``: when its wait is over; ``signal``: what has ended the wait, whose value is its
    result; ``result``: that of one that no signal has ended. ``run``: the run whose tasks it has, None for its own.
    ``deliberates``: its tasks are deliberations. Times are epoch seconds."""

    status: StepStatus = StepStatus.WAITING
    fan_out: bool = False
    total: int | None = None
    next: int = 0
    open: Indexes = field(default_factory=Indexes)
    failed: tuple[int, ...] = ()
    code: FailureCode | None = None
    reason: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    until: float | None = None
    signal: str | None = None
    result: Any = None
    condition: Condition = Condition.UNASKED
    run: str | None = None
    deliberates: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "fan_out": self.fan_out,
            "total": self.total,
            "next": self.next,
            "open": self.open.to_json(),
            "failed": self.failed,
            "code": None if self.code is None else self.code.value,
            "reason": self.reason,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "until": self.until,
            "signal": self.signal,
            "result": self.result,
            "condition": self.condition.value,
            "run": self.run,
            "deliberates": self.deliberates,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepState:
        values = dict(data) | {
            "status": StepStatus(data["status"]),
            "open": Indexes.from_json(data["open"]),
            "failed": tuple(data["failed"]),
            "code": None if data["code"] is None else FailureCode(data["code"]),
            "condition": Condition(data.get("condition", Condition.UNASKED)),
        }
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The state of a run. ``steps`` is empty before its first event. ``stopping``: tasks (step, index) that are to end, because
    nobody needs them any more."""

    workflow: Workflow
    status: RunStatus = RunStatus.RUNNING
    steps: Mapping[str, StepState] = field(default_factory=dict)
    stopping: frozenset[tuple[str, int]] = frozenset()
    ended_at: float | None = None

    @property
    def tasks(self) -> int:
        """How many tasks it has had, or is to have."""
        return sum(state.total or 0 for state in self.steps.values())

    @property
    def has_more(self) -> bool:
        """Whether tasks could start that were left for a later commit."""
        if self.status is not RunStatus.RUNNING:
            return False
        return any(
            _is_ready(step, self) and state.condition is not Condition.ASKED
            if (state := self.steps[step.id]).status is StepStatus.WAITING
            else _unstarted(step, state) > 0
            for step in self.workflow.steps.values()
            if step.id in self.steps
        )

    @property
    def due_at(self) -> float | None:
        """When the first of its steps that wait is over, if what they wait for does not come before; None if none is."""
        if self.status is not RunStatus.RUNNING:
            return None
        times = (state.until for state in self.steps.values() if state.status is StepStatus.RUNNING)
        return min((at for at in times if at is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": {step_id: state.to_json() for step_id, state in self.steps.items()},
            "stopping": sorted(self.stopping),
        }

    @classmethod
    def from_json(cls, workflow: Workflow, status: RunStatus, data: Mapping[str, Any], ended_at: float | None) -> Run:
        return cls(
            workflow=workflow,
            status=status,
            steps={step_id: StepState.from_json(state) for step_id, state in data.get("steps", {}).items()},
            stopping=frozenset((step_id, index) for step_id, index in data.get("stopping", ())),
            ended_at=ended_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The run has been started, or may go on. ``room``: how many tasks may start now."""

    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The list of a fan-out is known: it has ``count`` items."""

    step: str
    count: int
    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """What a step needs to go on cannot be had: whether its condition holds, the list of a fan-out, the time of a sleep."""

    step: str
    code: FailureCode
    reason: str
    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEnded:
    """A task or a deliberation of a step has ended, or could not start. ``code`` is None if it has completed."""

    step: str
    index: int
    code: FailureCode | None = None
    reason: str = ""
    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """It is known whether the condition of a step holds."""

    step: str
    holds: bool
    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleeps:
    """It is known until when a step sleeps (epoch seconds)."""

    step: str
    until: float
    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled:
    """A signal has come, for each step that waits for it."""

    name: str
    room: int = PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Time has passed, and each signal that has come was met."""

    room: int = PAGE


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the run to end."""


Event = Go | Judged | Counted | Unavailable | ItemEnded | Sleeps | Signalled | Due | CancelAsked


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The condition of a step is to be evaluated; the answer is `Judged` or `Unavailable`."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The list of a fan-out is to be read; the answer is `Counted` or `Unavailable`."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Tasks of a step are to be submitted; one that cannot be is answered with `ItemEnded`."""

    step: str
    indexes: range


@dataclass(frozen=True, slots=True, kw_only=True)
class Await:
    """A step has begun to wait. For a sleep the answer is `Sleeps` or `Unavailable`; for a signal that has come already
    `Signalled`."""

    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A step waits no more for a signal that has not come. It must not have come meanwhile."""

    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    step: str
    status: StepStatus
    code: FailureCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    status: RunStatus


Effect = Judge | Count | Start | Await | Missed | StepEnded | RunEnded

#: What a run that is ending ends as.
_ENDS: Final[Mapping[RunStatus, RunStatus]] = {
    RunStatus.FAILING: RunStatus.FAILED,
    RunStatus.CANCELLING: RunStatus.CANCELLED,
}
_GOES_ON: Final = frozenset({RunStatus.RUNNING, RunStatus.COMPLETED, RunStatus.FAILING, RunStatus.FAILED})
#: (status of a run, event) → the statuses that may follow. A pair that is not here changes nothing.
TRANSITIONS: Final[Mapping[tuple[RunStatus, type], frozenset[RunStatus]]] = {
    (RunStatus.RUNNING, Go): frozenset({RunStatus.RUNNING}),
    **{
        (RunStatus.RUNNING, event): _GOES_ON
        for event in (Judged, Counted, Unavailable, ItemEnded, Sleeps, Signalled, Due)
    },
    (RunStatus.RUNNING, CancelAsked): frozenset({RunStatus.CANCELLING, RunStatus.CANCELLED}),
    (RunStatus.FAILING, ItemEnded): frozenset({RunStatus.FAILING, RunStatus.FAILED}),
    (RunStatus.CANCELLING, ItemEnded): frozenset({RunStatus.CANCELLING, RunStatus.CANCELLED}),
}


def step(run: Run, event: Event, now: float) -> tuple[Run, tuple[Effect, ...]]:
    """The run after the event, and what is to be done."""
    if (run.status, type(event)) not in TRANSITIONS:
        return run, ()
    change = _Change(run, now)
    if isinstance(event, CancelAsked):
        change.end_steps(StepStatus.CANCELLED)
        change.status = RunStatus.CANCELLING
        change.go_on(0)
    else:
        change.take_in(event)
        change.go_on(event.room)
    return change.result(), tuple(change.effects)


def source_of(run: Run, step_id: str) -> str | None:
    """The step whose value a reference to a step has: its own, or that of the step that has handled its failure. None if there is
    no value."""
    if run.steps[step_id].status is StepStatus.COMPLETED:
        return step_id
    handler = run.workflow.steps[step_id].handled_by
    return None if handler is None else source_of(run, handler)


def _unstarted(step: Step, state: StepState) -> int:
    """How many tasks of a step may start now."""
    if state.status is not StepStatus.RUNNING or state.total is None:
        return 0
    return min(state.total - state.next, step.concurrency - len(state.open))


def _is_over(step: Step, run: Run | _Change) -> bool:
    status = run.steps[step.id].status
    if status is not StepStatus.FAILED:
        return status in _OVER
    if step.handled_by is not None:
        return _is_over(run.workflow.steps[step.handled_by], run)
    return step.continues


def _is_ready(step: Step, run: Run | _Change) -> bool:
    steps = run.workflow.steps
    others = waits_for(step, steps) - {step.handles}
    if not all(_is_over(steps[other], run) for other in others):
        return False
    return step.handles is None or run.steps[step.handles].status in (*_OVER, StepStatus.FAILED)


class _Change:
    """A run while one event is taken in."""

    def __init__(self, run: Run, now: float) -> None:
        self._run = run
        self._now = now
        self.workflow = run.workflow
        self.status = run.status
        self.steps = dict(run.steps) or dict.fromkeys(run.workflow.steps, StepState())
        self.stopping = set(run.stopping)
        self.effects: list[Effect] = []

    def result(self) -> Run:
        ended_at = self._now if self.status.ended else None
        return Run(
            workflow=self.workflow,
            status=self.status,
            steps=self.steps,
            stopping=frozenset(self.stopping),
            ended_at=ended_at,
        )

    def take_in(self, event: Event) -> None:
        match event:
            case Judged():
                self.judged(event)
            case Counted():
                self.counted(event)
            case Unavailable():
                if self.is_unknown(event.step):
                    self.fail(event.step, event.code, event.reason)
            case ItemEnded():
                self.item_ended(event)
            case Sleeps():
                self.sleeps(event)
            case Signalled():
                self.signalled(event.name)
            case Due():
                self.due()

    def is_unknown(self, step_id: str) -> bool:
        """Whether its condition, or its list or its time is not known."""
        state = self.steps[step_id]
        if state.status is StepStatus.WAITING:
            return state.condition is Condition.ASKED
        return state.status is StepStatus.RUNNING and state.total is None and state.until is None

    def judged(self, event: Judged) -> None:
        state = self.steps[event.step]
        if state.status is not StepStatus.WAITING or state.condition is not Condition.ASKED:
            return
        if event.holds:
            self.steps[event.step] = replace(state, condition=Condition.HOLDS)
        else:
            self._end(event.step, StepStatus.SKIPPED)

    def counted(self, event: Counted) -> None:
        if not self.is_unknown(event.step) or self.steps[event.step].status is not StepStatus.RUNNING:
            return
        bounds = ((event.count, MOST_ITEMS, "a fan-out"), (self._tasks() + event.count, MOST_TASKS, "a run"))
        for count, most, of in bounds:
            if count > most:
                self.fail(
                    event.step, FailureCode.LIMIT_EXCEEDED, f"{count:,} tasks are more than the {most:,} of {of}."
                )
                return
        self.steps[event.step] = replace(self.steps[event.step], total=event.count)

    def _tasks(self) -> int:
        return sum(state.total or 0 for state in self.steps.values())

    def item_ended(self, event: ItemEnded) -> None:
        self.stopping.discard((event.step, event.index))
        state, step = self.steps[event.step], self.workflow.steps[event.step]
        if event.index not in state.open:
            return
        state = replace(state, open=state.open - event.index)
        code = None if event.code is FailureCode.NO_CONSENSUS and step.takes_undecided else event.code
        if code is not None:
            state = replace(state, failed=(*state.failed, event.index))
        self.steps[event.step] = state
        if code is not None and (not step.is_map or step.on_item_failure is ItemFailure.FAIL):
            self.fail(event.step, code, event.reason)

    def sleeps(self, event: Sleeps) -> None:
        if self.is_unknown(event.step):
            self.steps[event.step] = replace(self.steps[event.step], until=event.until)
            self.due()

    def signalled(self, name: str) -> None:
        for step in self._waiting():
            if step.signal is not None and step.signal.name == name:
                self.steps[step.id] = replace(self.steps[step.id], signal=name)
                self._end(step.id, StepStatus.COMPLETED)

    def due(self) -> None:
        """Ends the steps whose time has come."""
        for step in self._waiting():
            until = self.steps[step.id].until
            # The run may have ended with one of those before.
            if until is None or until > self._now or self.steps[step.id].status is not StepStatus.RUNNING:
                continue
            if step.signal is not None:
                self.effects.append(Missed(signal=step.signal.name))
                if not step.signal.has_default:
                    reason = f"The signal {step.signal.name} has not come within {step.signal.timeout_s:g} seconds."
                    self.fail(step.id, FailureCode.SIGNAL_TIMEOUT, reason)
                    continue
                self.steps[step.id] = replace(self.steps[step.id], result=step.signal.default)
            self._end(step.id, StepStatus.COMPLETED)

    def _waiting(self) -> list[Step]:
        """The steps that wait for what is no task."""
        steps = self.workflow.steps.values()
        return [step for step in steps if step.waits and self.steps[step.id].status is StepStatus.RUNNING]

    def fail(self, step_id: str, code: FailureCode, reason: str) -> None:
        step = self.workflow.steps[step_id]
        self._end(step_id, StepStatus.FAILED, code, reason)
        if step.handled_by is None and not step.continues:
            self.end_steps(StepStatus.SKIPPED)
            self.status = RunStatus.FAILING

    def end_steps(self, waiting: StepStatus) -> None:
        """Ends all steps: those that run are cancelled, those that wait become ``waiting``."""
        for step_id, state in self.steps.items():
            if state.status is StepStatus.RUNNING:
                self._end(step_id, StepStatus.CANCELLED)
            elif state.status is StepStatus.WAITING:
                self._end(step_id, waiting)

    def _end(self, step_id: str, status: StepStatus, code: FailureCode | None = None, reason: str = "") -> None:
        state = self.steps[step_id]
        self.stopping.update((step_id, index) for index in state.open)
        self.steps[step_id] = replace(
            state, status=status, open=Indexes(), code=code, reason=reason, ended_at=self._now
        )
        self.effects.append(StepEnded(step=step_id, status=status, code=code))

    def go_on(self, room: int) -> None:
        """Starts and ends what can be; steps are in an order in which each comes after those that it waits for."""
        if self.status is RunStatus.RUNNING:
            for step in self.workflow.steps.values():
                room = self._go_on_with(step, room)
            if all(_is_over(step, self) for step in self.workflow.steps.values()) and not self.stopping:
                self._end_run(RunStatus.COMPLETED)
        if self.status in _ENDS and not self.stopping:
            self._end_run(_ENDS[self.status])

    def _go_on_with(self, step: Step, room: int) -> int:
        """Returns the room that is left."""
        if self.steps[step.id].status is StepStatus.WAITING and _is_ready(step, self):
            if step.handles is not None and self.steps[step.handles].status is not StepStatus.FAILED:
                self._end(step.id, StepStatus.SKIPPED)
                return room
            if step.when is not None and self.steps[step.id].condition is not Condition.HOLDS:
                self._ask(step.id)
                return room
            if step.waits:
                self._begin_to_wait(step)
                return room
            if not step.is_map and room < ALONE:
                return room
            if not step.is_map and self._tasks() >= MOST_TASKS:
                self.fail(step.id, FailureCode.LIMIT_EXCEEDED, f"A run may have {MOST_TASKS:,} tasks.")
                return room
            total = None if step.is_map else 1
            self.steps[step.id] = StepState(
                status=StepStatus.RUNNING,
                fan_out=step.is_map,
                total=total,
                started_at=self._now,
                deliberates=step.deliberates,
            )
            if step.is_map:
                self.effects.append(Count(step=step.id))
        state = self.steps[step.id]
        cost = 1 if step.is_map else ALONE
        count = min(_unstarted(step, state), room // cost)
        if count > 0:
            indexes = range(state.next, state.next + count)
            state = replace(state, next=indexes.stop, open=state.open | indexes)
            self.steps[step.id] = state
            self.effects.append(Start(step=step.id, indexes=indexes))
        if state.status is StepStatus.RUNNING and state.next == state.total and not state.open:
            self._end(step.id, StepStatus.COMPLETED)
        return room - count * cost

    def _ask(self, step_id: str) -> None:
        if self.steps[step_id].condition is Condition.UNASKED:
            self.steps[step_id] = replace(self.steps[step_id], condition=Condition.ASKED)
            self.effects.append(Judge(step=step_id))

    def _begin_to_wait(self, step: Step) -> None:
        most = None if step.signal is None else step.signal.timeout_s
        until = None if most is None else self._now + most
        self.steps[step.id] = StepState(status=StepStatus.RUNNING, started_at=self._now, until=until)
        self.effects.append(Await(step=step.id))

    def _end_run(self, status: RunStatus) -> None:
        self.status = status
        self.effects.append(RunEnded(status=status))
