"""Reports on their way to the store, held to a model that keeps each of them: what is acknowledged is stored, the newest wins,
and a task that reports all the time is stored once a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cluster.domain.scheduling.progress_buffer import APART_S, ProgressBuffer
from cluster.domain.tasks.progress import Progress, ProgressReport

TASKS = st.sampled_from(["t1", "t2", "t3"])


def _report(task_id: str, attempt: int, at: float, **fields: Any) -> ProgressReport:
    return ProgressReport(workspace="w", task_id=task_id, attempt=attempt, at=at, progress=Progress(**fields))


@dataclass
class _Attempt:
    """The dumb model of an attempt: all that was reported, in order, as if each report had been stored."""

    attempt: int
    reported: Progress = field(default_factory=Progress)
    askers: list[int] = field(default_factory=list)
    stored_at: float | None = None


class ReportingLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.buffer: ProgressBuffer[int] = ProgressBuffer()
        self.asked = 0
        self.running: dict[str, _Attempt] = {}
        self.ended: list[tuple[str, _Attempt]] = []
        self.attempts: dict[str, int] = {}
        # (task, attempt) → what the store has, and every asker that was told.
        self.stored: dict[tuple[str, int], Progress] = {}
        self.told: list[int] = []

    @rule(task=TASKS)
    def claim(self, task: str) -> None:
        if task not in self.running:
            self.attempts[task] = self.attempts.get(task, 0) + 1
            self.running[task] = _Attempt(self.attempts[task])

    @rule(
        task=TASKS,
        percent=st.none() | st.floats(0, 100),
        message=st.none() | st.text(max_size=3),
        checkpoint=st.none() | st.sampled_from(["1", "2"]),
    )
    def report(self, task: str, percent: float | None, message: str | None, checkpoint: str | None) -> None:
        attempt = self.running.get(task)
        if attempt is None:
            return  # the shard refuses it
        report = _report(task, attempt.attempt, self.now, percent=percent, message=message, checkpoint_json=checkpoint)
        self.asked += 1
        self.buffer.add(report, self.asked)
        attempt.reported = attempt.reported.followed_by(report.progress)
        attempt.askers.append(self.asked)

    @rule(task=TASKS)
    def end(self, task: str) -> None:
        """As the shard does it: what the attempt reported last goes into the same write."""
        attempt = self.running.pop(task, None)
        if attempt is not None:
            self.buffer.end(task)
            self._take()
            assert set(attempt.askers) <= set(self.told), "who reported is told before the attempt has ended"
            if attempt.askers:
                assert self.stored[task, attempt.attempt] == attempt.reported

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, APART_S, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._take()
        due = self.buffer.next_due()
        assert due is None or self.now < due <= self.now + APART_S

    def _take(self) -> None:
        reports, askers = self.buffer.take(self.now)
        assert len({report.task_id for report in reports}) == len(reports)
        for report in reports:
            key = report.task_id, report.attempt
            self.stored[key] = self.stored.get(key, Progress()).followed_by(report.progress)
            attempt = self.running.get(report.task_id)
            if attempt is not None and attempt.attempt == report.attempt:
                assert attempt.stored_at is None or self.now >= attempt.stored_at + APART_S
                attempt.stored_at = self.now
                assert self.stored[key] == attempt.reported, "the newest wins"
        self.told += askers

    @invariant()
    def whoever_is_told_is_told_once_and_whoever_waits_is_known(self) -> None:
        assert len(set(self.told)) == len(self.told)
        assert sorted([*self.told, *self.buffer.askers()]) == list(range(1, self.asked + 1))

    @invariant()
    def nothing_is_kept_of_tasks_that_do_not_report(self) -> None:
        assert bool(self.buffer) == any(attempt.askers for attempt in self.running.values())


def test_any_life_of_reporting_tasks() -> None:
    run_state_machine_as_test(ReportingLife, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))


def test_a_report_for_another_attempt_does_not_mix_with_an_unstored_one() -> None:
    """Somebody may guess the token of an attempt whose claim is not answered yet."""
    buffer: ProgressBuffer[int] = ProgressBuffer()
    buffer.add(_report("t", 1, 0.0, percent=1.0), 1)
    buffer.take(0.0)
    buffer.add(_report("t", 1, 0.1, message="first"), 2)
    buffer.add(_report("t", 2, 0.2, percent=2.0), 3)
    reports, askers = buffer.take(0.2)
    assert [(report.attempt, report.progress) for report in reports] == [
        (1, Progress(message="first")),
        (2, Progress(percent=2.0)),
    ]
    assert askers == [2, 3]
