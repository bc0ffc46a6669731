"""The table of the task machine is complete, and its promises hold on every path."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.domain.base.errors import Conflict, ImpossibleTransition
from cluster.domain.tasks.events import (
    AgentLost,
    Answered,
    Asked,
    CancelAcknowledged,
    CancelDelivered,
    CancelGraceOver,
    CancelRequested,
    Claim,
    Complete,
    DependencyFailed,
    Event,
    Fail,
    InputTimedOut,
    LeaseExpired,
    ParkAsked,
    Prioritized,
    QueueTimedOut,
    Reporter,
    RunTimedOut,
    TotalTimedOut,
    Unblocked,
    Undelivered,
)
from cluster.domain.tasks.machine import EVENTS, TRANSITIONS, step
from cluster.domain.tasks.phases import TERMINAL, TaskPhase, phase_of
from cluster.domain.tasks.questions import Answer, Question, Verdict
from cluster.domain.tasks.refusals import Refusal
from cluster.domain.tasks.retries import Backoff, ErrorClass, RetryPolicy
from cluster.domain.tasks.rules import Edge, TaskRules
from cluster.domain.tasks.task import Priority, TaskDetail, TaskHead, TaskStatus
from tests.support.samples import NOW, new_task

POLICY = RetryPolicy()
CLAIM = Claim(agent_id="a1", claim_id="c1", principal="p1")
QUESTION = Question(text="Which?", time_limit_s=60.0)
HOLDER = Reporter(principal="p1", agent_id="a1", attempt=1)


def _running(**changes: object) -> TaskHead:
    return step(new_task(**changes).head(), CLAIM, NOW, POLICY).head


def test_every_pair_of_phase_and_event_has_a_row() -> None:
    assert set(TRANSITIONS) == {(phase, event) for phase in TaskPhase for event in EVENTS}


def test_terminal_phases_have_no_way_out() -> None:
    for phase in TERMINAL:
        for event in EVENTS:
            row = TRANSITIONS[phase, event]
            assert isinstance(row, Refusal) or row.to == (), (phase, event)


def test_retries_are_counted_after_the_first_attempt() -> None:
    head, attempts = new_task(max_retries=3).head(), 0
    while head.status is TaskStatus.PENDING:
        head = step(head, CLAIM, NOW, POLICY).head
        attempts += 1
        by = replace(HOLDER, attempt=attempts)
        head = step(head, Fail(by=by, error="no"), NOW, POLICY).head
    assert (attempts, head.detail) == (4, TaskDetail.DEAD_LETTERED)


def test_a_failure_that_must_not_be_retried_ends_the_task() -> None:
    for event in (
        Fail(by=HOLDER, error="no", requeue=False),
        Fail(by=HOLDER, error="no", error_class=ErrorClass.NOT_RETRYABLE),
    ):
        transition = step(_running(), event, NOW, POLICY)
        assert transition.head.detail is TaskDetail.FAILED
        assert transition.decision is not None
        assert transition.decision.record.data["error_class"] == "not_retryable"  # what its history calls it


def test_an_agents_retry_after_is_kept_to_for_up_to_a_day() -> None:
    def wait(after: float) -> float:
        event = Fail(by=HOLDER, error="busy", error_class=ErrorClass.RATE_LIMITED, retry_after_s=after)
        return step(_running(), event, NOW, POLICY).head.run_at - NOW

    assert wait(100.0) == 100.0
    assert [wait(after) for after in (901.0, 3600.0, 86_400.0, 1e9)] == [901.0, 3600.0, 86_400.0, 86_400.0]


@pytest.mark.parametrize("retry", [1, 2, 5, 500])
def test_backoff_is_bounded_repeatable_and_jittered(retry: int) -> None:
    backoff = Backoff()
    full = min(backoff.cap_s, backoff.base_s * backoff.factor ** min(retry - 1, 64))
    delays = {backoff.delay_s(retry, f"seed{n}") for n in range(20)}
    assert len(delays) > 10
    assert all(full * (1 - backoff.jitter) <= delay <= full for delay in delays)
    assert backoff.delay_s(retry, "s") == backoff.delay_s(retry, "s")


def test_a_zombie_changes_nothing_and_the_holder_may_repeat_itself() -> None:
    again = step(step(_running(), LeaseExpired(), NOW, POLICY).head, replace(CLAIM, agent_id="a2"), NOW, POLICY).head
    with pytest.raises(Conflict) as refused:
        step(again, Complete(by=HOLDER), NOW, POLICY)
    assert refused.value.code == "lease_lost"
    second = Reporter(principal="p1", agent_id="a2", attempt=2)
    done = step(again, Complete(by=second, result_json="1"), NOW, POLICY).head
    assert step(done, Complete(by=second, result_json="1"), NOW, POLICY).decision is None
    for stranger in (HOLDER, Reporter(principal="p2"), Reporter(principal="p1", agent_id="a1")):
        with pytest.raises(Conflict):
            step(done, Complete(by=stranger), NOW, POLICY)


def test_a_report_without_a_token_counts_for_its_principal() -> None:
    head = _running()
    with pytest.raises(Conflict):
        step(head, Complete(by=Reporter(principal="p2")), NOW, POLICY)
    decision = step(head, Complete(by=Reporter(principal="p1")), NOW, POLICY).decision
    assert decision is not None
    assert decision.record.data["fenced"] is False


def test_cancelling_a_finished_task_is_refused_and_a_cancelled_one_is_not() -> None:
    done = step(_running(), Complete(by=HOLDER), NOW, POLICY).head
    with pytest.raises(Conflict) as refused:
        step(done, CancelRequested(principal="p"), NOW, POLICY)
    assert refused.value.code == "already_terminal"
    cancelled = step(new_task().head(), CancelRequested(principal="p"), NOW, POLICY).head
    assert step(cancelled, CancelRequested(principal="p"), NOW, POLICY).decision is None


@pytest.mark.parametrize(
    ("event", "status", "kind"),
    [
        (QueueTimedOut(), TaskStatus.TIMEOUT, "task.timeout"),
        (TotalTimedOut(), TaskStatus.TIMEOUT, "task.timeout"),
        (CancelRequested(principal="p"), TaskStatus.CANCELLED, "task.cancelled"),
        (DependencyFailed(after="x", status=TaskStatus.CANCELLED), TaskStatus.FAILED, "task.failed"),
        (Unblocked(), TaskStatus.PENDING, "task.unblocked"),
    ],
)
def test_events_that_end_or_free_a_blocked_task(event: Event, status: TaskStatus, kind: str) -> None:
    head = new_task(rules=TaskRules(after=(Edge(after="x"),))).head()
    assert head.detail is TaskDetail.BLOCKED
    transition = step(head, event, NOW + 5, POLICY)
    assert transition.decision is not None
    assert (transition.head.status, transition.decision.record.kind) == (status, kind)
    if isinstance(event, Unblocked):
        assert transition.head.run_at == NOW + 5, "its wait begins when it is free"
    again = step(transition.head, event, NOW + 6, POLICY) if isinstance(event, Unblocked) else None
    assert again is None or again.decision is None


class TaskLife(RuleBasedStateMachine):
    """Any events in any order, from the holder and from strangers."""

    @initialize(max_retries=st.integers(0, 3), blocked=st.booleans(), asks=st.booleans())
    def submit(self, max_retries: int, blocked: bool, asks: bool) -> None:
        rules = TaskRules(after=(Edge(after="first"),)) if blocked else None
        self.head = new_task(max_retries=max_retries, rules=rules, question=QUESTION if asks else None).head()
        self.now = NOW
        self.claims = 0
        self.free = 0
        self.ended: TaskHead | None = None

    def _apply(self, event: Event) -> None:
        before = self.head
        self.now += 1.0
        try:
            transition = step(before, event, self.now, POLICY)
        except (Conflict, ImpossibleTransition):
            return
        row = TRANSITIONS[phase_of(before), type(event)]
        assert not isinstance(row, Refusal)
        self.head = transition.head
        if transition.decision is None:
            assert replace(self.head, detail=before.detail) == before
            return
        assert phase_of(self.head) in row.to
        assert transition.decision.record.kind in row.kinds
        assert transition.decision.expect_status is before.status
        assert transition.decision.expect_attempt == before.attempt
        self.claims += isinstance(event, Claim)
        self.free += isinstance(event, Undelivered | Asked | ParkAsked) or (
            isinstance(event, AgentLost) and event.was_deregistered
        )
        if self.head.status.terminal:
            self.ended = self.head

    @rule(agent=st.sampled_from(["a1", "a2"]))
    def claim(self, agent: str) -> None:
        self._apply(Claim(agent_id=agent, claim_id="c", principal="p1"))

    @rule(
        kind=st.sampled_from([Complete, Fail]),
        agent=st.sampled_from(["a1", "a2", None]),
        back=st.integers(0, 1),
        token=st.booleans(),
        requeue=st.booleans(),
    )
    def report(self, kind: type[Event], agent: str | None, back: int, token: bool, requeue: bool) -> None:
        by = Reporter(principal="p1", agent_id=agent, attempt=self.head.attempt - back if token else None)
        self._apply(Complete(by=by) if kind is Complete else Fail(by=by, error="e", requeue=requeue))

    @rule(
        kind=st.sampled_from(
            [
                *(LeaseExpired, RunTimedOut, QueueTimedOut, TotalTimedOut, CancelGraceOver, CancelDelivered, Unblocked),
                InputTimedOut,
            ]
        )
    )
    def timer(self, kind: type[Event]) -> None:
        self._apply(kind())

    @rule(back=st.integers(0, 1), default_json=st.sampled_from([None, "1"]))
    def ask(self, back: int, default_json: str | None) -> None:
        by = Reporter(principal="p1", agent_id=self.head.assigned_agent, attempt=self.head.attempt - back)
        self._apply(Asked(by=by, question=replace(QUESTION, default_json=default_json)))

    @rule(back=st.integers(0, 1), children=st.sampled_from([("child",), ("child", "other")]))
    def park(self, back: int, children: tuple[str, ...]) -> None:
        by = Reporter(principal="p1", agent_id=self.head.assigned_agent, attempt=self.head.attempt - back)
        self._apply(ParkAsked(by=by, children=children))

    @rule(back=st.integers(0, 1), verdict=st.sampled_from(list(Verdict)))
    def answer(self, back: int, verdict: Verdict) -> None:
        answer = Answer(verdict=verdict, principal="user:ann", value_json="true")
        self._apply(Answered(attempt=self.head.attempt - back, answer=answer))

    @rule(was_deregistered=st.booleans())
    def agent_is_lost(self, was_deregistered: bool) -> None:
        self._apply(AgentLost(was_deregistered=was_deregistered))

    @rule(kind=st.sampled_from([Undelivered, CancelAcknowledged]), back=st.integers(0, 1))
    def undelivered_or_stopped(self, kind: type[Event], back: int) -> None:
        by = Reporter(principal="p1", agent_id=self.head.assigned_agent, attempt=self.head.attempt - back)
        self._apply(kind(by=by))  # type: ignore[call-arg]

    @rule(status=st.sampled_from([TaskStatus.FAILED, TaskStatus.CANCELLED]))
    def what_it_runs_after_fails(self, status: TaskStatus) -> None:
        self._apply(DependencyFailed(after="first", status=status))

    @rule(priority=st.sampled_from(list(Priority)))
    def prioritize(self, priority: Priority) -> None:
        self._apply(Prioritized(principal="p", priority=priority))

    @rule()
    def cancel(self) -> None:
        self._apply(CancelRequested(principal="p"))

    @invariant()
    def promises(self) -> None:
        if not hasattr(self, "head"):
            return
        assert self.head.attempt == self.claims
        assert self.head.retries <= self.head.max_retries
        assert self.claims <= self.head.max_retries + 1 + self.free
        assert (self.head.assigned_agent is not None and self.head.started_at is not None) or (
            self.head.status is not TaskStatus.RUNNING
        )
        waits = phase_of(self.head) is TaskPhase.INPUT_REQUIRED
        assert not waits or (self.head.asking is not None and self.head.assigned_agent is None)
        parked = phase_of(self.head) is TaskPhase.WAITING_CHILDREN
        assert self.head.status.terminal or parked == bool(self.head.children)
        assert not parked or self.head.assigned_agent is None
        if self.ended is not None:
            assert self.head == self.ended, "what has ended never changes"


TestTaskLife = TaskLife.TestCase
TestTaskLife.settings = settings(max_examples=150, stateful_step_count=30)
