"""Heartbeats: when agents were last heard. If they are lost, readers know less for a while, but no fact is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRecord:
    """A heartbeat or another sign of life, at an epoch second. ``working``: it came with work (a claim or a report).
    ``process``: which process of the agent sent it, if it says so; this is not kept."""

    workspace: str
    agent_id: str
    at: float
    working: bool = False
    process: str | None = None


class WorkspaceHeartbeats(Protocol):
    """What request handlers get: every method works in the workspaces that it is given with the agents."""

    async def record_activity(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        """Keeps the latest heartbeat of each agent; an older one changes nothing."""

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        """When each agent was last heard; without those that never were."""

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None:
        """Removes all that is kept of agents (workspace, agent_id)."""


class HeartbeatStore(WorkspaceHeartbeats, Protocol):
    """Keeps the last heartbeat of each agent, and the last that came with work."""

    async def last_activity(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        """When each agent was last heard by a claim or a report."""

    async def life(self) -> str:
        """A text that is another one if the store has lost its content."""
