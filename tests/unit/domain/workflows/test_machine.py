"""The machine of a run against what holds of every run: a step starts when what it waits for is over, each task once, within its
bounds, and the run ends when nothing of it is open."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.workflows.document import FailureCode, RunStatus, StepStatus, Workflow, waits_for, workflow_of
from cluster.domain.workflows.machine import (
    ALONE,
    PAGE,
    TRANSITIONS,
    Await,
    CancelAsked,
    Condition,
    Count,
    Counted,
    Due,
    Effect,
    Event,
    Go,
    ItemEnded,
    Judge,
    Judged,
    Missed,
    Run,
    RunEnded,
    Signalled,
    Sleeps,
    Start,
    StepEnded,
    Unavailable,
    step,
)
from tests.support.invariants import validate_run

FAILED = FailureCode.FAILED


def task_step(step_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "task": {"task_type": "t"}, **fields}


def map_step(step_id: str, concurrency: int | None = None, policy: str = "fail", **fields: Any) -> dict[str, Any]:
    fan_out = {"over": [], "concurrency": concurrency, "on_item_failure": policy, "task": {"task_type": "t"}}
    return {"id": step_id, "map": fan_out, **fields}


def signal_step(step_id: str, name: str = "go", timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
    default = {"default": fields.pop("default")} if "default" in fields else {}
    return {"id": step_id, "signal": {"name": name, "timeout_seconds": timeout_s, **default}, **fields}


def sleep_step(step_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "sleep": {"seconds": 3}, **fields}


def workflow(*steps: dict[str, Any]) -> Workflow:
    return workflow_of({"name": "w", "steps": list(steps)})


class Played:
    """A run, and what its effects have asked for."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        self.run = Run(workflow=workflow(*steps))
        self.started: list[tuple[str, int]] = []
        self.counting: set[str] = set()
        self.awaiting: list[str] = []
        self.asked: list[str] = []
        self.missed: list[str] = []
        self.now = 1.0
        self.ended: dict[str, StepStatus] = {}
        self.outcome: RunStatus | None = None
        self.page = 0

    def meets(self, event: Event) -> tuple[Effect, ...]:
        before = self.run
        self.run, effects = step(before, event, self.now)
        assert self.run.status is before.status or self.run.status in TRANSITIONS[before.status, type(event)]
        self.page = 0
        for effect in effects:
            self._note(effect)
        validate_run(self.run)
        # What is stored is what is read.
        state = json.loads(json.dumps(self.run.to_json()))
        assert Run.from_json(self.run.workflow, self.run.status, state, self.run.ended_at) == self.run
        return effects

    def _note(self, effect: Effect) -> None:
        assert self.outcome is None, "a run that has ended does nothing"
        match effect:
            case Start():
                of = self.run.workflow.steps[effect.step]
                self.page += len(effect.indexes) * (1 if of.is_map else ALONE)
                for index in effect.indexes:
                    assert (effect.step, index) not in self.started, "each task starts once"
                    self.started.append((effect.step, index))
            case Count():
                self.counting.add(effect.step)
            case Judge():
                assert effect.step not in self.asked, "a condition is asked once"
                assert self.statuses[effect.step] == "waiting"
                self.asked.append(effect.step)
            case Await():
                assert effect.step not in self.awaiting, "each step begins to wait once"
                self.awaiting.append(effect.step)
            case Missed():
                self.missed.append(effect.signal)
            case StepEnded():
                assert effect.step not in self.ended, "a step ends once"
                self.ended[effect.step] = effect.status
            case RunEnded():
                self.outcome = effect.status

    def ends(self, step_id: str, *indexes: int, code: FailureCode | None = None) -> None:
        for index in indexes or (0,):
            self.meets(ItemEnded(step=step_id, index=index, code=code))

    @property
    def statuses(self) -> dict[str, str]:
        return {step_id: state.status.value for step_id, state in self.run.steps.items()}


def test_steps_start_when_those_before_have_completed() -> None:
    played = Played(task_step("c", after=["a", "b"]), task_step("a"), task_step("b", after=["a"]))
    played.meets(Go())
    assert played.started == [("a", 0)]
    played.ends("a")
    assert played.started == [("a", 0), ("b", 0)]
    played.ends("b")
    played.ends("c")
    assert played.outcome is RunStatus.COMPLETED


