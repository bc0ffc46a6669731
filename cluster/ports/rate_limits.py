"""Limits of callers' rates."""

from __future__ import annotations

from typing import Protocol

from cluster.domain.access.rate_limits import Grant, Rate


class RateLimits(Protocol):
    """Counts the calls of many callers. How many replicas share a limit is the adapter's."""

    async def take(self, caller: str, rate: Rate, calls: int, least: int = 1) -> Grant:
        """As many of ``calls`` as the caller has room for, but none if that is less than ``least``; they count from now on, made
        or not. None of 0 is how to ask whether there is room: ``retry_after_s`` is 0.0 then.

        Raises: `StoreUnavailable` if that cannot be found out."""
        ...

    async def close(self) -> None:
        """Closes what it has opened."""
        ...
