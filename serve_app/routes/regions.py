"""The route of regions: how this region and its zone stand. What changes them is `aragora-cp region`, on the leader's machine."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from cluster.domain.access.permissions import Permission
from serve_app.auth.admission import Asker, requires
from serve_app.auth.routing import GuardedRouter
from serve_app.gateway import gateway
from serve_app.schemas.regions import regions_wire

router = GuardedRouter(tags=["health"])


@router.get("/regions")
@requires(Permission.SYSTEM_READ)
async def show_regions(request: Request, asker: Asker) -> dict[str, Any]:
    """How this region and its zone stand, as the region's leader knows it: who is primary, under which epoch, which regions are
    in sync, and how many rows each lacks. ``enabled`` is false for a region alone. A secondary knows its own lag only: for how
    long it has heard nothing of the primary. 503 (`ActorUnavailable`) while the leader does not answer."""
    gate = gateway(request)
    return regions_wire(gate.settings.region, gate.settings.has_peers, await gate.region_status())
