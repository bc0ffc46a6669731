"""The maker of the region leader."""

from __future__ import annotations

from typing import Any

from actors.composition.resources import Context
from actors.region_leader import RegionLeader


def make(it: Context) -> Any:
    resources, settings = it.resources, it.resources.settings
    if settings.has_peers:
        from actors.composition.region_process import region_process  # only a region of several pays for these
        from actors.region_member import RegionMember

        return RegionMember(
            region=settings.region,
            holder=it.owner,
            make=lambda: region_process(
                settings, {settings.zone: resources.stores}, resources.doorbell, resources.clock, on_fatal=it.on_fatal
            ),
            leases=resources.stores.leases,
            clock=resources.clock,
            ttl_s=settings.leader_election_timeout,
            on_fatal=it.on_fatal,
        )
    return RegionLeader(
        region=settings.region,
        holder=it.owner,
        region_store=resources.stores.region,
        leases=resources.stores.leases,
        clock=resources.clock,
        ttl_s=settings.leader_election_timeout,
        on_fatal=it.on_fatal,
    )
