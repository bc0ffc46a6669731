"""Remembered answers, under the caller's idempotency key."""

from __future__ import annotations

from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("idempotency")


class PostgresAnswers:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def recall(self, workspace: str, route: str, key: str) -> tuple[bytes, str] | None:
        rows = await self._pool.rows(_SQL["recall_answer"], workspace, route, key)
        return (rows[0]["digest"], rows[0]["answer"]) if rows else None

    async def remember(self, workspace: str, route: str, key: str, digest: bytes, answer: str, now: float) -> None:
        await self._pool.execute(_SQL["remember_answer"], workspace, route, key, digest, answer, now)
