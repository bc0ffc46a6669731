"""Secrets that the deployment keeps: sealed at rest, in no row of the log, and replicated to nobody."""

from __future__ import annotations

from typing import Final, Protocol

#: Name of the stored secret of tokens, and its size.
JWT_SECRET: Final = "jwt"
JWT_SECRET_BYTES: Final = 48
#: Name of the stored seed of the key that signs receipts.
RECEIPT_SEED: Final = "receipt-seed"


class SecretStore(Protocol):
    """Secrets by name, such as ``jwt``."""

    async def own(self, name: str, candidate: bytes) -> bytes:
        """The secret of this name, the same to all callers. If there is none yet, ``candidate`` becomes it.

        Raises: `Unsealable` if it was sealed with another key."""
        ...

    async def reseal(self) -> int:
        """Seals with the current key what another one has sealed. Returns how many secrets that were.

        Raises: `Unsealable` if neither key has sealed one of them; none is changed then."""
        ...
