"""Breakers and probes of agents, stored so that they survive restarts of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.domain.agents.breaker import Breaker
from cluster.domain.agents.endpoint_health import ProbeHistory
from cluster.domain.agents.liveness import WaitingWork
from cluster.domain.base.log import LogRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBreaker:
    """The breaker of an agent. For a dependency of the control plane, ``agent_id`` is None and ``workspace`` is empty."""

    workspace: str
    agent_id: str | None
    breaker: Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProbe:
    workspace: str
    agent_id: str
    history: ProbeHistory


class WorkspaceBreakers(Protocol):
    """What request handlers get: every method works in the workspace that it is given."""

    async def load(self, workspace: str) -> list[StoredBreaker]:
        """The breakers of the workspace's agents, and of the control plane's own dependencies."""

    async def probes(self, workspace: str) -> dict[tuple[str, str], ProbeHistory]:
        """Last probes by (workspace, agent_id)."""


class BreakerStore(WorkspaceBreakers, Protocol):
    """Stores breakers and probes, and tells which work waits."""

    async def save(self, breakers: Sequence[StoredBreaker], records: Sequence[LogRecord]) -> None:
        """Stores breakers, with one log row each. Of several with the same name the last one counts."""

    async def load(self, workspace: str | None = None) -> list[StoredBreaker]:
        """The breakers of one workspace and of the control plane, or all."""

    async def save_probes(self, probes: Sequence[StoredProbe]) -> None:
        """Stores last probes, some time after they were made. Those of agents that no longer exist are ignored."""

    async def probes(self, workspace: str | None = None) -> dict[tuple[str, str], ProbeHistory]:
        """Last probes by (workspace, agent_id), of one workspace or all."""

    async def waiting_work(self, due_before: float) -> list[WaitingWork]:
        """Which kinds of work wait among the oldest tasks that were due before a time."""
