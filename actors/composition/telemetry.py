"""The maker of telemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from actors.composition.resources import Context
from actors.readings import STATUS_S, Ask
from actors.roles import REGION_LEADER, SCHEDULER, SEALER, Role
from actors.telemetry import Telemetry

#: Kinds of actors that say how far behind the log they are.
FOLLOWERS: Final = (SCHEDULER, SEALER)


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
        readings=it.resources.stores.readings,
        followers={kind: _asking(it, kind) for kind in FOLLOWERS},
        region=_asking(it, REGION_LEADER),
        on_fatal=it.on_fatal,
    )


def _asking(it: Context, kind: str) -> Ask:
    """Asks the first actor of a kind for its status."""
    call = it.resolve(Role(kind=kind), it.resources.stores.names)

    async def ask() -> Mapping[str, Any]:
        status: Mapping[str, Any] = await call("status", timeout_s=STATUS_S)
        return status

    return ask
