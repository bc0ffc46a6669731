"""Ends that hang are told with what everything waits for: a test's time limit would show the event loop's own stack only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

#: Whatever ends within a test is over long before, on the busiest machine too.
ENDS_S = 90.0


async def ended(work: Awaitable[T], what: str) -> T:
    """Raises: `AssertionError` with the stacks of all tasks, if ``work`` is not over after ``ENDS_S``."""
    future = asyncio.ensure_future(work)
    await asyncio.wait({future}, timeout=ENDS_S)
    assert future.done(), f"{what} does not end:\n" + "\n".join(sorted(map(shown, asyncio.all_tasks())))
    return future.result()


def shown(task: asyncio.Task[Any]) -> str:
    """The task's name, and the lines at which its coroutines wait, the outermost first."""
    lines: list[str] = [task.get_name()]
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = next((found for kind in ("cr", "gi", "ag") if (found := getattr(awaited, f"{kind}_frame", None))), None)
        at = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
        lines.append(f"    {getattr(awaited, '__qualname__', awaited)} {at}")
        awaited = next(
            (found for name in ("cr_await", "gi_yieldfrom", "ag_await") if (found := getattr(awaited, name, None))),
            None,
        )
    return "\n".join(lines)
