"""Which host owns which agent: rendezvous hashing, so that a host that comes or goes moves only its own share of the agents."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def owner_host(workspace: str, agent_id: str, hosts: Sequence[int]) -> int | None:
    """The host that owns an agent among those that are alive, the same in every process; None if there is no host."""
    return max(hosts, key=lambda host: _weight(workspace, agent_id, host), default=None)


def _weight(workspace: str, agent_id: str, host: int) -> bytes:
    return hashlib.blake2b(f"{workspace}\x1f{agent_id}\x1f{host}".encode(), digest_size=8).digest()
