"""Breakers and probes, stored over restarts, and which work waits for which agents."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cluster.domain.agents.agent import Health
from cluster.domain.agents.breaker import Breaker, BreakerState
from cluster.domain.agents.endpoint_health import ProbeHistory
from cluster.domain.agents.liveness import WaitingWork
from cluster.domain.base.log import LogRecord
from cluster.ports.breakers import StoredBreaker, StoredProbe
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("breakers")


class PostgresBreakers:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._epoch = epoch

    async def save(self, breakers: Sequence[StoredBreaker], records: Sequence[LogRecord]) -> None:
        if not breakers:
            return
        latest = {(breaker.workspace, breaker.breaker.name): breaker for breaker in breakers}
        rows = list(latest.values())
        await self._pool.execute(
            _SQL["save_breakers"],
            self._epoch.region,
            self._epoch.value,
            [row.workspace for row in rows],
            [row.breaker.name for row in rows],
            [row.agent_id for row in rows],
            [row.breaker.state.value for row in rows],
            [row.breaker.threshold for row in rows],
            [row.breaker.reset_s for row in rows],
            [row.breaker.failures for row in rows],
            [row.breaker.successes for row in rows],
            [row.breaker.last_failure for row in rows],
            [row.breaker.changed_at for row in rows],
            [row.breaker.retry_at for row in rows],
            log_rows(records, self._epoch),
        )

    async def load(self, workspace: str | None = None) -> list[StoredBreaker]:
        return [
            StoredBreaker(
                workspace=row["workspace"],
                agent_id=row["agent_id"],
                breaker=Breaker(
                    name=row["name"],
                    threshold=row["threshold"],
                    reset_s=row["reset_s"],
                    state=BreakerState(row["state"]),
                    failures=row["failures"],
                    successes=row["successes"],
                    last_failure=row["last_failure"],
                    changed_at=row["changed_at"],
                    retry_at=row["retry_at"],
                ),
            )
            for row in await self._pool.rows(_SQL["load_breakers"], workspace)
        ]

    async def save_probes(self, probes: Sequence[StoredProbe]) -> None:
        if probes:
            await self._pool.execute(
                _SQL["save_probes"],
                [probe.workspace for probe in probes],
                [probe.agent_id for probe in probes],
                [probe.history.health.value for probe in probes],
                [probe.history.failures for probe in probes],
                [probe.history.successes for probe in probes],
                [probe.history.latency_s for probe in probes],
                [probe.history.error for probe in probes],
                [probe.history.at for probe in probes],
            )

    async def probes(self, workspace: str | None = None) -> dict[tuple[str, str], ProbeHistory]:
        return {
            (row["workspace"], row["agent_id"]): ProbeHistory(
                health=Health(row["health"]),
                failures=row["failures"],
                successes=row["successes"],
                latency_s=row["latency_s"],
                error=row["error"],
                at=row["at"],
            )
            for row in await self._pool.rows(_SQL["load_probes"], workspace)
        }

    async def waiting_work(self, due_before: float) -> list[WaitingWork]:
        return [
            WaitingWork(
                workspace=row["workspace"],
                target=row["target_agent"],
                required=frozenset(json.loads(row["required"])),
                since=row["since"],
            )
            for row in await self._pool.rows(_SQL["waiting_work"], due_before)
        ]
