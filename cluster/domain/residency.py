"""Residency: which zone a workspace is in, and what regions outside of that zone may do with it.

A **zone** is the regions that share ARAGORA_DATA_RESIDENCY. A workspace may be resident in one: then its tasks, deliberations,
agents and all else that it has are resident there too, since each of them belongs to one workspace and cannot leave it. A
workspace without a zone is resident nowhere, and all regions may hold it.

A region outside of the zone holds identities, states, numbers and times (`cluster.domain.replication.tables` says what is
withheld), and answers no call for the workspace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from cluster.domain.base.errors import CallerError, Conflict, Forbidden, InvalidRequest, TryLater

#: The code of what is refused because it would take a resident workspace's words or work out of its zone.
VIOLATION: Final = "residency_violation"
#: The code of a call that another region has to answer.
WRONG_ZONE: Final = "wrong_zone"
#: The code of a change in a zone none of whose regions writes now.
NO_PRIMARY: Final = "zone_without_primary"
#: So many heartbeats of its primary a region misses before its tasks are said to wait for that one.
MISSED_HEARTBEATS: Final = 5
#: Regions of a zone that a workspace takes if others than these follow its primary: one that is lost must leave a second copy.
LEAST_REGIONS: Final = 2


class Answerer(Enum):
    """Who answers a call."""

    #: As if there were no zones: this region, or the primary for it.
    ANY = auto()
    #: A region of the zone. The call is answered before its body is read, and is never forwarded.
    ZONE = auto()
    #: Nobody now: only a region outside of the zone writes.
    NOBODY = auto()


class WrongZone(CallerError):
    """A region outside of the workspace's zone was called. ``region`` and ``url`` are where to call instead, as far as it is
    known."""

    status = 421
    default_code = WRONG_ZONE

    def __init__(self, zone: str, region: str | None = None, url: str | None = None) -> None:
        where = f"call {region}" if region is not None else "call a region of it"
        super().__init__(
            f"This call is for the zone {zone}, and this region is not in it; {where}{'' if url is None else f' at {url}'}.",
            WRONG_ZONE,
        )
        self.args = (zone, region, url)  # what pickle calls the class with
        self.details = {"zone": zone, "region": region, "url": url}


@dataclass(frozen=True, slots=True, kw_only=True)
class AwayRegion:
    """The region that gives out tasks, and is not heard. ``region``: None if no region does now; ``silent_s``: for how long, None
    if it never was heard."""

    region: str | None
    silent_s: float | None

    @property
    def message(self) -> str:
        """The sentence for what waits until it is back."""
        if self.region is None:
            return "No region gives out tasks now, so none starts."
        heard = "has not been heard" if self.silent_s is None else f"has not been heard for {self.silent_s:.1f} s"
        return f"The region {self.region}, which gives out tasks, {heard}, so none starts."


def away_region(primary: str | None, silent_s: float | None, heartbeat_s: float) -> AwayRegion | None:
    """The primary, if a region that follows it has missed its heartbeats or knows of none; None while it is heard."""
    if primary is not None and silent_s is not None and silent_s <= MISSED_HEARTBEATS * heartbeat_s:
        return None
    return AwayRegion(region=primary, silent_s=silent_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionZones:
    """``region``: this one. ``zones``: data region → its zone; a region without one is missing. ``regions``: all data regions."""

    region: str
    zones: Mapping[str, str] = field(default_factory=dict)
    regions: frozenset[str] = frozenset()

    @property
    def own(self) -> str | None:
        """The zone of this region."""
        return self.zones.get(self.region)

    def of(self, zone: str) -> tuple[str, ...]:
        """The regions of a zone, sorted."""
        return tuple(sorted(region for region, other in self.zones.items() if other == zone))

    @property
    def has_others(self) -> bool:
        """Whether a workspace can be resident where this region is not."""
        return any(zone != self.own for zone in self.zones.values())

    def answerer(self, zone: str | None, primary: str | None, *, writes: bool) -> Answerer:
        """Who answers a call of a workspace that is resident in ``zone`` (None: nowhere). ``primary`` writes for all regions now,
        None if that is not known."""
        if zone is None:
            return Answerer.ANY
        if zone != self.own:
            return Answerer.ZONE
        is_outside = primary is not None and not may_hold(zone, self.zones.get(primary))
        return Answerer.NOBODY if writes and is_outside else Answerer.ANY

    def address(self, zone: str, primary: str | None, urls: Mapping[str, str]) -> WrongZone:
        """The answer to a call that a region of ``zone`` has to answer: its primary, else the first that has an address."""
        regions = self.of(zone)
        if primary in regions and primary is not None:
            return WrongZone(zone, primary, urls.get(primary))
        region = next((each for each in regions if each in urls), regions[0] if regions else None)
        return WrongZone(zone, region, None if region is None else urls.get(region))

    def check_new(self, zone: str) -> None:
        """Whether a workspace can be made here that is resident in ``zone``.

        Raises: `InvalidRequest` (``unknown_zone``) if no region has the zone; `Conflict` (``zone_too_small``) if none but this
        one has it and others follow: then nothing could be acknowledged."""
        regions = self.of(zone)
        if not regions:
            known = ", ".join(sorted(set(self.zones.values()))) or "none"
            raise InvalidRequest(
                f"No region is in the zone {zone}; name one of ARAGORA_DATA_RESIDENCY and ARAGORA_REGION_ZONES ({known}).",
                "unknown_zone",
            )
        if len(regions) < LEAST_REGIONS and len(self.regions) > 1:
            raise Conflict(
                f"{regions[0]} is the only region of the zone {zone}, so no other could hold a second copy of what is resident "
                "there; add a region to the zone.",
                "zone_too_small",
            )

    def check_runs(self, zone: str | None, agent_id: str, regions: Iterable[str]) -> None:
        """Whether an agent that says it runs in ``regions`` may have work of a workspace that is resident in ``zone``: it is sent
        payloads, wherever the call comes from.

        Raises: `ResidencyViolation`."""
        outside = sorted(region for region in regions if not may_hold(zone, self.zones.get(region)))
        if outside:
            raise ResidencyViolation(
                f"The agent {agent_id} says that it runs in {', '.join(outside)}, outside of the zone {zone} that this workspace "
                "is resident in; register it in a region of the zone."
            )


class ResidencyViolation(Forbidden):
    """It would take what is resident in a zone out of it."""

    default_code = VIOLATION


def may_hold(zone: str | None, region_zone: str | None) -> bool:
    """Whether a region may hold the words and payloads of a workspace that is resident in ``zone``; None: nowhere."""
    return zone is None or zone == region_zone


def nobody_writes(zone: str) -> TryLater:
    """The answer to a change that only a region outside of the zone could make now."""
    return TryLater(
        f"No region of the zone {zone} writes now, and a region outside of it must not; try again later, or let an operator hand "
        "over to a region of the zone (aragora-cp region failover --to REGION).",
        NO_PRIMARY,
    )
