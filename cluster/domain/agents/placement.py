"""Which host owns which agent: rendezvous hashing, so that a host that comes or goes moves only its own share of the agents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from cluster.domain.agents.agent import Agent


def owner_host(workspace: str, agent_id: str, hosts: Sequence[int]) -> int | None:
    """The host that owns an agent among those that are alive, the same in every process; None if there is no host."""
    return max(hosts, key=lambda host: _weight(workspace, agent_id, host), default=None)


def is_owner(agent: Agent, *, index: int, alone: tuple[str, str] | None, alive: Sequence[int]) -> bool:
    """Whether a host owns an agent: the one that rendezvous hashing gives it, or, if the agent has an actor to itself, the host
    that is ``alone`` (workspace, agent_id) that agent's. ``alive`` has the indexes of the living hosts."""
    if alone is not None:
        return agent.dedicated is not None and (agent.workspace, agent.agent_id) == alone
    return agent.dedicated is None and owner_host(agent.workspace, agent.agent_id, alive) == index


def watched_host(owner: str, held: Mapping[str, int]) -> tuple[int, str] | None:
    """The (index, process) whose end ``owner`` is to notice: the next host, and after the last one the first. None if ``owner``
    holds no index itself, or nobody else does. ``held``: process → index."""
    mine = held.get(owner)
    others = sorted((index, process) for process, index in held.items() if index != mine)
    if mine is None or not others:
        return None
    return next((other for other in others if other[0] > mine), others[0])


def _weight(workspace: str, agent_id: str, host: int) -> bytes:
    return hashlib.blake2b(f"{workspace}\x1f{agent_id}\x1f{host}".encode(), digest_size=8).digest()
