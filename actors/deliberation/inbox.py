"""The inbox of one deliberation in its worker: what has happened, and what wakes its run."""

from __future__ import annotations

import asyncio

from cluster.domain.deliberation.events import Event
from cluster.ports.clock import Clock


class Inbox:
    """Events of one deliberation that its run has not taken yet, and the alarm that wakes the run if none comes."""

    def __init__(self, clock: Clock) -> None:
        # For ``until`` in ``wait``; a test moves it.
        self._clock = clock
        # Events in order of arrival. Calls, the log follower and the worker put them; the run takes all of them at once.
        self._items: list[Event] = []
        # Set by every event and by the alarm; cleared when the run takes the events or wakes up.
        self._there = asyncio.Event()
        # The only task of the inbox: sets ``_there`` at ``_alarm``. It is replaced only if an earlier alarm is needed. An
        # alarm that is left from before wakes the run for nothing, which costs less than a new task for each wait.
        self._sleeper: asyncio.Task[None] | None = None
        # When the sleeper wakes up, in epoch seconds; means nothing without a sleeper.
        self._alarm = 0.0

    def put(self, event: Event) -> None:
        self._items.append(event)
        self._there.set()

    def wake(self) -> None:
        """Ends a wait without an event: what the run reads elsewhere has changed."""
        self._there.set()

    def empty(self) -> bool:
        return not self._items

    def take_all(self) -> list[Event]:
        items, self._items = self._items, []
        self._there.clear()
        return items

    async def wait(self, until: float) -> None:
        """Waits for an event, or until a time. It may return earlier, if an alarm that was set before is due first."""
        left_s = until - self._clock.now()
        if left_s <= 0:
            return
        if self._sleeper is None or self._sleeper.done() or self._alarm > until:
            self.close()
            self._alarm = until
            self._sleeper = asyncio.create_task(self._sleep(left_s))
        await self.woken()

    async def woken(self) -> None:
        """Waits for an event or for `wake`, however long that takes."""
        await self._there.wait()
        self._there.clear()

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._there.set()

    def close(self) -> None:
        if self._sleeper is not None:
            self._sleeper.cancel()
            self._sleeper = None
