"""Signs of life. They are a doorbell and no truth: losing them loses freshness, never a fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRecord:
    """A sign of life at an epoch second. ``working``: it came on the channel that carries the work."""

    workspace: str
    agent_id: str
    at: float
    working: bool = False


class Heartbeats(Protocol):
    """Signs of life. Loss of the store behind it loses freshness, never a fact."""

    async def record_activity(self, heartbeats: Sequence[HeartbeatRecord]) -> None: ...

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]: ...

    async def last_activity(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        """The last signs on the channel that carries the work (claims, reports)."""

    async def silent(self, before: float) -> list[tuple[str, str]]:
        """(workspace, agent_id) whose last beat is older than ``before``."""

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None: ...

    async def life(self) -> str:
        """Changes when the store has lost what it was told."""
