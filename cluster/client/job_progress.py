"""What a job reports of its progress, until the control plane has acknowledged it.

One call is under way at a time. Reports that come meanwhile become one, so that a job may report as often as it likes. A job's
threads and loop put reports, the worker's session sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from typing import Any

from cluster.client.api import Patience, RetryDelays, Unavailable
from cluster.domain.base.errors import CallerError
from cluster.domain.tasks.progress import Progress
from cluster.process.loops import ended

#: Sends a report; returns when it is durable. Raises what the client raises.
Send = Callable[[Progress], Awaitable[None]]

_OVER = "The job ended before the control plane had acknowledged its progress."


class Acknowledgement:
    """Of one report: it, or a newer one of the attempt, is durable. Wait for it in a thread by ``wait``, in a coroutine by
    ``await``; whoever need not know may drop it."""

    def __init__(self, done: Future[None]) -> None:
        self._done = done

    def wait(self, timeout_s: float | None = None) -> None:
        """Blocks until it is durable.

        Raises: `TimeoutError` after ``timeout_s`` seconds; `CallerError` if the control plane refused it, ``lease_lost`` if the
        attempt is over; `Unavailable` if the job ended before."""
        self._done.result(timeout_s)

    def __await__(self) -> Generator[Any, None, None]:
        """As `wait`, on the loop."""
        done = asyncio.wrap_future(self._done)
        done.add_done_callback(_noted)  # a job that is cancelled meanwhile never looks at it
        return asyncio.shield(done).__await__()


def _noted(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()


def acknowledged(progress: Progress) -> Acknowledgement:
    """For a job outside of a worker, as in a test of its handler: nothing is kept."""
    done: Future[None] = Future()
    done.set_result(None)
    return Acknowledgement(done)


class JobProgress:
    """The reports of one job. ``put`` may be called in any thread, everything else on the session's loop, in which it is made."""

    def __init__(self, send: Send, patience: Patience) -> None:
        self._send = send
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        # Guards the fields below but ``_runner``.
        self._lock = threading.Lock()
        # What no call has taken yet, and who is told when it is durable. ``put`` adds, ``_take`` takes.
        self._unsent: tuple[Progress, Future[None]] | None = None
        self._closed = False
        # The task that sends; None while there is nothing to send.
        self._runner: asyncio.Task[None] | None = None

    def put(self, progress: Progress) -> Acknowledgement:
        """Queues a report, in the place of what waits."""
        with self._lock:
            older, done = self._unsent or (Progress(), Future[None]())
            if self._closed:
                done.set_exception(Unavailable(_OVER))
                return Acknowledgement(done)
            self._unsent = older.followed_by(progress), done
        with contextlib.suppress(RuntimeError):  # the session has just ended
            self._loop.call_soon_threadsafe(self._start)
        return Acknowledgement(done)

    async def settle(self, within_s: float) -> None:
        """Waits until all is acknowledged or refused, ``within_s`` seconds at most."""
        self._start()
        if self._runner is not None:
            await asyncio.wait({self._runner}, timeout=within_s)

    async def close(self) -> None:
        """Gives up what is not acknowledged."""
        with self._lock:
            self._closed = True
            left, self._unsent = self._unsent, None
        if self._runner is not None:
            await ended(self._runner)
        if left is not None:
            left[1].set_exception(Unavailable(_OVER))

    def _start(self) -> None:
        if self._runner is None and self._unsent is not None:
            self._runner = asyncio.create_task(self._run())

    def _take(self) -> tuple[Progress, Future[None]] | None:
        with self._lock:
            taken, self._unsent = self._unsent, None
        return taken

    async def _run(self) -> None:
        try:
            while (taken := self._take()) is not None:
                progress, done = taken
                try:
                    await self._sent(progress)
                except CallerError as refused:
                    done.set_exception(refused)
                except BaseException:
                    done.set_exception(Unavailable(_OVER))
                    raise
                else:
                    done.set_result(None)
        finally:
            self._runner = None

    async def _sent(self, progress: Progress) -> None:
        """Repeats the call over outages. Its lease goes on by heartbeats meanwhile."""
        delays = RetryDelays(self._patience)
        while True:
            try:
                await self._send(progress)
                return
            except CallerError:
                raise
            except Exception as error:
                await asyncio.sleep(delays.next_s(error))