def test_a_failure_ends_the_run_when_open_tasks_have_ended() -> None:
    played = Played(task_step("a"), task_step("b"), task_step("c", after=["b"]))
    played.meets(Go())
    played.ends("a", code=FailureCode.TIMEOUT)
    assert played.run.status is RunStatus.FAILING
    assert played.run.stopping == {("b", 0)}
    assert played.statuses == {"a": "failed", "b": "cancelled", "c": "skipped"}
    played.ends("b")
    assert played.outcome is RunStatus.FAILED


def test_a_step_that_may_fail_lets_those_after_it_start() -> None:
    played = Played(task_step("a", on_failure="continue"), task_step("b", after=["a"]))
    played.meets(Go())
    played.ends("a", code=FAILED)
    played.ends("b")
    assert played.outcome is RunStatus.COMPLETED


@pytest.mark.parametrize("fails", [True, False])
def test_a_handler_runs_only_after_a_failure(fails: bool) -> None:
    steps = (task_step("a", on_failure={"step": "h"}), task_step("h"), task_step("b", after=["a"]))
    played = Played(*steps)
    played.meets(Go())
    assert played.started == [("a", 0)]
    played.ends("a", code=FAILED if fails else None)
    if fails:
        assert played.started == [("a", 0), ("h", 0)], "b waits for what handles the failure"
        played.ends("h")
    played.ends("b")
    assert played.statuses["h"] == ("completed" if fails else "skipped")
    assert played.outcome is RunStatus.COMPLETED


def test_a_handler_that_fails_ends_the_run() -> None:
    played = Played(task_step("a", on_failure={"step": "h"}), task_step("h"), task_step("b", after=["a"]))
    played.meets(Go())
    played.ends("a", code=FAILED)
    played.ends("h", code=FAILED)
    assert (played.outcome, played.statuses["b"]) == (RunStatus.FAILED, "skipped")


def test_a_fan_out_keeps_to_its_bound() -> None:
    played = Played(map_step("m", 3))
    played.meets(Go())
    played.meets(Counted(step="m", count=5))
    assert played.started == [("m", 0), ("m", 1), ("m", 2)]
    played.ends("m", 1)
    assert played.started[3:] == [("m", 3)]
    played.ends("m", 0, 2, 3, 4)
    assert played.outcome is RunStatus.COMPLETED


def test_a_fan_out_starts_in_pages() -> None:
    played = Played(map_step("m"))
    played.meets(Go())
    played.meets(Counted(step="m", count=2 * PAGE + 1))
    pages = [len(played.started)]
    while played.run.has_more:
        played.meets(Go())
        pages.append(len(played.started))
    assert pages == [PAGE, 2 * PAGE, 2 * PAGE + 1]


def test_an_empty_fan_out_completes_at_once() -> None:
    played = Played(map_step("m"))
    played.meets(Go())
    played.meets(Counted(step="m", count=0))
    assert played.outcome is RunStatus.COMPLETED


@pytest.mark.parametrize("policy", ["fail", "continue"])
def test_a_failed_item_does_what_the_policy_says(policy: str) -> None:
    played = Played(map_step("m", policy=policy))
    played.meets(Go())
    played.meets(Counted(step="m", count=3))
    played.ends("m", 1, code=FAILED)
    assert played.run.stopping == ({("m", 0), ("m", 2)} if policy == "fail" else frozenset())
    played.ends("m", 0, 2)
    assert played.outcome is (RunStatus.FAILED if policy == "fail" else RunStatus.COMPLETED)


@pytest.mark.parametrize(("count", "code"), [(10_001, FailureCode.LIMIT_EXCEEDED), (10_000, None)])
def test_a_fan_out_has_at_most_ten_thousand_items(count: int, code: FailureCode | None) -> None:
    played = Played(map_step("m", 1))
    played.meets(Go())
    played.meets(Counted(step="m", count=count))
    assert played.run.steps["m"].code is code


def test_a_run_has_at_most_a_hundred_thousand_tasks() -> None:
    steps = [map_step(f"m{n}", 1) for n in range(10)]
    played = Played(task_step("one"), *steps)
    played.meets(Go())
    for n in range(10):
        played.meets(Counted(step=f"m{n}", count=10_000))
    assert played.run.steps["m9"].code is FailureCode.LIMIT_EXCEEDED


