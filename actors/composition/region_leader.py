"""The maker of the region leader."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.region_leader import RegionLeader


def make(it: Context) -> Any:
    return RegionLeader(
        region=it.parts.settings.region,
        holder=it.owner,
        region_store=it.parts.stores.region,
        leases=it.parts.stores.leases,
        clock=it.parts.clock,
        ttl_s=it.parts.settings.stale_leader_threshold,
        died=it.died,
    )
