"""A whole system whose stores belong to the harness, so that they can be taken away while it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster.embedded.postgres import EmbeddedPostgres
from cluster.embedded.redis import EmbeddedRedis
from cluster.settings import Settings
from tests.chaos.workload import ChaosTarget
from tests.support.stores import own_stores
from tests.support.system import RunningSystem

#: Short, so that expiry is met often; long against a restart of the shard on a loaded machine.
HEARTBEAT_TIMEOUT_S = 4.0


@dataclass(frozen=True, slots=True)
class Target:
    system: RunningSystem
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    heartbeat_timeout_s: float

    @property
    def target(self) -> ChaosTarget:
        defaults = Settings()
        return ChaosTarget(
            api_url=self.system.api_url,
            database_url=self.postgres.url,
            schema=defaults.database_schema,
            workspace=defaults.workspace,
            heartbeat_timeout_s=self.heartbeat_timeout_s,
        )


@contextmanager
def running_target(heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S, **more: str) -> Iterator[Target]:
    """``more``: further settings, by the names of their environment variables."""
    with own_stores() as (postgres, redis), tempfile.TemporaryDirectory(prefix="aragora-chaos-") as base:
        settings = {
            "ARAGORA_DATABASE_URL": postgres.url,
            "ARAGORA_REDIS_URL": redis.url,
            "ARAGORA_AUTH_ENABLED": "false",
            "ARAGORA_HEARTBEAT_TIMEOUT": f"{heartbeat_timeout_s:g}",
            **more,
        }
        system = RunningSystem(Path(base) / "data", settings)
        try:
            system.start()
            yield Target(system, postgres, redis, heartbeat_timeout_s)
        finally:
            system.clean_up()
