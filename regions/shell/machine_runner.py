"""Runs the machine of one region: each step is made at once, and its effects are carried out in order, beside those of others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cluster.process.loops import Loops
from regions.domain.leadership import Effect, Event, Leadership
from regions.domain.machine import step

Carried = Mapping[type[Effect], Callable[[Any], Awaitable[None]]]
"""By the type of an effect, what carries it out."""


class MachineRunner:
    """``loops`` run what carries out the effects. ``carry_out`` names it before the first event, since it answers by events."""

    def __init__(self, state: Leadership, loops: Loops) -> None:
        self.state = state
        self.loops = loops
        self._changed = asyncio.Event()
        self._carried: Carried = {}

    def carry_out(self, carried: Carried) -> None:
        """From now on effects are carried out so."""
        self._carried = carried

    def now(self) -> float:
        """The time of events, in seconds: the loop's."""
        return asyncio.get_running_loop().time()

    def take(self, event: Event) -> None:
        """Makes the machine's step."""
        self.state, effects = step(self.state, event, self.now())
        self.nudge()
        if effects:
            self.loops.start(self._carry_out(effects))

    async def _carry_out(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            await self._carried[type(effect)](effect)

    def nudge(self) -> None:
        """Lets whoever waits for an event look again."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def change(self) -> None:
        """Waits for the next event."""
        await self._changed.wait()

    async def change_within(self, timeout_s: float) -> None:
        """Waits for the next event, for at most so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.change()
        except TimeoutError:
            return

    async def until(self, condition: Callable[[Leadership], bool], timeout_s: float) -> bool:
        """Waits until the condition holds; False after the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition(self.state):
                    await self.change()
        except TimeoutError:
            return False
        return True
