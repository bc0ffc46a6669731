"""Limits of callers' rates in this process's memory."""

from __future__ import annotations

from collections.abc import Callable

from cluster.domain.access.rate_limits import Grant, Rate, RateTable


class LocalRateLimits:
    """Each process counts for itself. ``now``: seconds by a clock that nobody sets."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._table = RateTable()

    async def take(self, caller: str, rate: Rate, calls: int, least: int = 1) -> Grant:
        return self._table.take(caller, rate, calls, self._now(), least)

    async def close(self) -> None:
        """There is nothing to close."""
