"""One pair of real stores per test run, a schema and a key prefix per test."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.processes import end
from cluster.embedded.redis import EmbeddedRedis
from tests.support.reaper import after_us_end

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class StoreUrls:
    database: str
    redis: str


@contextmanager
def running_stores() -> Iterator[StoreUrls]:
    """Those that the tests of a run share. Deleting their files, some hundred for each schema, is left to the reaper: it takes
    many seconds, for which the run would not end."""
    base = Path(tempfile.mkdtemp(prefix="aragora-test-"))
    with _running_in(base) as (postgres, redis):
        # In a thread: whichever test of a worker asks first, it may do so within its event loop.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _hurry(postgres.url)).result()
        yield StoreUrls(postgres.url, redis.url)
    after_us_end("files", str(base))


async def _hurry(url: str) -> None:
    """Leaves out what no test of shared stores can see. Half of the work of a migration is to check the bodies of functions, the
    same ones for each test; and what is not flushed is lost by an operating system that fails, not by a process. `own_stores`
    does both, as every system does."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("alter role current_user set check_function_bodies = off")
        for setting in ("fsync", "full_page_writes"):
            await connection.execute(f"alter system set {setting} = off")
        await connection.execute("select pg_reload_conf()")
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
