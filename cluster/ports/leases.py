"""Named leases: for what must have one holder at a time."""

from __future__ import annotations

from typing import Protocol


class HeldLeases(Protocol):
    """What request handlers get: whether an agent's own actor runs shows in the lease that it holds."""

    async def held(self, prefix: str) -> list[str]:
        """Names with this prefix that somebody holds now."""


class Leases(HeldLeases, Protocol):
    """Named leases, rows of this region's Postgres (supervisor, region leader, host slots). Only its clock decides."""

    async def acquire(self, name: str, holder: str, ttl_s: float) -> int | None:
        """Takes a lease that is free or has ended, or renews the holder's own, and returns its fence. None while another
        holds it."""

    async def release(self, name: str, holder: str) -> None:
        """Ends the holder's lease now."""

    async def end_unrenewed(self, name: str, left_s: float) -> bool:
        """Ends a lease that would end in less than ``left_s`` anyhow, whoever holds it. False if there is no such lease."""

    async def forget(self, prefix: str, ended_s: float) -> None:
        """Deletes leases with this prefix that ended longer than ``ended_s`` ago, and their fences with them."""