def test_a_cancelled_run_ends_when_its_tasks_have() -> None:
    played = Played(task_step("a"), task_step("b", after=["a"]))
    played.meets(Go())
    played.meets(CancelAsked())
    assert (played.run.status, played.statuses) == (RunStatus.CANCELLING, {"a": "cancelled", "b": "cancelled"})
    played.ends("a", code=FailureCode.CANCELLED)
    assert played.outcome is RunStatus.CANCELLED


def test_a_signal_ends_the_steps_that_wait_for_it() -> None:
    played = Played(signal_step("a"), signal_step("b", "other"), task_step("c", after=["a"]))
    played.meets(Go())
    assert (played.awaiting, played.started) == (["a", "b"], [])
    played.meets(Signalled(name="go"))
    assert played.statuses == {"a": "completed", "b": "running", "c": "running"}
    assert (played.run.steps["a"].signal, played.run.due_at) == ("go", None)


@pytest.mark.parametrize("default", [{}, {"default": None}, {"default": 7}], ids=["none", "null", "seven"])
def test_a_signal_that_does_not_come_has_its_default(default: dict[str, Any]) -> None:
    played = Played(signal_step("a", timeout_s=5, **default))
    played.meets(Go())
    assert played.run.due_at == 6.0
    played.now = 5.9
    played.meets(Due())
    assert played.statuses == {"a": "running"}
    played.now = 6.0
    played.meets(Due())
    state = played.run.steps["a"]
    assert played.missed == ["go"]
    if default:
        assert (played.outcome, state.result, state.signal) == (RunStatus.COMPLETED, default["default"], None)
    else:
        assert (played.outcome, state.code) == (RunStatus.FAILED, FailureCode.SIGNAL_TIMEOUT)


def test_a_sleep_ends_when_its_time_has_come() -> None:
    played = Played(sleep_step("a"), sleep_step("b", after=["a"]))
    played.meets(Go())
    played.meets(Sleeps(step="a", until=4.0))
    assert (played.run.due_at, played.statuses["a"]) == (4.0, "running")
    played.now = 4.0
    played.meets(Due())
    assert (played.awaiting, played.statuses) == (["a", "b"], {"a": "completed", "b": "running"})
    played.meets(Sleeps(step="b", until=3.0))
    assert played.outcome is RunStatus.COMPLETED, "a time that has passed is waited for no more"


def test_of_two_that_are_due_a_failure_ends_the_other() -> None:
    played = Played(signal_step("a", timeout_s=5), signal_step("b", timeout_s=5))
    played.meets(Go())
    played.now = 6.0
    played.meets(Due())
    assert (played.outcome, played.statuses) == (RunStatus.FAILED, {"a": "failed", "b": "cancelled"})
    assert played.missed == ["go"]


def test_a_condition_is_asked_when_its_step_could_start() -> None:
    steps = (task_step("a"), task_step("b", when="a > 1.0", after=["c"]), task_step("c"), task_step("d", after=["b"]))
    played = Played(*steps)
    played.meets(Go())
    played.ends("c")
    assert played.asked == [], "a, which it names, is not over"
    played.ends("a")
    assert (played.asked, played.statuses["b"]) == (["b"], "waiting")
    played.meets(Judged(step="b", holds=True, room=ALONE - 1))
    assert played.started == [("a", 0), ("c", 0)], "there is no room in this commit"
    assert played.run.has_more
    played.meets(Go())
    assert (played.asked, played.started[2:]) == (["b"], [("b", 0)])


def test_a_step_whose_condition_is_false_is_over() -> None:
    when = {"when": "input == null"}
    played = Played(map_step("a", **when), signal_step("b", **when), task_step("c", after=["a", "b"], **when))
    played.meets(Go())
    for step_id in ("a", "b", "c"):
        assert played.outcome is None
        played.meets(Judged(step=step_id, holds=False))
    assert (played.outcome, set(played.statuses.values())) == (RunStatus.COMPLETED, {"skipped"})


@pytest.mark.parametrize("continues", [True, False])
def test_a_condition_that_cannot_be_evaluated_fails_its_step(continues: bool) -> None:
    played = Played(task_step("a", when="input > 1.0", on_failure="continue" if continues else "fail"))
    played.meets(Go())
    played.meets(Unavailable(step="a", code=FailureCode.CONDITION_FAILED, reason="why"))
    state = played.run.steps["a"]
    assert (state.status, state.code, state.reason) == (StepStatus.FAILED, FailureCode.CONDITION_FAILED, "why")
    assert played.outcome is (RunStatus.COMPLETED if continues else RunStatus.FAILED)


