"""The saved state of the metrics, and the agents' counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCounters:
    """Increments since the last save."""

    workspace: str
    agent_id: str
    completed: int = 0
    failed: int = 0
    latency_ms_sum: float = 0.0


class TelemetryStore(Protocol):
    async def load(self, name: str) -> tuple[int, Mapping[str, Any]]:
        """(log cursor, snapshot); (0, {}) at first."""

    async def save(self, name: str, cursor: int, snapshot: Mapping[str, Any], agents: Sequence[AgentCounters]) -> bool:
        """One transaction, only if ``cursor`` moves forward; agent counters are added to the rows of ``agents``."""
