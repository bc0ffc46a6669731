"""One pair of real stores per test run, a schema and a key prefix per test."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
    with own_stores() as (postgres, redis):
        yield StoreUrls(postgres.url, redis.url)


@contextmanager
def own_stores() -> Iterator[tuple[EmbeddedPostgres, EmbeddedRedis]]:
    """Stores that a test may take away."""
    with tempfile.TemporaryDirectory(prefix="aragora-test-") as name:
        base = Path(name)
        (base / "s").mkdir(mode=0o700)
        after_us_end("stores", name)
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
