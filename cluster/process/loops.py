"""Background tasks that never end unnoticed.

If a loop ended by an unexpected error and nothing else happened, its owner would answer from the past: its copy would no
longer follow the log, and its timers would no longer run. So the owner is told, and ends its process. The process that
replaces it reads the stores again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from aragora_worker.tasks import ended
from cluster.process.traces import untraced

__all__ = ["ended"]

_logger = logging.getLogger(__name__)

#: Called once, with the error of the first background task that ended by one.
OnFatal = Callable[[BaseException], None]


def unwatched(error: BaseException) -> None:
    """For an owner that nothing would restart: only the log line is written."""


def end_process(error: BaseException) -> None:
    """For a process that Ray or Serve restarts."""
    logging.shutdown()
    os._exit(1)


class Loops:
    """The background tasks of one owner: loops that run for as long as it lives, and short tasks. ``on_fatal`` is called
    by the event loop, in none of the tasks."""

    def __init__(self, on_fatal: OnFatal) -> None:
        self._on_fatal = on_fatal
        #: Tasks that run. The event loop alone keeps no reference to them.
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Whether a task ended by an error: set once, so that ``on_fatal`` is called once.
        self._broken = False

    def start(self, *works: Coroutine[Any, Any, Any]) -> None:
        """Runs each coroutine as a task of its own, for no request."""
        for work in works:
            task = asyncio.create_task(work, context=untraced())
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
        """Whether no task has ended by an error."""
        return not self._broken

    @property
    def idle(self) -> bool:
        """Whether no task runs."""
        return not self._tasks

    async def stop(self) -> None:
        """Cancels all tasks until they have ended."""
        await ended(*self._tasks)
