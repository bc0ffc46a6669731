"""A list whose reader waits for the event loop: a reader on the loop would hold it up for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any


class Awaited(list[Any]):
    """A list that whoever reads it gets when the event loop lets it."""

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items)
        self.is_read, self.may_go_on = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()

    def __iter__(self) -> Iterator[Any]:
        self._loop.call_soon_threadsafe(self.is_read.set)
        assert self.may_go_on.wait(20), "the event loop is held up"
        return super().__iter__()
