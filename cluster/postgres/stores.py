"""All PostgreSQL adapters of one process, on one pool, stating one epoch of the region.

Adapters that only some processes use are imported when they are first used. They need numpy and cryptography, which every
process would load at every restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cluster.postgres.access import PostgresAccessStore
from cluster.postgres.actor_names import PostgresActorNames
from cluster.postgres.agents import PostgresAgents
from cluster.postgres.breakers import PostgresBreakers
from cluster.postgres.chunks import PostgresChunks
from cluster.postgres.idempotency import PostgresAnswers
from cluster.postgres.leases import PostgresLeases
from cluster.postgres.log import Epoch, PostgresLog, PostgresRegion
from cluster.postgres.operations import PostgresControls, PostgresDeadLetters
from cluster.postgres.pool import LONGEST_ANSWER_S, Pool, connect
from cluster.postgres.tally import PostgresTally
from cluster.postgres.tasks import PostgresTasks
from cluster.postgres.telemetry import PostgresTelemetry

if TYPE_CHECKING:
    from cluster.postgres.audit import PostgresAudit, PostgresSeals
    from cluster.postgres.budgets import PostgresBudgets
    from cluster.postgres.credentials import PostgresCredentials
    from cluster.postgres.deliberations import PostgresDeliberations
    from cluster.postgres.erasure import PostgresErasures
    from cluster.postgres.hooks import PostgresHooks
    from cluster.postgres.keys import PostgresSigningKeys
    from cluster.postgres.log_segments import PostgresLogSegments
    from cluster.postgres.notifications import PostgresNotifications
    from cluster.postgres.outcomes import PostgresOutcomes
    from cluster.postgres.policies import PostgresPolicies
    from cluster.postgres.pushes import PostgresPushes
    from cluster.postgres.quotas import PostgresQuotas
    from cluster.postgres.readings import PostgresReadings
    from cluster.postgres.retention import PostgresRetention
    from cluster.postgres.schedules import PostgresSchedules
    from cluster.postgres.secrets import PostgresSecrets
    from cluster.postgres.workflows import PostgresWorkflows


@dataclass(kw_only=True)
class Stores:
    """The adapters of one process."""

    pool: Pool
    epoch: Epoch
    log: PostgresLog
    region: PostgresRegion
    tasks: PostgresTasks
    chunks: PostgresChunks
    dead_letters: PostgresDeadLetters
    controls: PostgresControls
    agents: PostgresAgents
    breakers: PostgresBreakers
    answers: PostgresAnswers
    leases: PostgresLeases
    telemetry: PostgresTelemetry
    tally: PostgresTally
    names: PostgresActorNames
    access: PostgresAccessStore

    @cached_property
    def deliberations(self) -> PostgresDeliberations:
        from cluster.postgres.deliberations import PostgresDeliberations

        return PostgresDeliberations(self.pool, self.epoch)

    def signing_keys(self, keys: Sequence[bytes]) -> PostgresSigningKeys:
        """The keys of receipts. ``keys`` seal the deployment's own one, if there are any."""
        from cluster.postgres.keys import PostgresSigningKeys

        return PostgresSigningKeys(self.pool, self.epoch, self.secrets(keys) if keys else None)

    @cached_property
    def outcomes(self) -> PostgresOutcomes:
        from cluster.postgres.outcomes import PostgresOutcomes

        return PostgresOutcomes(self.pool, self.epoch)

    @cached_property
    def schedules(self) -> PostgresSchedules:
        from cluster.postgres.schedules import PostgresSchedules

        return PostgresSchedules(self.pool, self.epoch)

    @cached_property
    def workflows(self) -> PostgresWorkflows:
        from cluster.postgres.workflows import PostgresWorkflows

        return PostgresWorkflows(self.pool, self.epoch)

    def hooks(self, keys: Sequence[bytes]) -> PostgresHooks:
        """``keys`` seal; without any no secret of a hook can be read or stored."""
        from cluster.postgres.hooks import PostgresHooks

        return PostgresHooks(self.pool, self.epoch, keys)

    @cached_property
    def notifications(self) -> PostgresNotifications:
        from cluster.postgres.notifications import PostgresNotifications

        return PostgresNotifications(self.pool, self.epoch)

    @cached_property
    def erasures(self) -> PostgresErasures:
        from cluster.postgres.erasure import PostgresErasures

        return PostgresErasures(self.pool, self.epoch)

    @cached_property
    def retention(self) -> PostgresRetention:
        from cluster.postgres.retention import PostgresRetention

        return PostgresRetention(self.pool, self.epoch)

    @cached_property
    def log_segments(self) -> PostgresLogSegments:
        from cluster.postgres.log_segments import PostgresLogSegments

        return PostgresLogSegments(self.pool, self.epoch)

    @cached_property
    def budgets(self) -> PostgresBudgets:
        from cluster.postgres.budgets import PostgresBudgets

        return PostgresBudgets(self.pool, self.epoch)

    @cached_property
    def quotas(self) -> PostgresQuotas:
        from cluster.postgres.quotas import PostgresQuotas

        return PostgresQuotas(self.pool, self.epoch)

    @cached_property
    def policies(self) -> PostgresPolicies:
        from cluster.postgres.policies import PostgresPolicies

        return PostgresPolicies(self.pool, self.epoch)

    @cached_property
    def readings(self) -> PostgresReadings:
        from cluster.postgres.readings import PostgresReadings

        return PostgresReadings(self.pool, self.epoch)

    @cached_property
    def audit(self) -> PostgresAudit:
        from cluster.postgres.audit import PostgresAudit

        return PostgresAudit(self.pool)

    @cached_property
    def seals(self) -> PostgresSeals:
        from cluster.postgres.audit import PostgresSeals

        return PostgresSeals(self.pool)

    def secrets(self, keys: Sequence[bytes]) -> PostgresSecrets:
        """Sealed secrets, and the keys that open them."""
        from cluster.domain.access.sealing import Sealer
        from cluster.postgres.secrets import PostgresSecrets

        return PostgresSecrets(self.pool, Sealer(keys))

    def credentials(self, keys: Sequence[bytes]) -> PostgresCredentials:
        """Credentials of workspaces, and the keys that open them."""
        from cluster.postgres.credentials import PostgresCredentials

        return PostgresCredentials(self.pool, self.epoch, keys)

    def pushes(self, keys: Sequence[bytes]) -> PostgresPushes:
        """``keys`` seal; without any no push can have a token."""
        from cluster.postgres.pushes import PostgresPushes

        return PostgresPushes(self.pool, self.epoch, keys)

    async def close(self) -> None:
        """Closes the pool."""
        await self.pool.close()


