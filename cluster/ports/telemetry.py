"""The saved state of the metrics, and the agents' counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCounters:
    """Increments of an agent's counters since the last save."""

    workspace: str
    agent_id: str
    completed: int = 0
    failed: int = 0
    latency_ms_sum: float = 0.0


class TelemetryStore(Protocol):
    async def load(self, name: str) -> tuple[int, Mapping[str, Any]]:
        """(log cursor, snapshot); (0, {}) before the first save."""

    async def save(self, name: str, cursor: int, snapshot: Mapping[str, Any], agents: Sequence[AgentCounters]) -> bool:
        """Stores the snapshot and adds the agents' counters, in one transaction. Returns False, and stores nothing, if the
        cursor would not move forward."""
