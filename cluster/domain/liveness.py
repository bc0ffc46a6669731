"""Who is alive: a pure decision over last signs of life, so that the monitor is only its shell.

An agent without a recorded sign (the store of signs was lost, or the monitor has just started) is given a full timeout
from the moment the monitor began to watch, so that losing Redis never declares a fleet dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.domain.agents import Agent, Health, Liveness, TransportKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    workspace: str
    agent_id: str
    was: Liveness
    now: Liveness


def sweep(
    agents: Iterable[Agent],
    last_beat: Mapping[tuple[str, str], float],
    *,
    now: float,
    watching_since: float,
    timeout_s: float,
) -> list[Verdict]:
    """Changes of liveness. Agents with an endpoint are judged by probes, not by signs of life."""
    verdicts = []
    for agent in agents:
        if agent.transport is not TransportKind.PULL:
            continue
        seen = last_beat.get((agent.workspace, agent.agent_id), watching_since)
        alive = now - max(seen, min(agent.registered_at, now)) <= timeout_s
        wanted = Liveness.ALIVE if alive else Liveness.OFFLINE
        if agent.liveness is not wanted and not (alive and agent.liveness is Liveness.DEAF):
            verdicts.append(Verdict(workspace=agent.workspace, agent_id=agent.agent_id, was=agent.liveness, now=wanted))
    return verdicts


FAILURES_TO_FAIL = 3
SUCCESSES_TO_RECOVER = 2
DEGRADED_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeHistory:
    """Consecutive outcomes of an endpoint's probes (wire 2.3)."""

    health: Health = Health.UNKNOWN
    failures: int = 0
    successes: int = 0


def probed(history: ProbeHistory, ok: bool, latency_s: float) -> ProbeHistory:
    if not ok:
        failures = history.failures + 1
        health = Health.FAILED if failures >= FAILURES_TO_FAIL else Health.DEGRADED
        if history.health is Health.FAILED:
            health = Health.FAILED
        return ProbeHistory(health=health, failures=failures)
    successes = history.successes + 1
    if history.health is Health.FAILED and successes < SUCCESSES_TO_RECOVER:
        return ProbeHistory(health=Health.FAILED, successes=successes)
    return ProbeHistory(health=Health.DEGRADED if latency_s > DEGRADED_S else Health.HEALTHY, successes=successes)
