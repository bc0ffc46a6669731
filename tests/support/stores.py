"""One pair of real stores per test run, a schema and a key prefix per test."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.redis import EmbeddedRedis

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
        sockets = base / "s"
        sockets.mkdir(mode=0o700)
        postgres = EmbeddedPostgres(
            data=base / "postgres", sockets=sockets, log=base / "postgres.log", password="test-postgres"
        )
        redis = EmbeddedRedis(data=base / "redis", sockets=sockets, log=base / "redis.log", password="test-redis")
        try:
            postgres.start()
            redis.start()
            yield postgres, redis
        finally:
            redis.stop()
            postgres.stop()


def fresh_name() -> str:
    """A schema or prefix that nothing else of this run uses."""
    return f"t{os.getpid()}_{next(_numbers)}"
