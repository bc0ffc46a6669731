"""Waiting for a condition instead of for time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

_POLL_S = 0.02


async def eventually(condition: Callable[[], Any], timeout_s: float = 30.0, what: str = "") -> Any:
    """The first true value of ``condition`` (a function or coroutine function); fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not reached within {timeout_s:g} s: {what or inspect.getsource(condition).strip()}")
        await asyncio.sleep(_POLL_S)
