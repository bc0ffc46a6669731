"""The levels of an agent and of a fleet."""

from __future__ import annotations

from cluster.domain.agents.agent import (
    Agent,
    Health,
    Intent,
    Liveness,
    TransportKind,
)
from cluster.domain.agents.agent_health import Level, agent_level, system_level
from tests.support.samples import an_agent


def _fleet(**counts: int) -> list[Agent]:
    made = {
        "healthy": an_agent(),
        "degraded": an_agent(health=Health.DEGRADED, transport=TransportKind.HTTP),
        "offline": an_agent(liveness=Liveness.OFFLINE),
        "unknown": an_agent(liveness=Liveness.STARTING, transport=TransportKind.HTTP),
        "paused": an_agent(liveness=Liveness.OFFLINE, intent=Intent.PAUSED),
    }
    return [made[name] for name, count in counts.items() for _ in range(count)]


def test_an_agent_without_data_is_of_unknown_health() -> None:
    assert system_level([]) is Level.UNKNOWN
    assert system_level(_fleet(unknown=3)) is Level.UNKNOWN
    assert system_level(_fleet(paused=1)) is Level.UNKNOWN


def test_a_fleets_level_follows_shares_of_agents_with_known_health() -> None:
    assert system_level(_fleet(healthy=3, unknown=9)) is Level.HEALTHY
    assert system_level(_fleet(healthy=3, degraded=1)) is Level.DEGRADED
    assert system_level(_fleet(healthy=3, offline=1)) is Level.DEGRADED
    assert system_level(_fleet(healthy=2, offline=1)) is Level.UNHEALTHY
    assert system_level(_fleet(healthy=1, offline=1)) is Level.UNHEALTHY
    assert system_level(_fleet(healthy=1, offline=2)) is Level.CRITICAL


def test_only_agents_that_claim_are_healthy_by_being_alive() -> None:
    assert agent_level(an_agent()) is Level.HEALTHY
    assert agent_level(an_agent(transport=TransportKind.HTTP)) is Level.UNKNOWN
    assert agent_level(an_agent(transport=TransportKind.HTTP, health=Health.HEALTHY)) is Level.HEALTHY
    assert agent_level(an_agent(liveness=Liveness.DEAF)) is Level.UNHEALTHY
