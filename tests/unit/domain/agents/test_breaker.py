"""The breaker in any order of calls, outcomes, time and restarts."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.domain.agents.breaker import TRIALS, Breaker, BreakerState, CallOutcome, admit, step
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
TestBreaker.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


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
