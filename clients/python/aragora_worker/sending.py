"""What the senders of progress and of chunks share: other threads and loops put values in, the session's loop sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aragora_worker.tasks import ended


class Sender:
    """Runs ``send`` while there is something to send, one run at a time; ``pending`` says whether there is. ``wake`` may be
    called in any thread, everything else on the session's loop, in which it is made."""

    def __init__(self, send: Callable[[], Coroutine[Any, Any, None]], pending: Callable[[], bool]) -> None:
        self._send = send
        self._pending = pending
        self._session = asyncio.get_running_loop()
        #: The task that sends; None while there is nothing to send.
        self._runner: asyncio.Task[None] | None = None

    def wake(self) -> bool:
        """Is to be called after a value was put in. Returns False if the session has ended, so that nothing is sent."""
        try:
            self._session.call_soon_threadsafe(self._start)
        except RuntimeError:
            return False
        return True

    async def settle(self, within_s: float) -> bool:
        """Waits until what was put in is sent, ``within_s`` seconds at most. Returns whether it is."""
        self._start()
        if self._runner is not None:
            await asyncio.wait({self._runner}, timeout=within_s)
        return self._runner is None

    async def stop(self) -> None:
        """Ends the run at hand."""
        if self._runner is not None:
            await ended(self._runner)

    def _start(self) -> None:
        if self._runner is None and self._pending():
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._send()
        finally:
            self._runner = None
