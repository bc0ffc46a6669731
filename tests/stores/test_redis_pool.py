"""The client of Redis: what is repeated after a closed connection, and what is not."""

from __future__ import annotations

import ast
import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeGuard

import pytest
import redis.asyncio as redis

from cluster.domain.base.errors import StoreUnavailable
from cluster.embedded.redis import EmbeddedRedis
from cluster.ports.presence import HeartbeatRecord
from cluster.redis.pool import connect, ping, translated
from cluster.redis.presence import RedisHeartbeats
from tests.support.cancelling import CancelledAt
from tests.support.listening import listening, port_of
from tests.support.stores import fresh_name, own_stores

CONNECTIONS = 10


@pytest.fixture(scope="module")
def own_redis() -> Iterator[EmbeddedRedis]:
    """A server that the tests may take away."""
    with own_stores() as (_, server):
        yield server


@contextlib.asynccontextmanager
async def _client(url: str, *, idempotent: bool = True) -> AsyncIterator[redis.Redis]:
    client = connect(url, idempotent=idempotent)
    try:
        yield client
    finally:
        await client.aclose()


async def _fill_pool(client: redis.Redis) -> None:
    pool = client.connection_pool
    for connection in [await pool.get_connection() for _ in range(CONNECTIONS)]:
        await pool.release(connection)


def _restart(server: EmbeddedRedis) -> None:
    """Blocks the loop, so that nothing has told the client of the closed connections when it uses them next."""
    server.stop()
    server.start()


def _calls(heartbeats: RedisHeartbeats, client: redis.Redis) -> list[Callable[[], Awaitable[object]]]:
    record = HeartbeatRecord(workspace="w", agent_id="a", at=1.0, working=True)
    return [
        lambda: heartbeats.record_activity([record]),
        lambda: heartbeats.last("w", ["a"]),
        lambda: heartbeats.last_activity("w", ["a"]),
        lambda: heartbeats.forget([("w", "b")]),
        heartbeats.life,
        lambda: ping(client),
    ]


async def test_no_pooled_connection_fails_a_call_after_a_restart(own_redis: EmbeddedRedis) -> None:
    async with _client(own_redis.url) as client:
        heartbeats = RedisHeartbeats(client, fresh_name())
        for call in _calls(heartbeats, client):
            await _fill_pool(client)
            _restart(own_redis)
            outcomes = await asyncio.gather(*(call() for _ in range(CONNECTIONS)), return_exceptions=True)
            assert [outcome for outcome in outcomes if isinstance(outcome, BaseException)] == []


@contextlib.asynccontextmanager
async def _cutting(server: EmbeddedRedis, command: bytes) -> AsyncIterator[str]:
    """A way to the server that loses the answers to a command: the connection is closed instead."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(server.socket))
        try:
            while asked := await reader.read(65_536):
                back.write(asked)
                answer = await there.read(65_536)
                if command in asked:
                    break
                writer.write(answer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            back.transport.abort()

    async with listening(carry) as way:
        yield f"redis://:{server.password}@127.0.0.1:{port_of(way)}/0"


@pytest.mark.parametrize(("idempotent", "counted"), [(True, 3), (False, 1)])
async def test_a_command_that_counts_is_repeated_only_if_its_client_may(
    own_redis: EmbeddedRedis, idempotent: bool, counted: int
) -> None:
    key = fresh_name()
    async with _cutting(own_redis, b"INCR") as url, _client(url, idempotent=idempotent) as client:
        with pytest.raises(StoreUnavailable), translated():
            await client.incr(key)
    async with _client(own_redis.url) as client:
        assert int(await client.get(key)) == counted


async def test_a_command_that_was_not_answered_in_time_is_not_repeated(own_redis: EmbeddedRedis) -> None:
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while data := await reader.read(65_536):
            asked += data.count(b"PING")
        writer.close()

    query = "protocol=2&lib_name=&lib_version="
    async with listening(silent) as server, _client(f"redis://127.0.0.1:{port_of(server)}/0?{query}") as client:
        with pytest.raises(StoreUnavailable):
            await ping(client)
    assert asked <= 1


def test_every_client_says_what_it_repeats() -> None:
    """redis-py has two defaults, and neither is right for all commands."""
    root = Path(__file__).parents[2]
    silent = []
    for room in ("actors", "cluster", "regions", "serve_app", "bench", "scripts"):
        for file in (root / room).rglob("*.py"):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)) if "redis.Redis" in text else ():
                if _is_client(node) and not any(keyword.arg == "retry" for keyword in node.keywords):
                    silent.append(f"{file.relative_to(root)}:{node.lineno}")
    assert silent == []


def _is_client(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("redis.Redis", "redis.Redis.from_url")


@pytest.mark.parametrize("answered", [False, True], ids=["while it waits", "once it is answered"])
async def test_after_a_cancellation_at_any_step_everybody_gets_the_own_answer(
    own_redis: EmbeddedRedis, answered: bool
) -> None:
    async with _client(own_redis.url) as client:
        for n in range(100):
            key = fresh_name()
            await client.set(key, f"of {n}")
            step = CancelledAt(client.get(key), n, answered=answered)
            with contextlib.suppress(asyncio.CancelledError):
                await step
            for other in (f"a{n}", f"b{n}"):
                await client.set(other, other)
                assert await client.get(other) == other
            if not step.reached:
                break
        assert n > 0  # at least one step was cancelled
