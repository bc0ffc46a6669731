"""Named leases for what must have one holder."""

from __future__ import annotations

from typing import Protocol


class Leases(Protocol):
    """Named leases on rows of this region's Postgres, for what must have one holder (supervisor, region leader)."""

    async def acquire(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Fence number if it was free, expired, or already ours (renewed); None while another holds it. The
        database's clock decides."""

    async def release(self, name: str, holder: str) -> None: ...

    async def held(self, prefix: str) -> list[str]:
        """Names with a prefix that somebody holds now."""

    async def end_unrenewed(self, name: str, left_s: float) -> bool:
        """Ends a lease that is held for less than ``left_s`` more, whoever holds it; False for any other."""

    async def forget(self, prefix: str, ended_s: float) -> None:
        """Drops leases with a prefix that ended longer than ``ended_s`` ago, and their fences with them."""
