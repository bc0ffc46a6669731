"""The command loop of a bench's process. It imports no product code, because the peers' processes use it too."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvloop

Handlers = Mapping[str, Callable[..., Awaitable[dict[str, Any]]]]


async def _serve(handlers: Handlers) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)
    while line := await lines.get():
        command = json.loads(line)
        try:
            answer = await handlers[command.pop("op")](**command)
        except Exception as error:  # noqa: BLE001 - it is printed, and told to the bench
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    if "close" in handlers:
        await handlers["close"]()


def run(make: Callable[[], Awaitable[Handlers]]) -> None:
    """Builds the handlers in the loop that they run in, and serves until standard input ends."""

    async def main() -> None:
        await _serve(await make())
        sys.stdout.flush()
        os._exit(0)  # the figures have been written; calls that are still open need no answer

    uvloop.run(main())


async def in_parallel(callers: int, total: int, each: int, call: Callable[[int], Awaitable[Any]]) -> None:
    """Runs ``callers`` at once, each of which calls with ``each`` items at a time, until ``total`` items have been sent."""
    left = total

    async def caller() -> None:
        nonlocal left
        while left > 0:
            size = min(each, left)
            left -= size
            await call(size)

    await asyncio.gather(*(caller() for _ in range(callers)))


class Countdown:
    """Tells when the expected number of tasks has been done."""

    def __init__(self) -> None:
        self._left = 0
        self._zero = asyncio.Event()

    def expect(self, total: int) -> None:
        self._left, self._zero = total, asyncio.Event()

    def done(self, number: int = 1) -> None:
        self._left -= number
        if self._left <= 0:
            self._zero.set()

    async def reached(self) -> dict[str, Any]:
        await self._zero.wait()
        return {"left": self._left}
