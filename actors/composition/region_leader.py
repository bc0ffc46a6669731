"""The maker of the region leader."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.region_leader import RegionLeader


def make(it: Context) -> Any:
    return RegionLeader(
        region=it.resources.settings.region,
        holder=it.owner,
        region_store=it.resources.stores.region,
        leases=it.resources.stores.leases,
        clock=it.resources.clock,
        ttl_s=it.resources.settings.leader_election_timeout,
        on_fatal=it.on_fatal,
    )
