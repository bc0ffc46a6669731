"""All Postgres adapters of one process, on one pool, with one notion of the region's epoch."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.postgres.agents import PostgresAgents
from cluster.postgres.breakers import PostgresBreakers
from cluster.postgres.deliberations import PostgresDeliberations
from cluster.postgres.log import Epoch, PostgresLog, PostgresRegion
from cluster.postgres.misc import PostgresActorNames, PostgresAnswers, PostgresLeases, PostgresTelemetry
from cluster.postgres.operations import PostgresControls, PostgresDeadLetters
from cluster.postgres.pool import Pool, connect
from cluster.postgres.receipts import PostgresSigningKeys
from cluster.postgres.tasks import PostgresTasks
from cluster.postgres.weights import PostgresOutcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    pool: Pool
    log: PostgresLog
    region: PostgresRegion
    tasks: PostgresTasks
    dead_letters: PostgresDeadLetters
    controls: PostgresControls
    agents: PostgresAgents
    breakers: PostgresBreakers
    deliberations: PostgresDeliberations
    answers: PostgresAnswers
    leases: PostgresLeases
    telemetry: PostgresTelemetry
    names: PostgresActorNames
    signing_keys: PostgresSigningKeys
    outcomes: PostgresOutcomes

    async def close(self) -> None:
        await self.pool.close()


async def open_stores(
    url: str, schema: str, region: str, *, max_connections: int = 8, application: str = "aragora"
) -> Stores:
    """Connects and reads the region's epoch, which every write then states."""
    pool = await connect(url, schema, max_size=max_connections, application=application)
    epoch = Epoch(region=region)
    region_store = PostgresRegion(pool, epoch)
    await region_store.epoch()
    return Stores(
        pool=pool,
        log=PostgresLog(pool, epoch),
        region=region_store,
        tasks=PostgresTasks(pool, epoch),
        dead_letters=PostgresDeadLetters(pool, epoch),
        controls=PostgresControls(pool, epoch),
        agents=PostgresAgents(pool, epoch),
        breakers=PostgresBreakers(pool, epoch),
        deliberations=PostgresDeliberations(pool, epoch),
        answers=PostgresAnswers(pool),
        leases=PostgresLeases(pool),
        telemetry=PostgresTelemetry(pool),
        names=PostgresActorNames(pool),
        signing_keys=PostgresSigningKeys(pool),
        outcomes=PostgresOutcomes(pool, epoch),
    )
