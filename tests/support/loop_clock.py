"""The clock of the running loop, moved on: what ends after a time is not waited for."""

from __future__ import annotations

import asyncio


def pass_time(seconds: float) -> None:
    """Makes due now whatever the running loop would do within so many seconds. Wall and monotonic time stay as they are.

    It shows which of two bounds ends a call, where a short bound would also end the one that is meant to be in time."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]
