"""Last signs of life in one sorted set, scored by time: one round trip for any number of agents."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio as redis

from cluster.ports import Beat
from cluster.redis.pool import translated

_SEPARATOR = "\x1f"  # in no workspace and no agent id


class RedisHeartbeats:
    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = f"{prefix}:heartbeats"

    async def beat(self, beats: Sequence[Beat]) -> None:
        if beats:
            with translated():
                await self._client.zadd(
                    self._key, {_member(one.workspace, one.agent_id): one.at for one in beats}, gt=True
                )

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        if not agent_ids:
            return {}
        with translated():
            scores = await self._client.zmscore(self._key, [_member(workspace, one) for one in agent_ids])
        return {one: float(at) for one, at in zip(agent_ids, scores, strict=True) if at is not None}

    async def silent(self, before: float) -> list[tuple[str, str]]:
        with translated():
            members = await self._client.zrangebyscore(self._key, "-inf", f"({before}")
        return [_split(str(member)) for member in members]

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None:
        if agents:
            with translated():
                await self._client.zrem(self._key, *(_member(*one) for one in agents))


def _member(workspace: str, agent_id: str) -> str:
    return f"{workspace}{_SEPARATOR}{agent_id}"


def _split(member: str) -> tuple[str, str]:
    workspace, _, agent_id = member.partition(_SEPARATOR)
    return workspace, agent_id
