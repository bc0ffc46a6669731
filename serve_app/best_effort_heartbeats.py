"""The heartbeat store as the API uses it: no call fails because that store is away."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from cluster.domain.base.errors import TryLater
from cluster.domain.metrics import Increment
from cluster.ports.presence import HeartbeatRecord, WorkspaceHeartbeats

_logger = logging.getLogger("serve_app")


class BestEffortHeartbeats:
    """Drops heartbeats that cannot be written, and reads none if the store is away.

    Losing Redis may cost latency and nothing else. A heartbeat that is dropped here still renews the agent's leases,
    because the shard gets it too, and the health monitor declares no agent offline for a silence during which the store
    was away. Readers fall back to the last activity that PostgreSQL has. ``/health`` names the store.
    """

    def __init__(self, heartbeats: WorkspaceHeartbeats) -> None:
        self._heartbeats = heartbeats
        #: Heartbeats since the last `increments`, by whether they were stored.
        self._counts: Counter[str] = Counter()

    def increments(self) -> list[Increment]:
        """What telemetry has not got yet. Each is returned once."""
        counts, self._counts = self._counts, Counter()
        return [
            Increment(name="aragora_cp_agent_heartbeats_total", labels=(status,), amount=count)
            for status, count in counts.items()
        ]

    async def record_activity(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        try:
            await self._heartbeats.record_activity(heartbeats)
            self._counts["stored"] += len(heartbeats)
        except TryLater as error:
            self._counts["dropped"] += len(heartbeats)
            _logger.warning("%d heartbeats were not stored: %s", len(heartbeats), error)

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        try:
            return await self._heartbeats.last(workspace, agent_ids)
        except TryLater:
            return {}

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None:
        """Removes heartbeats of deregistered agents. A heartbeat that stays does no harm: nobody reads it."""
        try:
            await self._heartbeats.forget(agents)
        except TryLater as error:
            _logger.warning("%d heartbeats were not removed: %s", len(agents), error)
