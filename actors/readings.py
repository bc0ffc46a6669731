"""Measures, beside the answers to Prometheus, what would be too slow for them: what of the database operators watch, and what
other actors say of themselves.

An answer shows what was measured last. What cannot be measured for ``SHOWN_S`` is shown no more: an old number that looks like a
new one would keep an alert from firing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from cluster.domain.base.errors import ControlPlaneError, TryLater
from cluster.domain.metrics import Labels
from cluster.ports.clock import Clock
from cluster.ports.readings import ReadingStore

_logger = logging.getLogger(__name__)

#: Between two readings at least; and so many times what the database took for the last one, so that a long queue costs a
#: twentieth of a core at most.
EVERY_S: Final = 15.0
EVERY_TIMES: Final = 20.0
SHOWN_S: Final = 120.0
#: How long another actor may take over its status.
STATUS_S: Final = 2.0

Series = Mapping[Labels, float]
#: The status of another actor. Raises `ControlPlaneError` if it does not answer.
Ask = Callable[[], Awaitable[Mapping[str, Any]]]


class Readings:
    """``followers``: actors whose status has ``log_lag_s``, by the names of their followers. ``region`` has the status of the
    region's leader. ``show`` replaces the values of a gauge."""

    def __init__(
        self,
        *,
        store: ReadingStore,
        followers: Mapping[str, Ask],
        region: Ask,
        show: Callable[[str, Series], None],
        clock: Clock,
    ) -> None:
        self._store = store
        self._followers = followers
        self._region = region
        self._show = show
        self._clock = clock
        #: By gauge: when it was measured last.
        self._measured: dict[str, float] = {}
        #: How long the database was busy with the last reading.
        self._took_s = 0.0
        #: By follower, as its actor said last.
        self.log_lags: dict[Labels, float] = {}

    async def run(self) -> None:
        """Measures until it is cancelled."""
        while True:
            await self.measure()
            await self._clock.sleep(max(EVERY_S, EVERY_TIMES * self._took_s))

    async def measure(self) -> None:
        """Measures all once."""
        now = self._clock.now()
        await self._read(now)
        self._put(_of_region(await _status(self._region)), now)
        lags: dict[Labels, float] = {}
        for ask in self._followers.values():
            status = await _status(ask)
            lags |= {(name,): float(lag_s) for name, lag_s in status.get("log_lag_s", {}).items()}
        self.log_lags = lags
        for gauge, at in list(self._measured.items()):
            if self._clock.now() - at > SHOWN_S:
                self._show(gauge, {})
                del self._measured[gauge]

    async def _read(self, now: float) -> None:
        try:
            self._put(await self._store.read(now), now)
            self._took_s = self._clock.now() - now
        except TryLater as error:
            _logger.warning("the database cannot be measured, will try again: %s", error)

    def _put(self, found: Mapping[str, Series], now: float) -> None:
        for gauge, series in found.items():
            self._show(gauge, series)
            self._measured[gauge] = now


async def _status(ask: Ask) -> Mapping[str, Any]:
    try:
        return await ask()
    except ControlPlaneError as error:
        _logger.debug("an actor does not say how it is: %s", error)
        return {}


def _of_region(status: Mapping[str, Any]) -> Mapping[str, Series]:
    """The gauges of a status of the region's leader; none if there is no status."""
    if "epoch" not in status:
        return {}
    found: dict[str, Series] = {
        "aragora_cp_region_epoch": {(): float(status["epoch"])},
        "aragora_cp_region_primary": {(): float(status.get("role", "primary") == "primary")},
    }
    if "in_sync" in status:
        found["aragora_cp_region_in_sync"] = {(): float(len(status["in_sync"]))}
    if "lag" in status:
        lags: Mapping[str, Mapping[str, Any]] = status["lag"]
        rows: Series = {(region,): float(lag["rows"]) for region, lag in lags.items() if "rows" in lag}
        silent = [float(lag["silent_s"]) for lag in lags.values() if lag.get("silent_s") is not None]
        found["aragora_cp_replication_lag_rows"] = rows
        found["aragora_cp_replication_silent_seconds"] = {(): max(silent)} if silent else {}
    return found
