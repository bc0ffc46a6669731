"""The Redis client of a process: every wait is bounded, and errors are the domain's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as ClosedConnection
from redis.exceptions import RedisError

from cluster.domain.base.errors import StoreUnavailable

#: Short, because calls of the API wait for Redis and go on without it if it hangs.
CONNECT_TIMEOUT_S = 1.0
CALL_TIMEOUT_S = 1.0
#: How often a command is repeated whose connection was closed: after a restart of Redis, each pooled connection is.
REPEATS = 2


def connect(url: str, *, max_connections: int = 50, idempotent: bool = True) -> redis.Redis:
    """Makes a client. It connects at its first call, so a store that is away is noticed only then.

    If a connection is closed, an ``idempotent`` client repeats the command on a new one. Make a client of its own for
    commands that count (INCR, LPUSH): the server may have carried out a command whose answer was lost. A command that was
    not answered in time is never repeated.
    """
    # Said always: of redis-py 8.1, `from_url` repeats nothing by default, and the constructor everything, INCR too.
    repeats = REPEATS if idempotent else 0
    return redis.Redis.from_url(
        url,
        max_connections=max_connections,
        retry=Retry(ExponentialBackoff(base=0.01, cap=0.05), repeats, supported_errors=(ClosedConnection,)),
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


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Bounds a command as a whole, and translates its errors. Raises: `StoreUnavailable` if Redis does not answer in time.

    The client's own bounds are per step: a command on a pooled connection may wait for a probe of that connection, for a new
    one, for its greeting and for the answer, four seconds in all if Redis hangs.
    """
    with translated():
        async with asyncio.timeout(CALL_TIMEOUT_S):
            yield


async def ping(client: redis.Redis) -> None:
    """Returns if Redis answers. Raises: `StoreUnavailable` if it does not."""
    async with in_time():
        await client.ping()
