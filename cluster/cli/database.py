"""The control plane's database, for commands that read it themselves: they run where the settings are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.cli.checks.stores import stores_settings
from cluster.cli.connection import settings
from cluster.settings import Settings, SettingsError

if TYPE_CHECKING:  # the libraries of signatures and of the database are loaded by the commands that need them
    from cluster.domain.audit.checkpoint import Checkpoint
    from cluster.domain.base.log import LogRow
    from cluster.postgres.audit import PostgresSeals
    from cluster.postgres.log import PostgresLog
    from cluster.postgres.log_segments import PostgresLogSegments
    from cluster.postgres.pool import Pool

#: Of one read.
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Database:
    settings: Settings
    log: PostgresLog
    seals: PostgresSeals
    segments: PostgresLogSegments

    @property
    def zone(self) -> str:
        return self.settings.zone

    async def rows(self, after: int, through: int) -> AsyncIterator[LogRow]:
        """The rows of the log after one, up to one."""
        while after < through and (page := await self.log.read(after, min(PAGE, through - after))):
            for row in page:
                if row.seq <= through:
                    yield row
            after = page[-1].seq

    async def checkpoints(self, after: int) -> list[Checkpoint]:
        """Those that cover a row after one. Raises: `DamagedCheckpoint` if one has lost its form."""
        found: list[Checkpoint] = []
        while page := await self.seals.checkpoints(found[-1].last_seq if found else after, PAGE):
            found += page
        return found


@asynccontextmanager
async def opened() -> AsyncIterator[Database]:
    """Raises: `SettingsError` if no database is set, `StoreUnavailable` if it does not answer."""
    from cluster.postgres.audit import PostgresSeals
    from cluster.postgres.log import Epoch, PostgresLog
    from cluster.postgres.log_segments import PostgresLogSegments

    ours = stores_settings(settings())
    async with opened_pool() as pool:
        epoch = Epoch(region=ours.zone)
        yield Database(ours, PostgresLog(pool, epoch), PostgresSeals(pool), PostgresLogSegments(pool, epoch))


@asynccontextmanager
async def opened_pool() -> AsyncIterator[Pool]:
    """One connection. Raises: `SettingsError` if no database is set, `StoreUnavailable` if it does not answer."""
    from cluster.postgres.pool import connect

    ours = stores_settings(settings())
    if ours.database_url is None:
        raise SettingsError("ARAGORA_DATABASE_URL must be set; run this where the control plane's settings are.")
    pool = await connect(
        ours.database_url.get_secret_value(), ours.database_schema, max_size=1, application="aragora-cp"
    )
    try:
        yield pool
    finally:
        await pool.close()
