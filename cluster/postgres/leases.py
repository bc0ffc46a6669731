"""Named leases in PostgreSQL."""

from __future__ import annotations

from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("leases")


class PostgresLeases:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def acquire(self, name: str, holder: str, ttl_s: float) -> int | None:
        fence = await self._pool.value(_SQL["acquire_lease"], name, holder, ttl_s)
        return None if fence is None else int(fence)

    async def release(self, name: str, holder: str) -> None:
        await self._pool.execute(_SQL["release_lease"], name, holder)

    async def held(self, prefix: str) -> list[str]:
        return [row["name"] for row in await self._pool.rows(_SQL["held_leases"], prefix)]

    async def end_unrenewed(self, name: str, left_s: float) -> bool:
        return await self._pool.value(_SQL["end_unrenewed_lease"], name, left_s) is not None

    async def forget(self, prefix: str, ended_s: float) -> None:
        await self._pool.execute(_SQL["forget_leases"], prefix, ended_s)
