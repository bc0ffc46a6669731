"""What a region's leader does to its database: it opens writes under a new epoch, moves their trust, closes them.

Each is one transaction, under the lock of the zone's commits where it changes who may write, so a commit is before or after it.
"""

from __future__ import annotations

import time

from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import LogRecord
from cluster.domain.replication.batch import PeerReport
from cluster.domain.replication.quorum import DEFAULT_ZONE
from cluster.ports.replication import ZoneRole
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries
from cluster.postgres.replica import PostgresReplica

_SQL = queries("replication")
_LOG_SQL = queries("log")


class PostgresRegionDatabase:
    """``residency``: the zone of residency that the region is in."""

    def __init__(self, pool: Pool, zone: str, region: str, residency: str | None = None) -> None:
        self._pool = pool
        self._zone = zone
        self._region = region
        self._residency = residency
        self._replica = PostgresReplica(pool, zone, residency)

    async def keep(self) -> None:
        """Raises: `Conflict` if it keeps another zone, as when the settings of two zones name one schema; `StoreUnavailable`."""
        resident = None if self._zone == DEFAULT_ZONE else self._zone
        kept = await self._pool.value(_SQL["keep_zone"], resident)
        if kept not in (None, self._zone):
            raise Conflict(
                f"This schema keeps zone {kept}, and not zone {self._zone}; give each zone a schema of its own.",
                "wrong_zone",
            )

    async def report(self) -> PeerReport:
        """Raises: `StoreUnavailable`."""
        state = await self._replica.state()
        version = await self._pool.value(_SQL["known_version"], self._zone)
        return PeerReport(
            epoch=state.epoch or 0, version=int(version or 0), position=state.head, is_whole=state.may_lead
        )

    async def clock(self) -> float:
        """Raises: `StoreUnavailable`."""
        return float(await self._pool.value(_SQL["database_clock"]))

    async def zone_role(self) -> ZoneRole:
        """Raises: `StoreUnavailable`."""
        rows = await self._pool.rows(_SQL["zone_role"], self._zone)
        return ZoneRole(**dict(rows[0])) if rows else ZoneRole(role="fenced", epoch=0, trusted_until=None)

    async def open_writes(self, epoch: int, trusted_until: float) -> int | None:
        """The number of the row that says so. None, and nothing is changed, if the database knows this epoch or a later one, is
        not whole or lacks payloads, or the trust has ended by its clock.

        Raises: `Fenced` if the trust ends meanwhile, `StoreUnavailable`."""
        data = {"leader": self._region}
        record = LogRecord(at=time.time(), workspace="system", kind="region.epoch_raised", entity=self._zone, data=data)
        rows = log_rows([record], Epoch(region=self._zone, value=epoch))
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["replica_lock"], self._zone)
            values = (self._zone, epoch, trusted_until, self._region, self._residency)
            opened = await connection.fetchval(_SQL["open_writes"], *values)
            if opened is None:
                return None
            (seq,) = await connection.fetchval(_LOG_SQL["append_log"], self._zone, epoch, [True], rows)
        return int(seq)

    async def close_writes(self) -> int:
        """Fences the database if it is primary, and returns its last row: none comes after it.

        Raises: `StoreUnavailable`."""
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["replica_lock"], self._zone)
            await connection.execute(_SQL["close_writes"], self._zone)
            return int(await connection.fetchval(_LOG_SQL["log_head"]))

    async def move_trust(self, epoch: int, trusted_until: float) -> None:
        """Only forward, and only for the epoch under which writes are open.

        Raises: `StoreUnavailable`."""
        await self._pool.execute(_SQL["move_trust"], self._zone, epoch, trusted_until)

    async def remember_version(self, version: int) -> None:
        """Raises: `StoreUnavailable`."""
        await self._pool.execute(_SQL["remember_version"], self._zone, version)
