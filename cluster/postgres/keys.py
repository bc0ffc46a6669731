"""Keys that sign receipts. Receipts are not stored: they are made from the journal when somebody asks for them."""

from __future__ import annotations

import time
from typing import Any

from cluster.domain.access.sealing import Unsealable
from cluster.domain.base.log import SYSTEM, LogRecord
from cluster.domain.base.signing import Signer, key_id
from cluster.ports.keys import PublishedKey
from cluster.ports.secrets import RECEIPT_SEED, SecretStore
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("keys")
KIND = "receipts.key_published"


class PostgresSigningKeys:
    """``secrets`` keeps the deployment's own seed. Without it (no key seals), the table of keys keeps it as it is."""

    def __init__(self, pool: Pool, epoch: Epoch, secrets: SecretStore | None) -> None:
        self._pool = pool
        self._epoch = epoch
        self._secrets = secrets

    async def own(self, candidate: bytes) -> bytes:
        if self._secrets is None:
            if await self._pool.value(_SQL["is_sealed"], RECEIPT_SEED):
                raise Unsealable(
                    "The key that signs receipts is sealed; set the ARAGORA_SECRETS_KEY that has sealed it."
                )
            return bytes(await self._publish(Signer(candidate).public_key, candidate))
        unsealed = await self._pool.value(_SQL["unsealed_seed"])
        seed = await self._secrets.own(RECEIPT_SEED, candidate if unsealed is None else bytes(unsealed))
        await self._publish(Signer(seed).public_key, None)
        if unsealed is not None:
            # Only now: a process that is killed before leaves the seed where the next one finds it.
            await self._pool.execute(_SQL["remove_unsealed_seed"])
        return seed

    async def publish(self, public_key: bytes) -> None:
        await self._publish(public_key, None)

    async def _publish(self, public_key: bytes, seed: bytes | None) -> Any:
        name = key_id(public_key)
        rows = log_rows([LogRecord(at=time.time(), workspace=SYSTEM, kind=KIND, entity=name)], self._epoch)
        return await self._pool.value(
            _SQL["publish_signing_key"], self._epoch.region, self._epoch.value, name, public_key, seed, rows
        )

    async def published(self) -> list[PublishedKey]:
        return [PublishedKey(**dict(row)) for row in await self._pool.rows(_SQL["published_signing_keys"])]
