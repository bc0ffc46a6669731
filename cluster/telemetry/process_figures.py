"""Figures of processes as gauges: each process sends its own, and those of one kind are shown together.

A label per process was rejected: replicas and hosts come and go, and each new process would be another series.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cluster.domain.metrics import Labels

#: Between two reports of a process, and for how long the last one is shown.
EVERY_S: Final = 10.0
SHOWN_S: Final = 45.0
#: Between two looks at the event loop's delay.
SAMPLE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigures:
    """What a process says about itself. ``in_use``, ``idle`` and ``free``: connections to the database. ``loop_lag_s``: how much
    later than planned its event loop woke up, at worst. ``log_lag_s``: how long ago its follower of the log had read it to its
    end, None if it has none. ``not_after``: when the certificate that ends first does (epoch seconds), None if it serves none."""

    kind: str
    process: str
    in_use: int
    idle: int
    free: int
    loop_lag_s: float
    log_lag_s: float | None = None
    not_after: float | None = None


class LoopLag:
    """How late the event loop of this process is."""

    def __init__(self) -> None:
        self._worst = 0.0

    async def run(self) -> None:
        """Looks until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            self._worst = max(self._worst, loop.time() - due)

    def take(self) -> float:
        """The worst since the last call, in seconds."""
        worst, self._worst = self._worst, 0.0
        return worst


class ShownFigures:
    """The last figures of each process, and when they came."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, ProcessFigures]] = {}

    def take(self, figures: ProcessFigures, now: float) -> None:
        """Replaces those of the process."""
        self._last[figures.process] = (now, figures)

    def gauges(self, now: float) -> Mapping[str, Mapping[Labels, float]]:
        """The gauges, of processes that are heard of."""
        self._last = {process: found for process, found in self._last.items() if now - found[0] <= SHOWN_S}
        connections: dict[Labels, float] = {}
        loops: dict[Labels, float] = {}
        lags: dict[Labels, float] = {}
        ends: list[float] = []
        for _, each in self._last.values():
            for state, count in (("in_use", each.in_use), ("idle", each.idle), ("free", each.free)):
                key = (each.kind, state)
                connections[key] = connections.get(key, 0.0) + count
            loops[(each.kind,)] = max(loops.get((each.kind,), 0.0), each.loop_lag_s)
            if each.log_lag_s is not None:
                lags[(each.kind,)] = max(lags.get((each.kind,), 0.0), each.log_lag_s)
            ends += [] if each.not_after is None else [each.not_after]
        return {
            "aragora_cp_store_connections": connections,
            "aragora_cp_loop_lag_seconds": loops,
            "aragora_cp_log_lag_seconds": lags,
            "aragora_cp_certificate_not_after_seconds": {(): min(ends)} if ends else {},
        }
