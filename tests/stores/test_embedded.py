"""The embedded stores: what they leave behind and what they find."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
from collections.abc import Iterator

import asyncpg
import pytest
import redis

from cluster.embedded.layout import Layout
from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import ProcessId, end, spawn, wait_until
from cluster.embedded.redis import EmbeddedRedis
from cluster.embedded.restarts import StoreWatch
from cluster.embedded.secrets import store_secrets
from tests.support.embedded import new_layout

Stores = tuple[EmbeddedPostgres, EmbeddedRedis]


@pytest.fixture
def layout() -> Iterator[Layout]:
    with new_layout() as created:
        yield created


def _stores(layout: Layout) -> Stores:
    passwords = store_secrets(layout.secrets)
    return (
        EmbeddedPostgres(
            data=layout.postgres, sockets=layout.sockets, log=layout.logs / "pg.log", password=passwords.postgres
        ),
        EmbeddedRedis(
            data=layout.redis, sockets=layout.sockets, log=layout.logs / "redis.log", password=passwords.redis
        ),
    )


def _sql(postgres: EmbeddedPostgres, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(postgres.url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def _kill(process: ProcessId | None) -> None:
    """kill -9 of one process, whatever its children do."""
    assert process is not None
    process.signal(signal.SIGKILL)
    end([process])


@pytest.mark.slow
def test_stores_survive_kill_and_are_adopted_while_healthy(layout: Layout) -> None:
    postgres, valkey = _stores(layout)
    try:
        assert (postgres.start(), valkey.start()) == (True, True)
        _sql(postgres, "create table kept as select 1 as n")
        with redis.Redis(unix_socket_path=str(valkey.socket), password=valkey.password) as client:
            client.set("kept", "1")
        with redis.Redis(unix_socket_path=str(valkey.socket)) as stranger, pytest.raises(redis.RedisError):
            stranger.get("kept")
        for setting, expected in (("fsync", "on"), ("synchronous_commit", "on"), ("listen_addresses", "")):
            assert _sql(postgres, f"show {setting}") == expected
        adopting, also = _stores(layout)
        assert (adopting.start(), also.start()) == (False, False)
        assert (adopting.process, also.process) == (postgres.process, valkey.process)
        for store in (postgres, valkey):
            _kill(store.process)
        again, later = _stores(layout)
        assert (again.start(), later.start()) == (True, True)
        assert _sql(again, "select count(*) from kept") == 1
        again.stop()
        later.stop()
        assert not any(
            process.alive() for process in (again.process, later.process, postgres.process) if process is not None
        )
    finally:
        for store in (*_stores(layout),):
            store.stop()


@pytest.mark.slow
def test_a_postgres_killed_in_the_middle_of_writes_is_started_again(layout: Layout) -> None:
    """One connection writes row after row; another holds a statement that outlives the server, whose process would keep the
    shared memory from the next one for as long."""
    postgres, _ = _stores(layout)
    acknowledged: list[int] = []

    async def write() -> None:
        holder = await asyncpg.connect(postgres.url)
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("create table written (n int)")
        held = asyncio.ensure_future(holder.execute("do $$ begin loop perform 1; end loop; end $$"))
        killer = asyncio.get_running_loop().call_later(0.5, lambda: _kill(postgres.process))
        with contextlib.suppress(asyncpg.PostgresError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            for number in itertools.count():
                await connection.execute("insert into written values ($1)", number)
                acknowledged.append(number)
        killer.cancel()
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        holder.terminate()

    try:
        postgres.start()
        watch = StoreWatch(name="postgres", title="PostgreSQL", store=postgres, note=lambda *_: None)
        asyncio.run(write())
        said: list[str] = []

        def again() -> bool:
            said.extend(watch.look())
            return len(said) > 1

        assert wait_until(again, 30), said
        assert ["died" in line for line in said] == [True, False], said
        assert acknowledged
        assert set(acknowledged) <= set(json.loads(str(_sql(postgres, "select json_agg(n) from written"))))
    finally:
        for store in _stores(layout):
            store.stop()


@pytest.mark.slow
def test_a_stale_pid_file_of_somebody_elses_process_harms_nobody(layout: Layout) -> None:
    postgres, valkey = _stores(layout)
    bystander = spawn(["sleep", "600"], log=layout.logs / "sleep.log")
    try:
        postgres.start()
        valkey.start()
        for store in (postgres, valkey):
            _kill(store.process)
        lines = (layout.postgres / "postmaster.pid").read_text().splitlines()
        (layout.postgres / "postmaster.pid").write_text("\n".join([str(bystander.pid), *lines[1:]]))
        socket_lock = layout.sockets / ".s.PGSQL.5432.lock"
        lines = socket_lock.read_text().splitlines()
        socket_lock.write_text("\n".join([str(bystander.pid), *lines[1:], ""]))
        (layout.redis / "valkey.pid").write_text(str(bystander.pid))
        again, later = _stores(layout)
        assert (later.start(), bystander.alive()) == (True, True)
        assert (again.start(), bystander.alive()) == (True, True)
        assert _sql(again, "select 1") == 1
    finally:
        for store in _stores(layout):
            store.stop()
        end([bystander])
    assert not bystander.alive()