@pytest.mark.parametrize("fails", [True, False])
def test_a_handler_is_asked_only_after_a_failure(fails: bool) -> None:
    handler = task_step("h", when='failure.code == "task_timeout"')
    played = Played(task_step("a", on_failure={"step": "h"}), handler, task_step("b", after=["a"]))
    played.meets(Go())
    assert played.asked == []
    played.ends("a", code=FAILED if fails else None)
    assert played.asked == (["h"] if fails else [])
    if fails:
        played.meets(Judged(step="h", holds=False))
    assert played.statuses["h"] == "skipped"
    assert played.started[-1] == ("b", 0), "what is after a step goes on if its failure needs no handler"


POLICIES = st.sampled_from(["fail", "continue"])


@st.composite
def documents(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Steps that wait for some of those before them, of which some handle the failure of an earlier one."""
    steps: list[dict[str, Any]] = []
    for n in range(draw(st.integers(1, 5))):
        after = draw(st.lists(st.sampled_from([step["id"] for step in steps]), unique=True)) if steps else []
        fields = {"after": after, "on_failure": draw(POLICIES)}
        if draw(st.integers(0, 3)) == 0:
            fields["when"] = "input == null"
        kind = draw(st.sampled_from(["map", "task", "signal", "sleep"]))
        if kind == "signal":
            timed = draw(st.sampled_from([{}, {"timeout_s": 2}, {"timeout_s": 2, "default": 0}]))
            steps.append(signal_step(f"s{n}", draw(st.sampled_from(["go", "stop"])), **timed, **fields))
        elif kind == "sleep":
            steps.append(sleep_step(f"s{n}", **fields))
        elif kind == "map":
            steps.append(map_step(f"s{n}", draw(st.sampled_from([None, 1, 2])), draw(POLICIES), **fields))
        else:
            steps.append(task_step(f"s{n}", **fields))
        if draw(st.integers(0, 3)) == 0:
            steps[-1]["on_failure"] = {"step": f"h{n}"}
            steps.append(task_step(f"h{n}", on_failure=draw(POLICIES)))
    return steps


class Life(RuleBasedStateMachine):
    """Any life of any run: events come in any order, and again."""

    played: Played

    @initialize(steps=documents())
    def begins(self, steps: list[dict[str, Any]]) -> None:
        self.played = Played(*steps)
        self.waiting: list[tuple[str, int]] = []
        self.past: list[Event] = []
        self._meets(Go())

    def _meets(self, event: Event) -> None:
        before = len(self.played.started)
        room = 0 if isinstance(event, CancelAsked) else event.room
        self.played.meets(event)
        assert self.played.page <= room, "a commit has a bounded number of tasks"
        self.waiting += self.played.started[before:]
        self.past.append(event)

    @precondition(lambda self: self.played.counting)
    @rule(count=st.integers(0, 4), room=st.sampled_from([0, 1, 2, PAGE]), data=st.data())
    def is_counted(self, count: int, room: int, data: st.DataObject) -> None:
        step_id = data.draw(st.sampled_from(sorted(self.played.counting)))
        self.played.counting.discard(step_id)
        if count == 4:
            self._meets(Unavailable(step=step_id, code=FailureCode.INPUT_UNRESOLVED, reason="", room=room))
        else:
            self._meets(Counted(step=step_id, count=count, room=room))

    @precondition(lambda self: self.unjudged)
    @rule(holds=st.sampled_from([True, True, False, None]), room=st.sampled_from([0, PAGE]), data=st.data())
    def is_judged(self, holds: bool | None, room: int, data: st.DataObject) -> None:
        step_id = data.draw(st.sampled_from(sorted(self.unjudged)))
        if holds is None:
            self._meets(Unavailable(step=step_id, code=FailureCode.CONDITION_FAILED, reason="", room=room))
        else:
            self._meets(Judged(step=step_id, holds=holds, room=room))
        assert step_id not in self.unjudged

    @property
    def unjudged(self) -> set[str]:
        return {
            step_id
            for step_id, state in self.played.run.steps.items()
            if (state.status, state.condition) == (StepStatus.WAITING, Condition.ASKED)
        }

    @rule(name=st.sampled_from(["go", "stop"]))
    def signal_comes(self, name: str) -> None:
        self._meets(Signalled(name=name))

    @precondition(lambda self: self.sleepless)
    @rule(length=st.sampled_from([None, 0, 1, 3]), data=st.data())
    def sleep_is_known(self, length: int | None, data: st.DataObject) -> None:
        step_id = data.draw(st.sampled_from(sorted(self.sleepless)))
        if length is None:
            self._meets(Unavailable(step=step_id, code=FailureCode.NOT_A_TIME, reason=""))
        else:
            self._meets(Sleeps(step=step_id, until=self.played.now + length))

    @rule(seconds=st.integers(0, 2))
    def time_passes(self, seconds: int) -> None:
        self.played.now += seconds
        self._meets(Due())
        due_at = self.played.run.due_at
        assert due_at is None or due_at > self.played.now

    @property
    def sleepless(self) -> set[str]:
        """Sleeps of which it is not known how long they are."""
        run = self.played.run
        return {
            step_id
            for step_id, state in run.steps.items()
            if run.workflow.steps[step_id].sleep and state.until is None and state.status is StepStatus.RUNNING
        }

    @property
    def waits(self) -> set[str]:
        run = self.played.run
        running = {step_id for step_id, state in run.steps.items() if state.status is StepStatus.RUNNING}
        return {step_id for step_id in running if run.workflow.steps[step_id].waits}

    @invariant()
    def what_waits_has_begun_to_and_not_ended(self) -> None:
        assert self.waits == set(self.played.awaiting) - self.played.ended.keys()

    @precondition(lambda self: self.waiting)
    @rule(fails=st.integers(0, 4), room=st.sampled_from([0, ALONE, PAGE]), data=st.data())
    def task_ends(self, fails: int, room: int, data: st.DataObject) -> None:
        step_id, index = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.remove((step_id, index))
        self._meets(ItemEnded(step=step_id, index=index, code=None if fails else FAILED, room=room))

    @rule(room=st.sampled_from([0, ALONE, PAGE]))
    def goes_on(self, room: int) -> None:
        self._meets(Go(room=room))

    @rule(often=st.integers(0, 9))
    def is_cancelled(self, often: int) -> None:
        if often == 0:
            self._meets(CancelAsked())

    @rule(data=st.data())
    def meets_again_what_it_has_met(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from([item for item in self.past if not isinstance(item, CancelAsked)]))
        before, ended = self.played.run.steps, dict(self.played.ended)
        self._meets(event)
        if isinstance(event, ItemEnded | Counted | Unavailable):
            after = self.played.run.steps[event.step]
            assert (after.failed, after.total) == (before[event.step].failed, before[event.step].total)
            assert self.played.ended.get(event.step, ended.get(event.step)) == self.played.ended.get(event.step)

    @invariant()
    def steps_have_waited_and_keep_to_their_bounds(self) -> None:
        run = self.played.run
        for step_id, state in run.steps.items():
            of = run.workflow.steps[step_id]
            assert len(state.open) <= of.concurrency
            if state.started_at is not None:
                assert (of.when is None) or (step_id in self.played.asked)
                for other in waits_for(of, run.workflow.steps):
                    assert run.steps[other].status not in (StepStatus.WAITING, StepStatus.RUNNING)
            if of.handles is not None and state.started_at is not None:
                assert run.steps[of.handles].status is StepStatus.FAILED

    @invariant()
    def what_is_open_is_what_has_started_and_not_ended(self) -> None:
        run = self.played.run
        known = {(step_id, index) for step_id, state in run.steps.items() for index in state.open}
        assert known | run.stopping == set(self.waiting)

    @invariant()
    def a_run_has_ended_when_and_only_when_nothing_is_left(self) -> None:
        left: Iterable[Any] = (
            *self.waiting,
            *((*self.played.counting, *self.waits, *self.unjudged) if self._is_running() else ()),
        )
        if self.played.outcome is not None:
            assert not self.waiting
            assert all(state.ended_at is not None for state in self.played.run.steps.values())
        elif not left:
            assert self.played.run.has_more, "a run that waits for nothing has ended"

    def _is_running(self) -> bool:
        return self.played.run.status is RunStatus.RUNNING


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
