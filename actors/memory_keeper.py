"""Holds each actor to its bound on memory: asks all, tells them what there is to say, and restarts one at a time.

Dedicated agents' actors are not asked: their memory is what they declared to Ray.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from cluster.domain.actor_memory import Looked, Memory, MemoryWatch, notice, step
from cluster.domain.base.errors import ControlPlaneError
from cluster.domain.metrics import Increment, Labels
from cluster.ports.clock import Clock

_logger = logging.getLogger(__name__)

LOOK_S: Final = 10.0
GAUGE: Final = "aragora_cp_actor_memory_bytes"
RESTARTS: Final = "aragora_cp_actor_memory_restarts_total"


class ActorProcesses(Protocol):
    """What the keeper needs of Ray."""

    async def memory(self, name: str, notice: str) -> tuple[int, int]:
        """The id and the resident memory of an actor's process, whose status says ``notice`` from now on.

        Raises: `ActorUnavailable` if it does not answer."""

    async def restart(self, name: str) -> None:
        """Ends an actor's process, and lets Ray start it again."""


class MetricSink(Protocol):
    """Where the numbers go; both may raise `ControlPlaneError`."""

    async def show(self, gauge: str, series: Mapping[Labels, float]) -> None:
        """Replaces all values of a gauge."""

    async def push(self, increments: Sequence[Increment]) -> None:
        """Adds to counters."""


class MemoryKeeper:
    """``open_tasks``: how many tasks wait."""

    def __init__(
        self,
        *,
        bound: int,
        processes: ActorProcesses,
        open_tasks: Callable[[], Awaitable[int]],
        metrics: MetricSink,
        clock: Clock,
    ) -> None:
        self._watch = MemoryWatch(bound=bound)
        self._processes = processes
        self._open_tasks = open_tasks
        self._metrics = metrics
        self._clock = clock
        self._looked_at = float("-inf")

    async def look(self, actors: Mapping[str, str]) -> None:
        """Looks at all actors, by role key and name, if ``LOOK_S`` have passed; restarts at most one.

        Raises: ``TryLater`` if the store does not answer."""
        if self._clock.now() - self._looked_at < LOOK_S:
            return
        now = self._looked_at = self._clock.now()
        answers = await asyncio.gather(*(self._ask(name, now) for name in actors.values()))
        seen = dict(zip(actors.values(), answers, strict=True))
        self._watch, restarts = step(self._watch, Looked(seen=seen, open_tasks=await self._open_tasks()), now)
        keys = {name: key for key, name in actors.items()}
        for restart in restarts:
            _logger.warning("%s uses too much memory (%s), and is restarted", restart.name, seen[restart.name])
            await self._processes.restart(restart.name)
        await self._show({keys[name]: memory for name, memory in seen.items() if memory is not None})
        for restart in restarts:
            await self._count(keys[restart.name])

    async def _ask(self, name: str, now: float) -> Memory | None:
        try:
            return Memory(*await self._processes.memory(name, notice(self._watch, name, now)))
        except ControlPlaneError:
            return None

    async def _show(self, seen: Mapping[str, Memory]) -> None:
        try:
            await self._metrics.show(GAUGE, {(key,): float(memory.resident) for key, memory in seen.items()})
        except ControlPlaneError as error:
            _logger.debug("telemetry does not take the actors' memory: %s", error)

    async def _count(self, key: str) -> None:
        try:
            await self._metrics.push([Increment(name=RESTARTS, labels=(key,))])
        except ControlPlaneError as error:
            _logger.warning("telemetry does not take the restart of %s: %s", key, error)
