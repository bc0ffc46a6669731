"""One pair of real stores per test run, a database and a key prefix per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import end
from cluster.embedded.redis import EmbeddedRedis
from cluster.postgres.migrate import migrate
from tests.support.reaper import after_us_end

_numbers = itertools.count(1)
_TEMPLATE = "migrated"
_MEMORY = "/dev/shm"
#: Bytes: a worker's stores take a tenth of it.
_ROOM = 4 << 30


@dataclass(frozen=True, slots=True)
class StoreUrls:
    database: str
    redis: str

    def of(self, database: str) -> StoreUrls:
        """The same stores, with another database of the server."""
        return replace(self, database=self.database.replace("/postgres?", f"/{database}?"))


@contextmanager
def running_stores() -> Iterator[StoreUrls]:
    """Those that the tests of a run share. Deleting their files, some hundred for each schema, is left to the reaper: it takes
    many seconds, for which the run would not end."""
    base = Path(tempfile.mkdtemp(prefix="aragora-test-", dir=_in_memory()))
    with _running_in(base) as (postgres, redis):
        # In a thread: whichever test of a worker asks first, it may do so within its event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _hurry(postgres.url)).result()
        yield StoreUrls(postgres.url, redis.url)
    after_us_end("files", str(base))


def _in_memory() -> str | None:
    """A file system in memory that has room; None if there is none. A test's database is some 900 files: on a disk that others
    use too they take a second, in memory some 30 ms."""
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return None
    return _MEMORY if found.f_bavail * found.f_frsize >= _ROOM else None


async def _hurry(url: str) -> None:
    """Leaves out what no test of shared stores can see. Half of the work of a migration is to check the bodies of functions, the
    same ones for each test; and what is not flushed is lost by an operating system that fails, not by a process. `own_stores`
    does both, as every system does."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("alter role current_user set check_function_bodies = off")
        for setting in ("fsync = off", "full_page_writes = off", "max_wal_size = '128MB'"):
            await connection.execute(f"alter system set {setting}")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


class Databases:
    """Databases of the shared server with a migrated schema, each a copy of one that was migrated once: the migrations of a
    schema take four times as long as the copy."""

    def __init__(self, urls: StoreUrls) -> None:
        self.urls = urls

    async def prepare(self) -> None:
        await self._execute(f"create database {_TEMPLATE}")
        await migrate(self.urls.of(_TEMPLATE).database, _TEMPLATE)

    @asynccontextmanager
    async def another(self) -> AsyncIterator[tuple[StoreUrls, str]]:
        """Where it is, and the name of its schema. It ends with the block, whoever is connected."""
        name = fresh_name()
        await self._execute(f"create database {name} template {_TEMPLATE}")
        urls = self.urls.of(name)
        connection = await asyncpg.connect(urls.database)
        try:
            await connection.execute(f"alter schema {_TEMPLATE} rename to {name}")
        finally:
            await connection.close()
        try:
            yield urls, name
        finally:
            await self._execute(f"drop database {name} with (force)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.urls.database)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def own_stores() -> Iterator[tuple[EmbeddedPostgres, EmbeddedRedis]]:
    """Stores that a test may take away."""
    with tempfile.TemporaryDirectory(prefix="aragora-test-") as name, _running_in(Path(name)) as stores:
        yield stores


@contextmanager
def _running_in(base: Path) -> Iterator[tuple[EmbeddedPostgres, EmbeddedRedis]]:
    (base / "s").mkdir(mode=0o700)
    after_us_end("stores", str(base))
    postgres, redis = stores_in(base)
    try:
        postgres.start()
        redis.start()
        yield postgres, redis
    finally:
        redis.stop()
        _abandon(postgres)


def _abandon(postgres: EmbeddedPostgres) -> None:
    """Ends the server at once: its files go with it, and a checkpoint would write those of a thousand schemas first."""
    if postgres.process is not None:
        end([postgres.process], first=signal.SIGQUIT)
    postgres.stop()


def stores_in(base: Path) -> tuple[EmbeddedPostgres, EmbeddedRedis]:
    """Not started, or those that somebody has started there."""
    sockets = base / "s"
    return (
        EmbeddedPostgres(data=base / "postgres", sockets=sockets, log=base / "postgres.log", password="test-postgres"),
        EmbeddedRedis(data=base / "redis", sockets=sockets, log=base / "redis.log", password="test-redis"),
    )


def fresh_name() -> str:
    """A schema or prefix that nothing else of this run uses."""
    return f"t{os.getpid()}_{next(_numbers)}"
