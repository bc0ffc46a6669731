"""What a replay keeps of a run: steps whose outcome stands and that come after none that runs anew."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.domain.base.errors import Conflict, InvalidRequest
from cluster.domain.workflows.document import FailureCode, RunStatus
from cluster.domain.workflows.machine import CancelAsked, Go, ItemEnded, Judged, Signalled, step
from cluster.domain.workflows.replay import replay_of
from tests.unit.domain.workflows.test_machine import Played, signal_step, task_step

DIAMOND = (task_step("a"), task_step("b", after=["a"]), task_step("c", after=["a"]), task_step("d", after=["b", "c"]))
HANDLED = (task_step("a", on_failure={"step": "h"}), task_step("h"), task_step("b", after=["a"]))


def anew(played: Played, from_step: str | None = None) -> str:
    run = replay_of(played.run, "wfrun_0", from_step)
    assert {state.run for state in run.steps.values() if state.status.value != "waiting"} <= {"wfrun_0"}
    return " ".join(sorted(step_id for step_id, state in run.steps.items() if state.status.value == "waiting"))


def ended(*steps: dict[str, Any], fails: str = "", **judged: bool) -> Played:
    """A run of which some steps fail."""
    played = Played(*steps)
    played.meets(Go())
    while played.outcome is None:
        for step_id in played.asked:
            played.meets(Judged(step=step_id, holds=judged[step_id]))
        for step_id, index in list(played.started):
            code = FailureCode.FAILED if step_id in fails.split() else None
            played.meets(ItemEnded(step=step_id, index=index, code=code))
    return played


@pytest.mark.parametrize(
    ("fails", "from_step", "expected"),
    [
        ("", "a", "a b c d"),
        ("", "b", "b d"),
        ("", "d", "d"),
        ("d", None, "d"),
        ("d", "c", "c d"),
    ],
)
def test_what_comes_after_a_step_runs_anew(fails: str, from_step: str | None, expected: str) -> None:
    assert anew(ended(*DIAMOND, fails=fails), from_step) == expected


@pytest.mark.parametrize(
    ("fails", "from_step", "expected"),
    [
        ("", "b", "b"),
        ("", "h", "b h"),
        ("a", "b", "b"),
        ("a", "h", "b h"),
        ("a", "a", "a b h"),
        ("a h", None, "b h"),
    ],
)
def test_a_failure_that_is_handled_stands(fails: str, from_step: str | None, expected: str) -> None:
    assert anew(ended(*HANDLED, fails=fails), from_step) == expected


def test_a_condition_that_was_false_stands() -> None:
    steps = (task_step("a"), task_step("b", when="false", after=["a"]), task_step("c", after=["b"]))
    assert anew(ended(*steps, fails="c", b=False)) == "c"
    assert anew(ended(*steps, fails="a", b=False)) == "a b c"


def test_a_failure_that_the_run_went_on_without_stands() -> None:
    steps = (task_step("a", on_failure="continue"), task_step("b", after=["a"]))
    assert anew(ended(*steps, fails="a b")) == "b"


def test_what_was_cancelled_runs_anew() -> None:
    played = Played(task_step("a"), signal_step("b"), task_step("c", after=["b"]))
    played.meets(Go())
    played.meets(Signalled(name="go"))
    played.meets(ItemEnded(step="a", index=0))
    played.meets(CancelAsked())
    played.meets(ItemEnded(step="c", index=0, code=FailureCode.CANCELLED))
    assert played.outcome is RunStatus.CANCELLED
    assert anew(played) == "c"
    assert replay_of(played.run, "wfrun_0", None).steps["b"].signal == "go"


def test_a_replay_of_a_replay_refers_to_the_first_run() -> None:
    first = replay_of(ended(*DIAMOND).run, "wfrun_0", "d")
    again, _ = step(first, Go(), 2.0)
    again, _ = step(again, ItemEnded(step="d", index=0), 3.0)
    assert again.status is RunStatus.COMPLETED
    runs = {step_id: state.run for step_id, state in replay_of(again, "wfrun_1", "d").steps.items()}
    assert runs == {"a": "wfrun_0", "b": "wfrun_0", "c": "wfrun_0", "d": None}


def test_what_cannot_be_replayed() -> None:
    with pytest.raises(InvalidRequest):
        anew(ended(*DIAMOND), "x")
    with pytest.raises(Conflict):
        anew(ended(*DIAMOND))
