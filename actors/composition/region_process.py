"""Composes a region's process of several on the adapters of PostgreSQL. Only a region that has peers imports this."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from actors.composition.resources import Resources
from cluster.domain.base.log import LogRecord
from cluster.embedded.layout import Layout
from cluster.ports.clock import Clock
from cluster.ports.wake_ups import Doorbell
from cluster.postgres.region_database import PostgresRegionDatabase
from cluster.postgres.replica import PostgresReplica
from cluster.postgres.replication_source import PostgresReplicationReads
from cluster.postgres.replication_statuses import PostgresReplicationStatuses
from cluster.postgres.stores import Stores
from cluster.process.loops import OnFatal, unwatched
from cluster.settings import Settings
from regions.process import ZONE, RegionProcess, RegionStores

#: Between two looks whether the region has a log.
LOOK_S = 0.2


async def has_a_log(resources: Resources) -> None:
    """Returns when this region's database is no part of a first copy any more.

    Raises: `StoreUnavailable` if the database does not answer."""
    statuses = PostgresReplicationStatuses(resources.stores.pool, ZONE)
    while True:
        status = await statuses.read()
        if status.whole and status.head > 0:
            return
        await resources.clock.sleep(LOOK_S)


def region_stores(settings: Settings, stores: Stores, doorbell: Doorbell, zone: str) -> RegionStores:
    """What the process of a region does to its database of one zone. ``stores`` are open for the zone."""

    async def audit(kind: str, data: Mapping[str, Any]) -> None:
        await stores.region.epoch()
        record = LogRecord(at=time.time(), workspace="system", kind=kind, entity=zone, principal="operator", data=data)
        await stores.log.append([record])

    # All that is in a zone of residency's own schema is resident there. Who may lead it the group says, so that a region outside
    # of it is whole when it has all but the payloads.
    residency = settings.data_residency if zone == ZONE else zone
    return RegionStores(
        database=PostgresRegionDatabase(stores.pool, zone, settings.region, residency),
        replica=PostgresReplica(stores.pool, zone, residency),
        reads=PostgresReplicationReads(stores.pool),
        doorbell=doorbell,
        audit=audit,
        statuses=PostgresReplicationStatuses(stores.pool, zone),
    )


def region_process(
    settings: Settings,
    stores: Mapping[str, Stores],
    doorbell: Doorbell,
    clock: Clock,
    on_fatal: OnFatal = unwatched,
) -> RegionProcess:
    """The process of a region, which has not started. ``stores``: by zone that it keeps, each open for its zone."""
    layout = Layout.of(settings.data_dir)
    return RegionProcess(
        settings,
        {zone: region_stores(settings, of_zone, doorbell, zone) for zone, of_zone in stores.items()},
        clock,
        key=f"{settings.region}/{secrets.token_hex(8)}",
        socket=settings.region_socket or layout.region_socket,
        surplus=layout.data_dir / "surplus",
        on_fatal=on_fatal,
    )
