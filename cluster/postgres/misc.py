"""Named leases, remembered answers, telemetry snapshots and the published names of actors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.ports.actor_names import ActorName
from cluster.ports.telemetry import AgentCounters
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("misc")


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


class PostgresAnswers:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def recall(self, workspace: str, route: str, key: str) -> tuple[bytes, str] | None:
        rows = await self._pool.rows(_SQL["recall_answer"], workspace, route, key)
        return (rows[0]["digest"], rows[0]["answer"]) if rows else None

    async def remember(self, workspace: str, route: str, key: str, digest: bytes, answer: str, now: float) -> None:
        await self._pool.execute(_SQL["remember_answer"], workspace, route, key, digest, answer, now)


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
                [one.workspace for one in agents],
                [one.agent_id for one in agents],
                [one.completed for one in agents],
                [one.failed for one in agents],
                [one.latency_ms_sum for one in agents],
            )
        )


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
