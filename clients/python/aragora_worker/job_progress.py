"""What a job reports of its progress, until the control plane has acknowledged it.

One call is under way at a time. Reports that come meanwhile become one, so that a job may report as often as it likes. A job's
threads and loop put reports, the worker's session sends them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from typing import Any

from aragora_worker.base.errors import CallerError
from aragora_worker.base.progress import Progress
from aragora_worker.errors import Unavailable
from aragora_worker.repeating import Patience, RetryDelays, until_taken
from aragora_worker.sending import Sender

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
        try:
            self._done.result(timeout_s)
        except concurrent.futures.TimeoutError as late:  # another class than the built-in one before Python 3.11
            raise TimeoutError from late

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
        self._sender = Sender(self._send_all, lambda: self._unsent is not None)
        # Guards the fields below.
        self._lock = threading.Lock()
        # What no call has taken yet, and who is told when it is durable. ``put`` adds, ``_take`` takes.
        self._unsent: tuple[Progress, Future[None]] | None = None
        self._closed = False

    def put(self, progress: Progress) -> Acknowledgement:
        """Queues a report, in the place of what waits."""
        with self._lock:
            older, done = self._unsent or (Progress(), Future[None]())
            if self._closed:
                done.set_exception(Unavailable(_OVER))
                return Acknowledgement(done)
            self._unsent = older.followed_by(progress), done
        self._sender.wake()
        return Acknowledgement(done)

    async def settle(self, within_s: float) -> None:
        """Waits until all is acknowledged or refused, ``within_s`` seconds at most."""
        await self._sender.settle(within_s)

    async def close(self) -> None:
        """Gives up what is not acknowledged."""
        with self._lock:
            self._closed = True
            left, self._unsent = self._unsent, None
        await self._sender.stop()
        if left is not None:
            left[1].set_exception(Unavailable(_OVER))

    def _take(self) -> tuple[Progress, Future[None]] | None:
        with self._lock:
            taken, self._unsent = self._unsent, None
        return taken

    async def _send_all(self) -> None:
        """Repeats each call over outages. Its lease goes on by heartbeats meanwhile."""
        while (taken := self._take()) is not None:
            progress, done = taken
            try:
                await until_taken(functools.partial(self._send, progress), RetryDelays(self._patience))
            except CallerError as refused:
                done.set_exception(refused)
            except BaseException:
                done.set_exception(Unavailable(_OVER))
                raise
            else:
                done.set_result(None)
