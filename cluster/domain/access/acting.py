"""For which agents a principal acts: its certificate's, those that its key is bound to, or all of its workspace.

One rule for every door: registration and removal, heartbeats, claims, reports, renewals, pauses and drains. Reads have none,
since a worker reads agents to learn whether another process has its id.
"""

from __future__ import annotations

from cluster.domain.access.principal import Principal
from cluster.domain.base.errors import Forbidden, InvalidRequest

#: Ids that a sentence names.
_SHOWN = 3


def acting_as(principal: Principal, agent_id: str | None) -> str | None:
    """The agent for which a call acts: the one that it names, or the only one that its principal is bound to. None: it names
    none, and acts for any.

    Raises: `Forbidden` (``agent_mismatch``) if it names one that its principal is not bound to; `InvalidRequest`
    (``agent_required``) if it names none of several."""
    agents = principal.agents
    if agents is None or agent_id in agents:
        return agent_id
    if agent_id is None and len(agents) == 1:
        return next(iter(agents))
    if agent_id is None and agents:
        raise InvalidRequest(
            f"Name the agent in agent_id: the key of this call acts for several ({_named(agents)}).", "agent_required"
        )
    if not agents:
        raise Forbidden(
            "The key of this call and its certificate are of different agents, so it acts for none; use those of one agent.",
            "agent_mismatch",
        )
    raise Forbidden(
        f"The key or certificate of this call is for agent {_named(agents)}, so it acts for no other; use that id, or another "
        "key or certificate.",
        "agent_mismatch",
    )


def both(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    """The agents that are among both; None stands for all."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def _named(agents: frozenset[str]) -> str:
    named = sorted(agents)
    return ", ".join([*named[:_SHOWN], *(["\u2026"] if len(named) > _SHOWN else [])])
