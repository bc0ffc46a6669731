"""What of the database operators watch."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.domain.agents.breaker import BreakerState
from cluster.domain.budgets.budget import Period, window_of
from cluster.domain.metrics import Labels
from cluster.postgres.log import Epoch
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("readings")
#: The gauge of each column of numbers.
_QUEUES = {"waiting": "aragora_cp_queue_depth", "oldest_s": "aragora_cp_queue_oldest_seconds"}
_RUNS = {"open": "aragora_cp_workflow_runs_open", "stalled_s": "aragora_cp_workflow_stalled_seconds"}


class PostgresReadings:
    def __init__(self, pool: Pool, epoch: Epoch) -> None:
        self._pool = pool
        self._region = epoch.region

    async def read(self, now: float) -> Mapping[str, Mapping[Labels, float]]:
        day, month = (window_of(period, now).start for period in (Period.DAY, Period.MONTH))
        async with self._pool.snapshot() as connection:
            queues = await connection.fetch(_SQL["waiting_by_queue"], now)
            breakers = await connection.fetch(_SQL["breakers_by_state"], now)
            tables = await connection.fetch(_SQL["bytes_by_table"])
            (runs,) = await connection.fetch(_SQL["open_runs"], now)
            dead = await connection.fetchval(_SQL["count_dead_letters"])
            used_up = await connection.fetchval(_SQL["count_used_up"], day, month)
            (told,) = await connection.fetch(_SQL["notifications_told"], now)
            unread = await connection.fetch(_SQL["unread_by_cursor"], self._region)
            last_pass = await connection.fetchval(_SQL["last_retention_pass"])
        found: dict[str, dict[Labels, float]] = {
            **{gauge: {(row["queue"],): float(row[column]) for row in queues} for column, gauge in _QUEUES.items()},
            **{gauge: {(): float(runs[column])} for column, gauge in _RUNS.items()},
            "aragora_cp_breakers": {
                **{(state.value,): 0.0 for state in BreakerState},
                **{(row["state"],): float(row["count"]) for row in breakers},
            },
            "aragora_cp_table_bytes": {(row["name"],): float(row["bytes"]) for row in tables},
            "aragora_cp_dead_letters": {(): float(dead)},
            "aragora_cp_log_unread_rows": {(row["reader"],): float(row["count"]) for row in unread},
            "aragora_cp_budgets_used_up": {(): float(used_up)},
            "aragora_cp_notifications_pending": {
                ("notification",): float(told["notifications"]),
                ("push",): float(told["pushes"]),
            },
            "aragora_cp_notifications_ended": {(status,): float(told[status]) for status in ("delivered", "dead")},
            "aragora_cp_notifications_late_seconds": {(): float(told["late_s"])},
        }
        found["aragora_cp_retention_pass_age_seconds"] = {} if last_pass is None else {(): max(0.0, now - last_pass)}
        return found
