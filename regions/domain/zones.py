"""The zones of a group. A region has one machine (`regions.domain.machine`) per zone that it keeps, and each zone a record, a
campaign key, a primary and an epoch of its own: a region may be primary of one zone and secondary of another.

Zones share the members, the store of the group and the region's processes, and nothing else. So the loss of one zone's primary
changes nothing in a zone whose in-sync set the lost region is not in, and costs a member where it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.domain.replication.quorum import DEFAULT_ZONE
from regions.domain.group import ZONE_PREFIX, RegionGroup, ZoneRecord


def zones_of(group: RegionGroup) -> tuple[str, ...]:
    """The zones that a group may have: that of all data regions first, then those of residency, by name."""
    named = {member.residency for member in group.members if member.data and member.residency is not None}
    return (DEFAULT_ZONE, *sorted(named - {DEFAULT_ZONE}))


def first_primary(group: RegionGroup, zone: str, named: str) -> str | None:
    """The region that founds a zone: that which the settings name, if it may lead the zone; else the first by name that may.
    None if none may."""
    leading = group.leading(zone)
    return named if named in leading else min(leading, default=None)


def records_of(entries: Mapping[str, str]) -> dict[str, ZoneRecord]:
    """The records among the entries of the group's store, by zone.

    Raises: `InternalError` if this version cannot read one."""
    records = (ZoneRecord.decode(text) for key, text in entries.items() if key.startswith(ZONE_PREFIX))
    return {record.zone: record for record in records}


def primaries_of(records: Mapping[str, ZoneRecord]) -> frozenset[str]:
    """The regions that are primary of a zone."""
    return frozenset(record.primary for record in records.values() if record.primary is not None)
