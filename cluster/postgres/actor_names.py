"""The published names of actors."""

from __future__ import annotations

from cluster.ports.actor_names import ActorName
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("actor_names")


class PostgresActorNames:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def current(self, role: str) -> ActorName | None:
        rows = await self._pool.rows(_SQL["actor_name"], role)
        return ActorName(**dict(rows[0])) if rows else None

    async def publish(self, actor: ActorName) -> None:
        await self._pool.execute(_SQL["publish_actor"], actor.role, actor.name, actor.fingerprint)

    async def withdraw(self, name: str) -> None:
        await self._pool.execute(_SQL["withdraw_actor"], name)
