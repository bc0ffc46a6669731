"""The maker of telemetry."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.telemetry import Telemetry


def make(it: Context) -> Any:
    settings = it.resources.settings
    return Telemetry(
        log=it.resources.stores.log,
        clock=it.resources.clock,
        agents=it.resources.stores.agents,
        tasks=it.resources.stores.tasks,
        audit=it.resources.stores.seals,
        zone=settings.region,
        store=it.resources.stores.telemetry,
        listen=(settings.http_host, settings.prometheus_port) if settings.enable_metrics else None,
        on_fatal=it.on_fatal,
    )
