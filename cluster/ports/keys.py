"""Keys that sign receipts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """The public half of a key that has signed receipts. ``created_at``: epoch seconds of its first use."""

    key_id: str
    public_key: bytes
    created_at: float


class SigningKeys(Protocol):
    """Keys of receipts: the one that this deployment made for itself, and the public halves of all that ever signed."""

    async def own(self, candidate: bytes) -> bytes:
        """The deployment's own 32-byte seed. ``candidate`` becomes it if there is none; all callers get the same."""

    async def publish(self, public_key: bytes) -> None:
        """Keeps the public half of a key whose private half is held elsewhere."""

    async def published(self) -> list[PublishedKey]:
        """Oldest first."""
