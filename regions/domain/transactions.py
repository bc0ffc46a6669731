"""The changes of a zone's record, each a compare-and-swap of the group: whoever proposes one states the record that it has read,
and the group takes it only if the record, and the proposer's campaign key, are still that.

``CHANGES`` says who may propose what; ``changed`` gives the next record, or refuses with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cluster.domain.base.errors import Conflict
from cluster.domain.replication.quorum import ReplicationMode
from regions.domain.group import RegionGroup, ZoneRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Elect:
    """A candidate that holds the campaign key becomes primary. ``epochs`` and ``versions`` are those of every database that
    answered, the candidate's own among them."""

    candidate: str
    epochs: tuple[int, ...]
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A member that is late leaves the set, before the primary stops waiting for it."""

    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoin:
    """A member that has caught up returns: it holds all rows up to ``persisted``, and ``answered`` was the last row that left
    the region. From the proposal on, the primary waits for it."""

    region: str
    persisted: int
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTransfer:
    """A primary that writes no more hands the zone to a member that holds all its rows up to ``head``."""

    heir: str
    persisted: int
    head: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMode:
    mode: ReplicationMode


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptLoss:
    """An operator names a primary that may lack acknowledged rows (`failover --accept-loss`). The only other way to a primary."""

    candidate: str
    epochs: tuple[int, ...]
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRestored:
    """The group's store was restored from a snapshot, so that nobody knows who holds every acknowledged row."""


