"""Heartbeats on Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from cluster.ports.presence import HeartbeatRecord
from cluster.redis.pool import connect
from cluster.redis.presence import RedisHeartbeats
from tests.support.stores import StoreUrls, fresh_name


@pytest.fixture
async def client(store_urls: StoreUrls) -> AsyncIterator[redis.Redis]:
    opened = connect(store_urls.redis)
    yield opened
    await opened.aclose()


def _heartbeat(agent_id: str, at: float, workspace: str = "w") -> HeartbeatRecord:
    return HeartbeatRecord(workspace=workspace, agent_id=agent_id, at=at)


async def test_a_heartbeat_never_moves_back_in_time(client: redis.Redis) -> None:
    heartbeats = RedisHeartbeats(client, fresh_name())
    await heartbeats.record_activity(
        [_heartbeat("a", 10.0), _heartbeat("b", 20.0), _heartbeat("a", 5.0, workspace="other")]
    )
    await heartbeats.record_activity([_heartbeat("a", 8.0)])
    assert await heartbeats.last("w", ["a", "b", "unknown"]) == {"a": 10.0, "b": 20.0}
    assert await heartbeats.last("other", ["a"]) == {"a": 5.0}


async def test_forgotten_agents_were_never_heard(client: redis.Redis) -> None:
    heartbeats = RedisHeartbeats(client, fresh_name())
    await heartbeats.record_activity([_heartbeat("a", 10.0), _heartbeat("b", 20.0)])
    await heartbeats.forget([("w", "a")])
    assert await heartbeats.last("w", ["a", "b"]) == {"b": 20.0}
