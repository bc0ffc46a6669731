"""The health of agents with an endpoint, by any row of probes and by breakers."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from cluster.domain.agents.agent import Health, Liveness
from cluster.domain.agents.breaker import Breaker, BreakerState
from cluster.domain.agents.endpoint_health import FAILURES_TO_FAIL, HealthVerdict, ProbeHistory, judge, probed
from tests.support.samples import NOW, an_agent

RESET_S = 60.0
OPEN = Breaker(name="a1", state=BreakerState.OPEN, changed_at=NOW, reset_s=RESET_S)


class ProbeMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.history = ProbeHistory()
        self.outcomes: list[tuple[bool, float]] = []

    @rule(ok=st.booleans(), latency_s=st.sampled_from([0.1, 5.0, 5.1]))
    def probe(self, ok: bool, latency_s: float) -> None:
        before = self.history.health
        self.history = probed(self.history, ok, latency_s, NOW, None if ok else "no")
        self.outcomes.append((ok, latency_s))
        last = [succeeded for succeeded, _ in self.outcomes[-FAILURES_TO_FAIL:]]
        if len(last) == FAILURES_TO_FAIL and not any(last):
            assert self.history.health is Health.FAILED
        if before is Health.FAILED and self.history.health is not Health.FAILED:
            assert [succeeded for succeeded, _ in self.outcomes[-2:]] == [True, True]
        if ok and self.history.health is not Health.FAILED:
            assert self.history.health is (Health.DEGRADED if latency_s > 5.0 else Health.HEALTHY)
        assert (self.history.error is None) == ok


TestProbes = ProbeMachine.TestCase


@pytest.mark.parametrize(
    ("by_probes", "breaker", "now", "becomes"),
    [
        (Health.DEGRADED, None, NOW, Health.DEGRADED),
        (Health.HEALTHY, OPEN, NOW, Health.FAILED),
        (Health.HEALTHY, OPEN, NOW + RESET_S, Health.DEGRADED),
        (Health.DEGRADED, OPEN, NOW + RESET_S, Health.DEGRADED),
        (Health.FAILED, OPEN, NOW + RESET_S, Health.FAILED),
        (None, OPEN, NOW, Health.FAILED),
    ],
)
def test_the_worse_of_probes_and_calls_counts(
    by_probes: Health | None, breaker: Breaker | None, now: float, becomes: Health
) -> None:
    history = None if by_probes is None else ProbeHistory(health=by_probes)
    verdict = judge(an_agent(health=Health.UNKNOWN), history, breaker, now)
    reason = "probe" if breaker is None else "calls failed"
    assert verdict == HealthVerdict(health=becomes, liveness=None, reason=reason)
    assert judge(an_agent(health=becomes), history, breaker, now) is None, "it has that health"


def test_the_first_good_probe_makes_a_starting_agent_alive() -> None:
    starting = an_agent(liveness=Liveness.STARTING, health=Health.HEALTHY)
    good = probed(ProbeHistory(), True, 0.1, NOW)
    verdict = judge(starting, good, None, NOW)
    assert verdict == HealthVerdict(health=Health.HEALTHY, liveness=Liveness.ALIVE, reason="probe")
    assert judge(starting, None, None, NOW) is None
    assert judge(starting, ProbeHistory(health=Health.HEALTHY), None, NOW) is None