ZoneChange = Elect | Leave | Rejoin | OfferTransfer | SetMode | AcceptLoss | MarkRestored
Apply = Callable[[ZoneRecord, RegionGroup, Any], ZoneRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRule:
    """``by``: who proposes it. ``key``: whether the swap also compares the proposer's campaign key."""

    apply: Apply
    by: str
    key: bool
    note: str


def changed(record: ZoneRecord, group: RegionGroup, change: ZoneChange) -> ZoneRecord:
    """The record after a change.

    Raises: `Conflict` if the record or the group does not allow it."""
    after = CHANGES[type(change)].apply(record, group, change)
    return replace(after, version=after.version + 1)


def _elect(record: ZoneRecord, group: RegionGroup, change: Elect) -> ZoneRecord:
    problem = why_not_elected(record, group, change.candidate)
    if problem is not None:
        raise problem
    if max(change.epochs, default=0) > record.epoch or max(change.versions, default=0) > record.version:
        raise Conflict(
            "A database knows a later state of this zone than the group, whose store therefore was restored; find the region "
            "that holds every row, and run `aragora-cp region failover --accept-loss` for it.",
            "group_restored",
        )
    epoch = _next_epoch(record, change.epochs)
    if record.mode is ReplicationMode.ASYNC:
        return replace(record, primary=change.candidate, epoch=epoch, in_sync=frozenset({change.candidate}), heir=None)
    planned = record.heir == change.candidate
    left = record.in_sync if planned else record.in_sync - {record.primary}
    return replace(record, primary=change.candidate, epoch=epoch, in_sync=left | {change.candidate}, heir=None)


def why_not_elected(record: ZoneRecord, group: RegionGroup, candidate: str) -> Conflict | None:
    """Why a region may not become primary by an election; None if it may."""
    if not group.may_lead(record.zone, candidate):
        return Conflict(
            f"{candidate} may not become primary of zone {record.zone}, whose data it does not hold; choose a data region of the "
            "zone.",
            "not_eligible",
        )
    refusal = group.why_not_automatic()
    if refusal is not None and record.heir != candidate and record.primary != candidate:
        return Conflict(refusal, "no_automatic_failover")
    if record.mode is ReplicationMode.SYNC and candidate not in record.in_sync:
        return Conflict(
            f"{candidate} is not in the in-sync set of zone {record.zone}, so it may lack acknowledged rows; wait for a member "
            "of the set, or run `aragora-cp region failover --accept-loss`.",
            "not_in_sync",
        )
    return None


def _leave(record: ZoneRecord, group: RegionGroup, change: Leave) -> ZoneRecord:
    if change.region == record.primary:
        raise Conflict("The primary cannot leave its own in-sync set; transfer the zone first.", "is_primary")
    return replace(record, in_sync=record.in_sync - {change.region})


def _rejoin(record: ZoneRecord, group: RegionGroup, change: Rejoin) -> ZoneRecord:
    member = group.member(change.region)
    if member is None or not member.data:
        raise Conflict(f"{change.region} holds no data, so it cannot be in an in-sync set.", "not_eligible")
    if change.region not in group.counting(record.zone):
        raise Conflict(
            f"{change.region} holds no payloads of zone {record.zone}, and other regions do, so it does not count there.",
            "not_eligible",
        )
    if change.persisted < change.answered:
        raise Conflict(
            f"{change.region} holds rows up to {change.persisted}, and {change.answered} was answered; wait until it catches up.",
            "not_caught_up",
        )
    return replace(record, in_sync=record.in_sync | {change.region})


def _offer(record: ZoneRecord, group: RegionGroup, change: OfferTransfer) -> ZoneRecord:
    if not group.may_lead(record.zone, change.heir):
        raise Conflict(
            f"{change.heir} may not become primary of zone {record.zone}; choose a data region of it.", "not_eligible"
        )
    if change.heir not in record.in_sync or change.persisted < change.head:
        raise Conflict(
            f"{change.heir} does not hold every row of zone {record.zone} yet; wait until it has caught up.",
            "not_caught_up",
        )
    return replace(record, heir=change.heir)


def _set_mode(record: ZoneRecord, group: RegionGroup, change: SetMode) -> ZoneRecord:
    # Without waiting, nobody but the primary is known to hold every acknowledged row, in either direction of the switch.
    alone = frozenset({record.primary} if record.primary else ())
    return record if change.mode is record.mode else replace(record, mode=change.mode, in_sync=alone)


def _accept_loss(record: ZoneRecord, group: RegionGroup, change: AcceptLoss) -> ZoneRecord:
    if not group.may_lead(record.zone, change.candidate):
        raise Conflict(
            f"{change.candidate} may not become primary of zone {record.zone}; choose a data region of it.",
            "not_eligible",
        )
    version = max(record.version, *change.versions)
    chosen = frozenset({change.candidate})
    epoch = _next_epoch(record, change.epochs)
    # As the heir it comes before whoever else may campaign; its election draws the epoch under which it writes.
    return replace(
        record, primary=change.candidate, epoch=epoch, in_sync=chosen, heir=change.candidate, version=version
    )


def _mark_restored(record: ZoneRecord, group: RegionGroup, change: MarkRestored) -> ZoneRecord:
    return replace(record, in_sync=frozenset(), heir=None)


def _next_epoch(record: ZoneRecord, epochs: tuple[int, ...]) -> int:
    return 1 + max(record.epoch, *epochs) if epochs else 1 + record.epoch


CHANGES: dict[type[ZoneChange], ChangeRule] = {
    Elect: ChangeRule(
        apply=_elect,
        by="candidate",
        key=True,
        note="a member of the set; takes the old primary out, unless it was planned",
    ),
    Leave: ChangeRule(apply=_leave, by="primary", key=True, note="before the primary stops waiting for the member"),
    Rejoin: ChangeRule(apply=_rejoin, by="primary", key=True, note="after the member has caught up"),
    OfferTransfer: ChangeRule(
        apply=_offer, by="primary", key=True, note="after the heir holds every row; deletes the campaign key"
    ),
    SetMode: ChangeRule(apply=_set_mode, by="operator", key=False, note="leaves the primary alone in the set; audited"),
    AcceptLoss: ChangeRule(apply=_accept_loss, by="operator", key=False, note="rows may be lost; audited"),
    MarkRestored: ChangeRule(
        apply=_mark_restored, by="operator", key=False, note="after a restore of the store: empties the set"
    ),
}
