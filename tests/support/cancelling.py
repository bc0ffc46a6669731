"""A cancellation at a given step of a call, as a task does it: in the place of an answer that came, or while none did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Generator
from typing import Any


class CancelledAt:
    """``await CancelledAt(call, n, answered=…)`` runs ``call``; its ``n``-th wait (from 0) ends with ``CancelledError``.

    ``answered``: what it waits for has come, and the cancellation comes before the call sees it (asyncio's
    ``_must_cancel``). ``reached`` tells whether the call had so many waits."""

    def __init__(self, call: Coroutine[Any, Any, Any], n: int, *, answered: bool) -> None:
        self._call, self._n, self._answered = call, n, answered
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = 0
        try:
            future = self._call.send(None)
            while True:
                if waits == self._n:
                    self.reached = True
                    if not self._answered and future is not None:
                        future.cancel()
                    with contextlib.suppress(asyncio.CancelledError):  # of the future that was cancelled above
                        yield future
                    future = self._call.throw(asyncio.CancelledError())
                else:
                    try:
                        yield future
                    except BaseException as error:  # noqa: BLE001 - it is thrown into the call
                        future = self._call.throw(error)
                    else:
                        future = self._call.send(None)
                waits += 1
        except StopIteration as ended:
            return ended.value
