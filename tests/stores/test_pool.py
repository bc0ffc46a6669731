"""Connections: a database that is away is named, and nobody gets a connection with a rest of somebody else's call."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from cluster.domain.base.errors import StoreUnavailable
from cluster.postgres.pool import (
    BREAKER_THRESHOLD,
    CONNECT_TIMEOUT_S,
    LONGEST_ANSWER_S,
    Pool,
    _too_slow,
    connect,
    translated,
)
from tests.support.cancelling import CancelledAt
from tests.support.loop_clock import pass_time
from tests.support.probes import eventually
from tests.support.stores import StoreUrls


async def test_a_database_that_is_away_is_named() -> None:
    with pytest.raises(StoreUnavailable):
        await connect("postgresql://nobody@/none?host=/nonexistent", "s")


@pytest.mark.parametrize(
    "broken",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_broken_connection_makes_the_store_unavailable(broken: Exception) -> None:
    assert isinstance(translated(broken), StoreUnavailable)


async def _in_transaction(watcher: asyncpg.Connection, application: str) -> int:
    return int(
        await watcher.fetchval(
            "select count(*) from pg_stat_activity where application_name = $1 and xact_start is not null", application
        )
    )


async def _read(pool: Pool, sql: str) -> None:
    async with pool.snapshot() as connection:
        await connection.fetch(sql, "pg_class")


@pytest.mark.parametrize("answered", [False, True], ids=["while it waits", "once it is answered"])
@pytest.mark.parametrize("call", [Pool.rows, Pool.value, _read], ids=["rows", "value", "snapshot"])
async def test_a_call_cancelled_at_any_step_leaves_no_transaction(
    store_urls: StoreUrls, schema: str, call: Callable[..., Coroutine[Any, Any, Any]], answered: bool
) -> None:
    watcher = await asyncpg.connect(store_urls.database)
    pool = await connect(store_urls.database, schema, max_size=1, application=schema)
    for n in range(100):
        # A comment of its own, so that the statement is prepared anew.
        arguments = [f"select relname from pg_class where relname = $1 -- {n}"]
        step = CancelledAt(call(pool, *arguments, *([] if call is _read else ["pg_class"])), n, answered=answered)
        with suppress(asyncio.CancelledError):
            await step
        assert await _in_transaction(watcher, schema) == 0, f"cancelled at step {n}"
        async with pool.snapshot() as connection:
            assert await connection.fetchval("select 1") == 1
        if not step.reached:
            break
    assert n > 0  # at least one step was cancelled
    await pool.close()
    await watcher.close()


async def test_a_call_cancelled_when_its_connection_is_closed_is_cancelled(store_urls: StoreUrls, schema: str) -> None:
    """Else the owner of a task that it stops takes the error of the connection for a failure of the task."""
    watcher = await asyncpg.connect(store_urls.database)
    pool = await connect(store_urls.database, schema, max_size=1, application=schema)
    call = asyncio.create_task(pool.value("select pg_sleep(30)"))

    async def runs() -> bool:
        return await _in_transaction(watcher, schema) == 1

    await eventually(runs)
    pool._pool.terminate()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await watcher.close()


async def test_a_statement_that_takes_too_long_says_nothing_about_the_database(
    store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a few calls for too much keep everybody else out."""
    monkeypatch.setattr("cluster.postgres.pool.RELEASE_S", 30.0)
    watcher = await asyncpg.connect(store_urls.database)
    pool = await connect(store_urls.database, schema, application=schema)

    async def runs() -> bool:
        return await _in_transaction(watcher, schema) == 1

    for _ in range(BREAKER_THRESHOLD):
        call = asyncio.create_task(pool.value("select pg_sleep(600)"))
        await eventually(runs)
        pass_time(LONGEST_ANSWER_S)
        with pytest.raises(StoreUnavailable, match="too long"):
            await call
    assert pool.breaker.failures == 0
    assert await pool.value("select 1") == 1
    await watcher.close()
    await pool.close()


async def test_a_call_that_gets_no_connection_is_a_failure_of_the_database(store_urls: StoreUrls, schema: str) -> None:
    pool = await connect(store_urls.database, schema, max_size=1, application=schema, answer_s=0.2)
    async with pool._connection():
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await pool.value("select 1")
        assert pool.breaker.failures == 1
    await pool.close()


async def test_a_call_that_waits_for_answered_ones_says_nothing_about_the_database(
    store_urls: StoreUrls, schema: str
) -> None:
    """Else many calls at once, each of them short, keep everybody out of a database that answers."""
    watcher = await asyncpg.connect(store_urls.database)
    pool = await connect(store_urls.database, schema, max_size=1, application=schema)
    held = [zlib.crc32(f"{schema}-{number}".encode()) for number in range(2)]
    for lock in held:
        await watcher.execute("select pg_advisory_lock($1)", lock)
    answered, busy = [asyncio.create_task(pool.value("select pg_advisory_lock_shared($1)", lock)) for lock in held]

    async def is_asked() -> bool:
        return await _in_transaction(watcher, schema) == 1

    await eventually(is_asked)
    calls = [asyncio.create_task(pool.value("select 1")) for _ in range(BREAKER_THRESHOLD * 4)]
    await asyncio.sleep(0)  # each has begun to wait for the connection
    await watcher.execute("select pg_advisory_unlock($1)", held[0])
    await answered
    await eventually(is_asked)
    pass_time(CONNECT_TIMEOUT_S)
    late = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(error) for error in late} == {str(_too_slow())}
    assert pool.breaker.failures == 0
    await watcher.close()
    await busy
    await pool.close()
