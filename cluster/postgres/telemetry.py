"""The saved state of the metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.ports.telemetry import AgentCounters
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("telemetry")


class PostgresTelemetry:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(self, name: str) -> tuple[int, Mapping[str, Any]]:
        rows = await self._pool.rows(_SQL["load_telemetry"], name)
        return (rows[0]["cursor"], json.loads(rows[0]["snapshot"])) if rows else (0, {})

    async def save(self, name: str, cursor: int, snapshot: Mapping[str, Any], agents: Sequence[AgentCounters]) -> bool:
        return bool(
            await self._pool.value(
                _SQL["save_telemetry"],
                name,
                cursor,
                json.dumps(snapshot),
                [agent.workspace for agent in agents],
                [agent.agent_id for agent in agents],
                [agent.completed for agent in agents],
                [agent.failed for agent in agents],
                [agent.latency_ms_sum for agent in agents],
            )
        )
