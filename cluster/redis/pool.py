"""The Redis client of a process: every wait is bounded, and errors are the domain's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis.asyncio as redis
from redis.exceptions import RedisError

from cluster.domain.base.errors import StoreUnavailable

CONNECT_TIMEOUT_S = 3.0
CALL_TIMEOUT_S = 5.0


def connect(url: str, *, max_connections: int = 50) -> redis.Redis:
    """Makes a client. It connects at its first call, so a store that is away is noticed only then."""
    return redis.Redis.from_url(
        url,
        max_connections=max_connections,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=CALL_TIMEOUT_S,
        health_check_interval=15,
        decode_responses=True,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Translates errors of Redis in the block. Raises: `StoreUnavailable` if Redis does not answer."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable("Redis does not answer; try again in a moment.") from error


async def ping(client: redis.Redis) -> None:
    """Returns if Redis answers. Raises: `StoreUnavailable` if it does not."""
    with translated():
        await client.ping()
