"""Keys that sign receipts. Receipts are not stored: they are made from the journal when somebody asks for them."""

from __future__ import annotations

from cluster.domain.receipts.keys import Signer, key_id
from cluster.ports.keys import PublishedKey
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("keys")


class PostgresSigningKeys:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def own(self, candidate: bytes) -> bytes:
        signer = Signer(candidate)
        return bytes(await self._pool.value(_SQL["own_signing_key"], signer.key_id, signer.public_key, candidate))

    async def publish(self, public_key: bytes) -> None:
        await self._pool.execute(_SQL["publish_signing_key"], key_id(public_key), public_key)

    async def published(self) -> list[PublishedKey]:
        return [PublishedKey(**dict(row)) for row in await self._pool.rows(_SQL["published_signing_keys"])]
