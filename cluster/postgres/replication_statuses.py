"""What a region's leader tells the other processes of its region, over the region's own database."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.ports.replication import LeaderStatus, ReplicationStatus
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("replication")


class PostgresReplicationStatuses:
    def __init__(self, pool: Pool, zone: str) -> None:
        self._pool = pool
        self._zone = zone

    async def read(self) -> ReplicationStatus:
        """Raises: `StoreUnavailable`."""
        rows = await self._pool.rows(_SQL["replication_status"], self._zone)
        if not rows:
            return ReplicationStatus()
        (row,) = rows
        told = None
        if row["told_epoch"] is not None:
            told = LeaderStatus(
                epoch=row["told_epoch"],
                watermark=row["watermark"],
                primary=row["primary_region"],
                refusal=row["refusal"],
            )
        return ReplicationStatus(
            role=row["role"],
            epoch=row["epoch"],
            head=row["head"],
            whole=row["whole"],
            copies=row["copies"],
            told=told,
            silent_s=row["silent_s"],
        )

    async def tell(self, told: LeaderStatus, silent_s: float | None) -> None:
        """Raises: `StoreUnavailable`."""
        await self._pool.execute(
            _SQL["tell_status"], self._zone, told.epoch, told.watermark, told.primary, told.refusal, silent_s
        )

    async def tell_cursors(self, epoch: int, cursors: Mapping[str, int | None]) -> None:
        """Raises: `StoreUnavailable`."""
        await self._pool.execute(_SQL["tell_cursors"], epoch, list(cursors), list(cursors.values()))
