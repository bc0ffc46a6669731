"""Which agents are gone for so long that they leave the fleet."""

from __future__ import annotations

from cluster.domain.agents.agent import Agent, Health, Liveness, TransportKind
from cluster.domain.agents.endpoint_health import ProbeHistory

#: Why an agent was removed, in its log row.
EXPIRED = "expired"


def absent_for_s(
    agent: Agent, heard: float | None, probe: ProbeHistory | None, now: float, watching_since: float
) -> float:
    """For how long an agent has been gone; 0 if it is not. A class that runs in the cluster never is.

    It counts from when the agent was found to be gone, which is stored, and not from its last heartbeat: while the control plane
    itself was down, nobody could send one. For the same reason an agent with an endpoint is gone only if a probe says so that was
    made since ``watching_since``.
    """
    last = max(heard or 0.0, agent.last_seen_at or 0.0, agent.updated_at)
    if agent.transport is TransportKind.PULL:
        return now - last if agent.liveness is Liveness.OFFLINE else 0.0
    failed = probe is not None and probe.error is not None and probe.at is not None and probe.at >= watching_since
    return now - last if failed and agent.health is Health.FAILED else 0.0
