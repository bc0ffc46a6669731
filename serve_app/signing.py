"""The key with which this replica signs receipts: the configured one, else the deployment's own."""

from __future__ import annotations

import os

from pydantic import SecretStr

from cluster.domain.base.signing import SEED_BYTES, Signer, seed_of
from cluster.ports.keys import SigningKeys


class ReceiptSigner:
    def __init__(self, keys: SigningKeys, configured: SecretStr | None) -> None:
        self.keys = keys
        self._configured = configured
        self._signer: Signer | None = None

    async def signer(self) -> Signer:
        """The signer, looked up once. A configured key is published before it signs; else nobody could verify receipts."""
        if self._signer is None:
            if self._configured is None:
                self._signer = Signer(await self.keys.own(os.urandom(SEED_BYTES)))
            else:
                signer = Signer(seed_of(self._configured.get_secret_value()))
                await self.keys.publish(signer.public_key)
                self._signer = signer
        return self._signer
