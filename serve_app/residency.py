"""Work of a resident workspace goes to agents that run in its zone, as far as they say where they run."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.domain.agents.agent import Agent, NewAgent
from serve_app.gateway import Gateway


def check_residency(gate: Gateway, workspace: str, agents: Iterable[Agent | NewAgent]) -> None:
    """Returns if these agents may have work of a workspace.

    Raises: `ResidencyViolation` if one says that it runs outside of the zone."""
    known = gate.access.workspace(workspace)
    if known is not None and known.zone is not None:
        for agent in agents:
            gate.zones.check_runs(known.zone, agent.agent_id, agent.regions)
