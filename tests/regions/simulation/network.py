"""Virtual time and a network with delays, losses and cuts of every shape, all from one seed."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

GROUP = "group"


class Schedule:
    """Callables in the order of their times; equal times in the order of their calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ties = itertools.count()

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay_s, next(self._ties), call))

    def run(self, until: float) -> int:
        """Runs whatever is due until then, and returns how much that was."""
        calls = 0
        while self._due and self._due[0][0] <= until:
            at, _, call = heapq.heappop(self._due)
            self.now = at
            call()
            calls += 1
        self.now = until
        return calls


class Network:
    """``cuts`` holds directed pairs: (from, to)."""

    def __init__(self, schedule: Schedule, random: Random) -> None:
        self._schedule = schedule
        self._random = random
        self.cuts: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.slow = 0.0

    def send(self, sender: str, receiver: str, deliver: Callable[[], None]) -> None:
        if (sender, receiver) in self.cuts or self._random.random() < self.loss:
            return
        delay = 0.002 + 0.03 * self._random.random()
        if self._random.random() < self.slow:
            delay += 1.5 * self._random.random()

        def arrive() -> None:
            if (sender, receiver) not in self.cuts:
                deliver()

        self._schedule.after(delay, arrive)

    def heal(self) -> None:
        self.cuts, self.loss, self.slow = set(), 0.0, 0.0
