"""The health level of an agent and of a whole fleet, computed from an agent's liveness and health.

Without data a level is unknown, not healthy: so is the level of a fleet that was neither heard nor probed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from cluster.domain.agents.agent import Agent, Health, Intent, Liveness, TransportKind


class Level(StrEnum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    CRITICAL = "critical"


CRITICAL_SHARE = 0.5
UNHEALTHY_SHARE = 0.25

#: (liveness, health, whether it pulls, level). The first row that matches decides; None matches everything. A pull agent has no
#: endpoint to probe, so it is healthy if it is alive.
LEVEL_TABLE: tuple[tuple[Liveness | None, Health | None, bool | None, Level], ...] = (
    (Liveness.OFFLINE, None, None, Level.UNHEALTHY),
    (None, Health.FAILED, None, Level.UNHEALTHY),
    (Liveness.DEAF, None, None, Level.UNHEALTHY),
    (Liveness.SUSPECT, None, None, Level.DEGRADED),
    (None, Health.DEGRADED, None, Level.DEGRADED),
    (None, Health.HEALTHY, None, Level.HEALTHY),
    (Liveness.ALIVE, None, True, Level.HEALTHY),
    (None, None, None, Level.UNKNOWN),
)


def agent_level(agent: Agent) -> Level:
    """The level of one agent, by ``LEVEL_TABLE``."""
    pulls = agent.transport is TransportKind.PULL
    for liveness, health, row_pulls, level in LEVEL_TABLE:
        if liveness in (None, agent.liveness) and health in (None, agent.health) and row_pulls in (None, pulls):
            return level
    return Level.UNKNOWN


def system_level(agents: Iterable[Agent]) -> Level:
    """The level of a fleet. Paused agents and agents without data do not count."""
    levels = [agent_level(agent) for agent in agents if agent.intent is not Intent.PAUSED]
    known = [level for level in levels if level is not Level.UNKNOWN]
    if not known:
        return Level.UNKNOWN
    unhealthy = known.count(Level.UNHEALTHY) / len(known)
    if unhealthy > CRITICAL_SHARE:
        return Level.CRITICAL
    if unhealthy > UNHEALTHY_SHARE:
        return Level.UNHEALTHY
    return Level.HEALTHY if known.count(Level.HEALTHY) == len(known) else Level.DEGRADED


#: Liveness → the ``error`` of an agent's health record.
PROBLEMS = {
    Liveness.OFFLINE: "it sends no heartbeats",
    Liveness.DEAF: "it sends heartbeats but takes no work that waits for it",
    Liveness.SUSPECT: "its heartbeats are late",
}


def problem(agent: Agent) -> str | None:
    """What is wrong with an agent, None if nothing is."""
    if agent.liveness in PROBLEMS:
        return PROBLEMS[agent.liveness]
    return "its endpoint does not answer" if agent.health is Health.FAILED else None
