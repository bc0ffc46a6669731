"""The maker of telemetry."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.telemetry import Telemetry


def make(it: Context) -> Any:
    settings = it.parts.settings
    return Telemetry(
        log=it.parts.stores.log,
        clock=it.parts.clock,
        agents=it.parts.stores.agents,
        tasks=it.parts.stores.tasks,
        store=it.parts.stores.telemetry,
        listen=(settings.http_host, settings.prometheus_port) if settings.enable_metrics else None,
        died=it.died,
    )
