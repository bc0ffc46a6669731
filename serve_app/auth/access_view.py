"""What a replica knows about access. The copy that follows the log is `AccessDirectory` in ``cluster/log``."""

from __future__ import annotations

from typing import Protocol

from cluster.domain.access.api_key import ApiKey
from cluster.domain.access.identity import AccessTables


class AccessView(AccessTables, Protocol):
    """The tables that decide, and what is stored about keys and revocations. Every read is one of memory."""

    @property
    def generation(self) -> int:
        """A number that changes whenever anything here does."""
        ...

    def key(self, key_id: str) -> ApiKey | None:
        """A key, also one that was revoked."""
        ...

    def is_revoked(self, jti: str) -> bool:
        """Whether the token of this ``jti`` was revoked."""
        ...

    def not_before(self, principal: str) -> float:
        """Tokens of the principal that were issued before this time (epoch seconds) do not count; 0.0: all count."""
        ...
