"""The breaker in any order of calls, outcomes, time and restarts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.agents.breaker import TRIALS, Breaker, BreakerState, CallOutcome, Room, admit, postponed, room, step
from tests.support.samples import NOW

RESET_S = 60.0


class BreakerMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.now = NOW
        self.breaker = Breaker(name="b", reset_s=RESET_S)
        self.under_way = 0
        self.failures_in_a_row = 0

    @rule(seconds=st.sampled_from([1.0, RESET_S / 2, RESET_S, RESET_S * 3]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        state = self.breaker.state_at(self.now)
        self.breaker, admitted = admit(self.breaker, self.now)
        assert admitted or state is not BreakerState.CLOSED
        assert not (admitted and state is BreakerState.OPEN)
        self.under_way += admitted

    @precondition(lambda self: self.under_way > 0)
    @rule(outcome=st.sampled_from(CallOutcome))
    def ends(self, outcome: CallOutcome) -> None:
        self.under_way -= 1
        before, counted = self.breaker.state_at(self.now), self.breaker
        self.breaker = step(self.breaker, outcome, self.now)
        if outcome is CallOutcome.WITHDRAWN:
            assert replace(self.breaker, trials=counted.trials) == counted, "nobody was found to work or to fail"
            assert len(self.breaker.trials) == max(0, len(counted.trials) - 1)
            return
        after = self.breaker.state
        failed = outcome is CallOutcome.FAILURE
        self.failures_in_a_row = self.failures_in_a_row + 1 if failed else 0
        if failed:
            assert self.breaker.last_failure == self.now
            assert after is not BreakerState.HALF_OPEN
        if before is BreakerState.CLOSED:
            assert (after is BreakerState.OPEN) == (self.failures_in_a_row >= self.breaker.threshold)
        if before is BreakerState.OPEN:
            assert after is BreakerState.OPEN, "only time takes a breaker out of open"
        if before is BreakerState.HALF_OPEN and failed:
            assert after is BreakerState.OPEN

    @rule()
    def restarts(self) -> None:
        """What the store keeps of it: everything but the calls under way."""
        state = self.breaker.state_at(self.now)
        self.breaker = replace(self.breaker, trials=())
        self.under_way = 0
        assert self.breaker.state_at(self.now) is state

    @invariant()
    def few_trials_are_under_way_while_it_is_half_open(self) -> None:
        if hasattr(self, "breaker"):
            assert len(self.breaker.trials) <= TRIALS


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=200, stateful_step_count=40)


def test_three_failures_open_it_two_good_trials_close_it() -> None:
    breaker = Breaker(name="b", reset_s=RESET_S)
    for _ in range(3):
        breaker = step(breaker, CallOutcome.FAILURE, NOW)
    assert admit(breaker, NOW + RESET_S - 1)[1] is False
    later = NOW + RESET_S
    admitted = []
    for _ in range(TRIALS + 1):
        breaker, trial = admit(breaker, later)
        admitted.append(trial)
    assert admitted == [True] * TRIALS + [False]
    breaker = step(breaker, CallOutcome.SUCCESS, later)
    assert breaker.state is BreakerState.HALF_OPEN
    assert step(breaker, CallOutcome.SUCCESS, later).state is BreakerState.CLOSED


def test_a_withdrawn_trial_makes_room_for_another() -> None:
    breaker = Breaker(name="b", reset_s=RESET_S)
    for _ in range(3):
        breaker = step(breaker, CallOutcome.FAILURE, NOW)
    for _ in range(3 * TRIALS):
        breaker, admitted = admit(breaker, NOW + RESET_S)
        assert admitted
        breaker = step(breaker, CallOutcome.WITHDRAWN, NOW + RESET_S)


def _opened(**changes: object) -> Breaker:
    return replace(Breaker(name="b", reset_s=RESET_S, state=BreakerState.OPEN, changed_at=NOW), **changes)  # type: ignore[arg-type]


def test_the_room_of_an_open_breaker_ends_and_begins_with_its_time() -> None:
    assert room(Breaker(name="b"), NOW) == Room()
    opened = _opened()
    assert room(opened, NOW + 1) == Room(most=0, since=NOW + RESET_S, until=NOW + RESET_S)
    half = room(opened, NOW + RESET_S)
    assert (half.left(0), half.left(2), half.left(9)) == (TRIALS, TRIALS - 2, 0)
    breaker = opened
    for _ in range(TRIALS):
        breaker, _ = admit(breaker, NOW + RESET_S + 1)
    full = room(breaker, NOW + RESET_S + 2)
    assert (full.left(0), full.until) == (0, NOW + 2 * RESET_S + 1)
    assert room(breaker, full.until or 0.0).left(0) == TRIALS, "trials whose callers died make room"


@given(
    state=st.sampled_from(BreakerState),
    trials=st.lists(st.floats(NOW - 2 * RESET_S, NOW), max_size=TRIALS).map(lambda times: tuple(sorted(times))),
    retry_in_s=st.none() | st.floats(-RESET_S, 3 * RESET_S),
    later_s=st.floats(0.0, 3 * RESET_S),
)
def test_the_room_says_how_many_calls_are_admitted(
    state: BreakerState, trials: tuple[float, ...], retry_in_s: float | None, later_s: float
) -> None:
    retry_at = None if retry_in_s is None else NOW + retry_in_s
    breaker = replace(_opened(state=state, retry_at=retry_at), trials=trials if state is BreakerState.HALF_OPEN else ())
    now = NOW + later_s
    left, admitted = room(breaker, now).left(0), 0
    while admitted <= TRIALS:
        breaker, called = admit(breaker, now)
        if not called:
            break
        admitted += 1
    assert admitted == (TRIALS + 1 if left is None else left)
    if retry_at is not None and now < retry_at:
        assert admitted == 0


def test_the_latest_time_that_an_agent_asked_for_counts_in_every_state() -> None:
    for breaker in (Breaker(name="b"), _opened()):
        asked = postponed(postponed(breaker, NOW + 200), NOW + 90)
        assert asked.may_call_at(NOW) == NOW + 200
        assert admit(asked, NOW + 199)[1] is False
        assert admit(asked, NOW + 200)[1] is True
        assert step(asked, CallOutcome.SUCCESS, NOW + 1).retry_at == NOW + 200, "calls under way take nothing back"