async def open_stores(
    url: str,
    schema: str,
    region: str,
    *,
    max_connections: int = 8,
    application: str = "aragora",
    answer_s: float = LONGEST_ANSWER_S,
    alone: bool = True,
) -> Stores:
    """Connects and reads the region's epoch, which every write then states. ``region``: the zone, if it is not ``alone``.

    Raises: `StoreUnavailable` if the database cannot be reached."""
    pool = await connect(url, schema, max_size=max_connections, application=application, answer_s=answer_s)
    epoch = Epoch(region=region)
    region_store = PostgresRegion(pool, epoch, alone=alone)
    await region_store.epoch()
    return Stores(
        pool=pool,
        epoch=epoch,
        log=PostgresLog(pool, epoch),
        region=region_store,
        tasks=PostgresTasks(pool, epoch),
        chunks=PostgresChunks(pool, epoch),
        dead_letters=PostgresDeadLetters(pool, epoch),
        controls=PostgresControls(pool, epoch),
        agents=PostgresAgents(pool, epoch),
        breakers=PostgresBreakers(pool, epoch),
        answers=PostgresAnswers(pool),
        leases=PostgresLeases(pool),
        telemetry=PostgresTelemetry(pool),
        tally=PostgresTally(pool),
        names=PostgresActorNames(pool),
        access=PostgresAccessStore(pool, epoch),
    )
