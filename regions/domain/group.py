"""What the group agrees on: its members, its switches and, per zone, the primary, the epoch and the in-sync set.

The **in-sync set** of a zone holds the data regions that hold every acknowledged row of it. In ``sync`` mode an answer waits for
every member of the set, so that each of them may become primary and lose nothing. A **witness** votes and holds no data.

Each change of a zone raises its ``version``. Revisions of the store would not do: a store that was restored repeats them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.domain.base.errors import InternalError
from cluster.domain.replication.quorum import DEFAULT_ZONE, LEAST_VOTERS, TWO_ALONE, ReplicationMode

#: The keys of the group's store.
MEMBERS_KEY = "members"
ZONE_PREFIX = "zone/"
LEADER_PREFIX = "leader/"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionMember:
    """``residency``: the zone whose payloads the region may hold; None for the default zone. ``data`` is false for a witness."""

    region: str
    data: bool = True
    residency: str | None = None

    def may_lead(self, zone: str) -> bool:
        """Whether the region may become the zone's primary. What is in the default zone is resident nowhere, so that every data
        region may."""
        return self.data and zone in (DEFAULT_ZONE, self.residency)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionGroup:
    """The members, and the switch of automatic failover."""

    members: tuple[RegionMember, ...]
    automatic_failover: bool = True

    def member(self, region: str) -> RegionMember | None:
        return next((member for member in self.members if member.region == region), None)

    def may_lead(self, zone: str, region: str) -> bool:
        member = self.member(region)
        return member is not None and member.may_lead(zone)

    def data_regions(self) -> tuple[str, ...]:
        return tuple(member.region for member in self.members if member.data)

    def leading(self, zone: str) -> frozenset[str]:
        """The regions that may become the zone's primary: those that hold its payloads."""
        return frozenset(member.region for member in self.members if member.may_lead(zone))

    def counting(self, zone: str) -> frozenset[str]:
        """The regions that may be in the zone's in-sync set: those that hold its payloads. If that is one region alone, the
        others too, which hold the rest: else nothing could be acknowledged there."""
        leading = self.leading(zone)
        return leading if len(leading) > 1 or not leading else frozenset(self.data_regions())

    def payload_copies(self, record: ZoneRecord) -> int:
        """How many regions of the in-sync set hold the payloads of what was acknowledged. With one, its loss loses them."""
        return len(record.in_sync & self.leading(record.zone))

    def why_not_automatic(self) -> str | None:
        """Why this group never fails over by itself, in a sentence for operators; None if it does."""
        if not self.automatic_failover:
            return "Automatic failover is switched off; run `aragora-cp region failover`, or switch it on."
        if 1 < len(self.members) < LEAST_VOTERS:
            return TWO_ALONE
        return None

    def encode(self) -> str:
        members = [{"region": m.region, "data": m.data, "residency": m.residency} for m in self.members]
        return _json({"members": members, "automatic_failover": self.automatic_failover})

    @classmethod
    def decode(cls, text: str) -> RegionGroup:
        """Raises: `InternalError` if this version cannot read the text."""
        found = _object(text)
        try:
            members = tuple(RegionMember(**member) for member in found["members"])
            return cls(members=members, automatic_failover=found["automatic_failover"])
        except (KeyError, TypeError) as error:
            raise _unreadable(text) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneRecord:
    """What the group says of a zone. ``heir``: to whom a planned transfer hands the zone, until it has taken it."""

    zone: str
    version: int = 0
    epoch: int = 0
    primary: str | None = None
    in_sync: frozenset[str] = frozenset()
    mode: ReplicationMode = ReplicationMode.SYNC
    heir: str | None = None

    @property
    def key(self) -> str:
        return ZONE_PREFIX + self.zone

    @property
    def leader_key(self) -> str:
        """The campaign key: who has created it, with a lease, may ask to become primary."""
        return LEADER_PREFIX + self.zone

    def encode(self) -> str:
        """One text per value: swaps compare texts."""
        fields: dict[str, Any] = {"zone": self.zone, "version": self.version, "epoch": self.epoch}
        fields |= {"primary": self.primary, "in_sync": sorted(self.in_sync), "mode": self.mode.value, "heir": self.heir}
        return _json(fields)

    @classmethod
    def decode(cls, text: str) -> ZoneRecord:
        """Raises: `InternalError` if this version cannot read the text."""
        found = _object(text)
        try:
            return cls(
                zone=found["zone"],
                version=found["version"],
                epoch=found["epoch"],
                primary=found["primary"],
                in_sync=frozenset(found["in_sync"]),
                mode=ReplicationMode(found["mode"]),
                heir=found["heir"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(text) from error


def founded(zone: str, primary: str, in_sync: Iterable[str], mode: ReplicationMode) -> ZoneRecord:
    """The first record of a zone. Its epoch is drawn by the first election, so that no region starts without one."""
    return ZoneRecord(zone=zone, version=1, primary=primary, in_sync=frozenset({primary, *in_sync}), mode=mode)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _unreadable(text) from error
    if not isinstance(found, dict):
        raise _unreadable(text)
    return found


def _unreadable(text: str) -> InternalError:
    return InternalError(f"The group's state has a form that this version does not know: {text[:200]}")
