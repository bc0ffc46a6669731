"""Sealed secrets. PostgreSQL never gets a secret that is not sealed, nor the key."""

from __future__ import annotations

import os

from cluster.domain.access.sealing import NONCE_BYTES, Sealer
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("secrets")


class PostgresSecrets:
    def __init__(self, pool: Pool, sealer: Sealer) -> None:
        self._pool = pool
        self._sealer = sealer

    async def own(self, name: str, candidate: bytes) -> bytes:
        sealed = self._sealed(name, candidate)
        return self._sealer.open(name, bytes(await self._pool.value(_SQL["own_secret"], name, sealed)))

    async def reseal(self) -> int:
        rows = [(str(row["name"]), bytes(row["sealed"])) for row in await self._pool.rows(_SQL["all_secrets"])]
        older = [(name, sealed) for name, sealed in rows if not self._sealer.is_current(sealed)]
        opened = [(name, sealed, self._sealer.open(name, sealed)) for name, sealed in older]
        for name, sealed, secret in opened:
            # Only if nobody has changed it meanwhile: another `rotate` may run.
            await self._pool.execute(_SQL["replace_secret"], name, sealed, self._sealed(name, secret))
        return len(opened)

    def _sealed(self, name: str, secret: bytes) -> bytes:
        return self._sealer.seal(name, secret, os.urandom(NONCE_BYTES))
