"""Keys that sign receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """The public half of a key that has signed receipts. ``created_at`` is when it was stored, in epoch seconds."""

    key_id: str
    public_key: bytes
    created_at: float


class SigningKeys(Protocol):
    """Keys of receipts: the one that this deployment made for itself, and the public halves of all that have signed."""

    async def own(self, candidate: bytes) -> bytes:
        """Returns the deployment's own 32-byte seed, the same to all callers. If there is none yet, ``candidate`` becomes it.

        Raises: `Unsealable` if it was sealed with a key that is not given."""

    async def publish(self, public_key: bytes) -> None:
        """Stores the public half of a key whose private half is kept elsewhere."""

    async def published(self) -> list[PublishedKey]:
        """All public halves, oldest first."""
