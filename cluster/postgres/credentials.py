"""Credentials in the table of sealed secrets."""

from __future__ import annotations

import builtins
import hashlib
import hmac
import os
from collections.abc import Sequence

from cluster.domain.access.sealing import NONCE_BYTES, NoSealingKey, Sealer, Unsealable
from cluster.domain.agents.credentials import MOST_CREDENTIALS, Credential, credential_of
from cluster.domain.base.errors import Conflict
from cluster.domain.base.log import LogRecord
from cluster.postgres.log import Epoch, log_rows
from cluster.postgres.pool import Pool
from cluster.postgres.queries import queries

_SQL = queries("secrets")


def _stored(workspace: str, name: str) -> str:
    """The name in the table, which a sealed secret is bound to. No workspace has a slash in its id."""
    return f"credential/{workspace}/{name}"


class PostgresCredentials:
    """``keys`` seal; without any nothing can be read or stored."""

    def __init__(self, pool: Pool, epoch: Epoch, keys: Sequence[bytes]) -> None:
        self._pool = pool
        self._epoch = epoch
        self._keys = keys

    async def get(self, workspace: str, name: str) -> Credential | None:
        (found,) = await self.read([(workspace, name)])
        return _whole(found)

    async def read(self, names: Sequence[tuple[str, str]]) -> Sequence[Credential | Unsealable | None]:
        sealer = self._sealer()
        stored = [_stored(*name) for name in names]
        rows = await self._pool.rows(_SQL["read_credentials"], sorted(set(stored)))
        opened = {str(row["name"]): _opened(sealer, row["name"], bytes(row["sealed"])) for row in rows}
        return [opened.get(name) for name in stored]

    async def list(self, workspace: str) -> builtins.list[Credential]:
        sealer = self._sealer()
        rows = await self._pool.rows(_SQL["list_credentials"], workspace)
        found = (_whole(_opened(sealer, row["name"], bytes(row["sealed"]))) for row in rows)
        return [credential for credential in found if credential is not None]

    async def put(self, credential: Credential, record: LogRecord) -> bool:
        name = _stored(credential.workspace, credential.name)
        sealed = self._sealer().seal(name, credential.document(), os.urandom(NONCE_BYTES))
        outcome = await self._pool.value(
            _SQL["put_credential"],
            self._epoch.region,
            self._epoch.value,
            MOST_CREDENTIALS,
            name,
            sealed,
            credential.revision,
            log_rows([record], self._epoch),
        )
        if outcome == "too_many":
            raise Conflict(
                f"The workspace has {MOST_CREDENTIALS:,} credentials; delete one first.", "too_many_credentials"
            )
        return bool(outcome == "done")

    async def remove(self, workspace: str, name: str, record: LogRecord) -> bool:
        return bool(
            await self._pool.value(
                _SQL["remove_credential"],
                self._epoch.region,
                self._epoch.value,
                _stored(workspace, name),
                log_rows([record], self._epoch),
            )
        )

    def fingerprint(self, workspace: str, secret: str) -> str:
        self._sealer()
        return hmac.new(self._keys[0], f"{workspace}\0{secret}".encode(), hashlib.sha256).hexdigest()

    def _sealer(self) -> Sealer:
        if not self._keys:
            raise NoSealingKey(
                "Credentials are stored sealed, and ARAGORA_SECRETS_KEY is not set where the control plane runs; set it "
                "(`aragora-cp secrets generate` makes one)."
            )
        return Sealer(self._keys)


def _opened(sealer: Sealer, name: str, sealed: bytes) -> Credential | Unsealable:
    try:
        return credential_of(sealer.open(name, sealed))
    except Unsealable as error:
        return error


def _whole(found: Credential | Unsealable | None) -> Credential | None:
    """Raises: `Conflict` if it cannot be opened: a setting has to change, and nothing is wrong with the code."""
    if isinstance(found, Unsealable):
        raise Conflict(found.message, found.code)
    return found
