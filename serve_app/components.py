"""The components of ``/health``: the stores and actors that this replica uses, and whether each of them answers.

Whoever asks waits for as long as it likes and gets what is known by then, so that no component that hangs delays an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.errors import ControlPlaneError

#: How long a probe may take at most. Callers may wait for less.
PROBE_S = 3.0

#: By a component's name: returns what is unusual about it, in sentences, and raises if it is unhealthy.
Probe = Callable[[], Awaitable[Sequence[str] | None]]
Probes = Mapping[str, Probe]


@dataclass(frozen=True, slots=True)
class Component:
    """What a probe found: a latency, or an error. ``warnings``: what is unusual about a component that answers."""

    name: str
    latency_ms: float | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        return self.error is None

    def wire(self) -> dict[str, Any]:
        if self.error is not None:
            return {"name": self.name, "status": "unhealthy", "error": self.error}
        found: dict[str, Any] = {"name": self.name, "status": "healthy", "latency_ms": self.latency_ms}
        return found | ({"warnings": list(self.warnings)} if self.warnings else {})


class Components:
    """Probes every component when asked. Callers share a probe that is under way, so that many callers of a component that hangs
    cost one probe."""

    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        #: The probe of each component that is under way. `check` adds one; it removes itself when it ends.
        self._under_way: dict[str, asyncio.Task[Component]] = {}

    async def check(self, within_s: float) -> list[Component]:
        """Every component, after ``within_s`` at the latest: one that has not answered by then is unhealthy."""
        tasks = {name: self._under_way.get(name) or self._start(name) for name in self._probes}
        if tasks:
            # Not gather with a time-out: it would cancel the probes, and a probe that hangs may not heed that.
            await asyncio.wait(tasks.values(), timeout=within_s)
        silent = f"no answer within {within_s:g} s"
        return [task.result() if task.done() else Component(name, error=silent) for name, task in tasks.items()]

    def _start(self, name: str) -> asyncio.Task[Component]:
        task = asyncio.get_running_loop().create_task(self._probe(name))
        self._under_way[name] = task
        task.add_done_callback(lambda _: self._under_way.pop(name, None))
        return task

    async def _probe(self, name: str) -> Component:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(PROBE_S):
                warnings = await self._probes[name]()
        except TimeoutError:
            return Component(name, error=f"no answer within {PROBE_S:g} s")
        except ControlPlaneError as error:
            return Component(name, error=error.message)
        latency_ms = round((time.perf_counter() - started) * 1000, 2)
        return Component(name, latency_ms=latency_ms, warnings=tuple(warnings or ()))

    async def close(self) -> None:
        """Ends the probes that are under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
