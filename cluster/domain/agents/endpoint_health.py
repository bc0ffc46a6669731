"""How healthy an agent with an endpoint is: the worse of what its probes and its calls show.

A probe that fails degrades it, and several in a row fail it; a failed one recovers by several good probes in a row. A breaker
that a host opened while calling it counts as much as failed probes: open fails it, half open degrades it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.domain.agents.agent import Agent, Health, Liveness
from cluster.domain.agents.breaker import Breaker, BreakerState

FAILURES_TO_FAIL = 3
SUCCESSES_TO_RECOVER = 2
DEGRADED_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeHistory:
    """The outcomes of an endpoint's probes: the health that they prove, and failures and successes in a row.

    ``latency_s`` is that of the last good probe, ``error`` that of the last probe if it failed."""

    health: Health = Health.UNKNOWN
    failures: int = 0
    successes: int = 0
    latency_s: float | None = None
    error: str | None = None
    at: float | None = None


def probed(history: ProbeHistory, ok: bool, latency_s: float, at: float, error: str | None = None) -> ProbeHistory:
    """The history after one more probe."""
    if not ok:
        failures = history.failures + 1
        health = Health.FAILED if failures >= FAILURES_TO_FAIL else Health.DEGRADED
        if history.health is Health.FAILED:
            health = Health.FAILED
        return ProbeHistory(health=health, failures=failures, latency_s=history.latency_s, error=error, at=at)
    successes = history.successes + 1
    health = Health.DEGRADED if latency_s > DEGRADED_S else Health.HEALTHY
    if history.health is Health.FAILED and successes < SUCCESSES_TO_RECOVER:
        health = Health.FAILED
    return ProbeHistory(health=health, successes=successes, latency_s=latency_s, at=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthVerdict:
    """What an agent's health becomes, and why. ``liveness`` is None if that stays as it is."""

    health: Health
    liveness: Liveness | None
    reason: str


#: (health by its probes, the state of its breaker, health). The first row that matches decides; None matches every health.
HEALTH_TABLE: tuple[tuple[Health | None, BreakerState, Health], ...] = (
    (None, BreakerState.OPEN, Health.FAILED),
    (Health.FAILED, BreakerState.HALF_OPEN, Health.FAILED),
    (None, BreakerState.HALF_OPEN, Health.DEGRADED),
)


def judge(agent: Agent, history: ProbeHistory | None, breaker: Breaker | None, now: float) -> HealthVerdict | None:
    """The change to an agent by its probes, and by its breaker if that was not closed at the last look; None if nothing changes.

    An agent that is starting is alive from its first good probe on."""
    health = history.health if history is not None else agent.health
    if breaker is not None:
        state = breaker.state_at(now)
        health = next(
            (level for by_probes, at, level in HEALTH_TABLE if by_probes in (None, health) and at is state), health
        )
    starts = agent.liveness is Liveness.STARTING and history is not None and history.successes > 0
    if health is agent.health and not starts:
        return None
    reason = "calls failed" if breaker is not None else "probe"
    return HealthVerdict(health=health, liveness=Liveness.ALIVE if starts else None, reason=reason)
