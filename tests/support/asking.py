"""Questions to agents, and the transports that ask them."""

from __future__ import annotations

from typing import Any

from cluster.agent_transports.chat import Ask, HttpTransports
from cluster.domain.agents.agent import TransportKind
from cluster.domain.agents.options import AgentOptions

LOOPBACK = ("127.0.0.0/8",)


def transports(allowed: tuple[str, ...] = (), **options: Any) -> HttpTransports:
    return HttpTransports(**({"allowed_networks": allowed, "pool_size": 4, "timeout_s": 5.0} | options))


def question(endpoint: str, **changes: Any) -> Ask:
    """``options`` as they are registered."""
    values: dict[str, Any] = {
        "transport": TransportKind.HTTP,
        "endpoint": endpoint,
        "model": "m",
        "messages": [{"role": "user", "content": "Which?"}],
        "schema": {"type": "object"},
        "max_tokens": 64,
        "timeout_s": 5.0,
        "key": "k1",
    }
    if "options" in changes:
        changes["options"] = AgentOptions.read(changes["options"])
    return Ask(**(values | changes))
