"""Last heartbeats in sorted sets, scored by time: one round trip for any number of agents.

One set has the last heartbeat of each agent, the other the last that came with work (a claim or a report).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import redis.asyncio as redis

from cluster.ports.presence import HeartbeatRecord
from cluster.redis.pool import in_time

_SEPARATOR = "\x1f"  # in no workspace and no agent id


class RedisHeartbeats:
    """The heartbeats of one deployment, under its key prefix."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._key = f"{prefix}:heartbeats"
        self._last_activity_key = f"{prefix}:heartbeats:working"

    async def record_activity(self, heartbeats: Sequence[HeartbeatRecord]) -> None:
        if not heartbeats:
            return
        every: dict[str, float] = {}
        working: dict[str, float] = {}
        for heartbeat in heartbeats:
            member = _member(heartbeat.workspace, heartbeat.agent_id)
            every[member] = max(heartbeat.at, every.get(member, heartbeat.at))
            if heartbeat.working:
                working[member] = max(heartbeat.at, working.get(member, heartbeat.at))
        async with in_time(), self._client.pipeline(transaction=False) as pipe:
            pipe.zadd(self._key, every, gt=True)
            if working:
                pipe.zadd(self._last_activity_key, working, gt=True)
            await pipe.execute()

    async def last(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        return await self._scores(self._key, workspace, agent_ids)

    async def last_activity(self, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        return await self._scores(self._last_activity_key, workspace, agent_ids)

    async def _scores(self, key: str, workspace: str, agent_ids: Sequence[str]) -> dict[str, float]:
        if not agent_ids:
            return {}
        async with in_time():
            scores = await self._client.zmscore(key, [_member(workspace, agent_id) for agent_id in agent_ids])
        return {agent_id: float(at) for agent_id, at in zip(agent_ids, scores, strict=True) if at is not None}

    async def forget(self, agents: Sequence[tuple[str, str]]) -> None:
        if agents:
            async with in_time():
                members = [_member(*agent) for agent in agents]
                async with self._client.pipeline(transaction=False) as pipe:
                    pipe.zrem(self._key, *members)
                    pipe.zrem(self._last_activity_key, *members)
                    await pipe.execute()

    async def life(self) -> str:
        async with in_time(), self._client.pipeline(transaction=False) as pipe:
            pipe.set(f"{self._key}:life", secrets.token_hex(8), nx=True)
            pipe.get(f"{self._key}:life")
            return str((await pipe.execute())[1])


def _member(workspace: str, agent_id: str) -> str:
    return f"{workspace}{_SEPARATOR}{agent_id}"
