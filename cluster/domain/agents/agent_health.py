"""How well an agent and a whole fleet are, from the facts of ``cluster.domain.agents.agent`` (wire 2.3).

No data is unknown, not healthy: a fleet of which nothing has been heard or probed has no level.
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

#: First row that matches decides; None matches everything. An agent that pulls proves its health by being alive.
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
    pulls = agent.transport is TransportKind.PULL
    for liveness, health, row_pulls, level in LEVEL_TABLE:
        if liveness in (None, agent.liveness) and health in (None, agent.health) and row_pulls in (None, pulls):
            return level
    return Level.UNKNOWN


def system_level(agents: Iterable[Agent]) -> Level:
    """Over the agents that their operators want to work; those without data do not count."""
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


#: What an unhealthy agent's health record says is wrong.
PROBLEMS = {
    Liveness.OFFLINE: "no sign of life",
    Liveness.DEAF: "it heartbeats but takes no work that is offered",
    Liveness.SUSPECT: "its signs of life are late",
}


def problem(agent: Agent) -> str | None:
    if agent.liveness in PROBLEMS:
        return PROBLEMS[agent.liveness]
    return "its endpoint does not answer" if agent.health is Health.FAILED else None
