"""Background work that never ends unnoticed.

A loop that ended by an unexpected error would leave its owner alive but blind (a copy that no longer follows the log,
timers that no longer run). So its owner is told, and gives the process up: whoever starts it again reads the stores.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

_logger = logging.getLogger(__name__)

#: Told once, by the first work that ended by an error.
OnFatal = Callable[[BaseException], None]


def unwatched(error: BaseException) -> None:
    """For an owner that nobody would start again: the log line is all."""


def end_process(error: BaseException) -> None:
    """For a process that Ray or Serve starts again."""
    logging.shutdown()
    os._exit(1)


class Loops:
    """Loops for as long as the owner lives, and short works of its own. ``on_fatal`` is called outside of every task."""

    def __init__(self, on_fatal: OnFatal) -> None:
        self._on_fatal = on_fatal
        self._tasks: set[asyncio.Task[Any]] = set()
        self._broken = False

    def start(self, *works: Coroutine[Any, Any, Any]) -> None:
        for work in works:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None or self._broken:
            return
        self._broken = True
        _logger.critical("background work ended, giving up: %s", task.get_coro(), exc_info=error)
        self._on_fatal(error)

    @property
    def running(self) -> bool:
        return not self._broken

    @property
    def idle(self) -> bool:
        return not self._tasks

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels until all have ended: a library may turn one cancellation into an error of its own, which is retried."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.2)
    await asyncio.gather(*tasks, return_exceptions=True)
