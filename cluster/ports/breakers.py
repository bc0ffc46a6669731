"""Breakers and probes of agents, so that they hold over restarts of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.agents.breaker import Breaker
from cluster.domain.agents.liveness import Offer, ProbeHistory
from cluster.domain.base.log import LogRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBreaker:
    """``agent_id`` None and workspace "" for a dependency of the control plane itself."""

    workspace: str
    agent_id: str | None
    breaker: Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProbe:
    workspace: str
    agent_id: str
    history: ProbeHistory


class BreakerStore(Protocol):
    """Breakers and probes, so that they hold over restarts of everything."""

    async def save(self, breakers: Sequence[StoredBreaker], records: Sequence[LogRecord]) -> None:
        """One record per breaker; the last save of a name wins."""

    async def load(self, workspace: str | None = None) -> list[StoredBreaker]:
        """Those of one workspace and of the control plane, or all."""

    async def save_probes(self, probes: Sequence[StoredProbe]) -> None:
        """Written behind; of agents that still exist."""

    async def probes(self, workspace: str | None = None) -> dict[tuple[str, str], ProbeHistory]: ...

    async def offers(self, due_before: float) -> list[Offer]:
        """What waits, of the oldest tasks that have been due since before a time."""
