"""What asyncio leaves to its callers: ends of tasks, and on Python 3.10 a time limit."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:

    class timeout:  # the name of asyncio's, which it stands for
        """`asyncio.timeout` for Python 3.10, with one difference: a cancellation that comes in the very moment in which the time
        is over is lost, which `ended` allows for.

        Raises: `TimeoutError` at its end, if the time was over before."""

        def __init__(self, delay_s: float | None) -> None:
            self._delay_s = delay_s
            self._timer: asyncio.TimerHandle | None = None
            self._over = False

        async def __aenter__(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            if self._delay_s is not None:
                self._timer = asyncio.get_running_loop().call_later(max(0.0, self._delay_s), self._end, task)

        def _end(self, task: asyncio.Task[Any]) -> None:
            self._over = True
            task.cancel()

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            if self._timer is not None:
                self._timer.cancel()
            if self._over and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error


__all__ = ["ended", "timeout"]


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancels the tasks until all have ended. Cancelling once may not be enough: a library may turn the cancellation into
    an error of its own, and its caller then tries again."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.2)
    await asyncio.gather(*tasks, return_exceptions=True)
