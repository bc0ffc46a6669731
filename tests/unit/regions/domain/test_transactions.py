from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from cluster.domain.base.errors import Conflict, InternalError
from cluster.domain.replication.quorum import ReplicationMode
from regions.domain.group import RegionGroup, RegionMember, ZoneRecord, founded
from regions.domain.transactions import (
    CHANGES,
    AcceptLoss,
    Elect,
    Leave,
    MarkRestored,
    OfferTransfer,
    Rejoin,
    SetMode,
    ZoneChange,
    changed,
)

THREE = RegionGroup(members=tuple(RegionMember(region=name) for name in ("a", "b", "c")))
WITH_WITNESS = RegionGroup(
    members=(RegionMember(region="a"), RegionMember(region="b"), RegionMember(region="w", data=False))
)
TWO = RegionGroup(members=(RegionMember(region="a"), RegionMember(region="b")))
RECORD = replace(founded("default", "a", ("b", "c"), ReplicationMode.SYNC), epoch=4, version=9)


def elect(candidate: str, epochs: tuple[int, ...] = (4,), versions: tuple[int, ...] = (9,)) -> Elect:
    return Elect(candidate=candidate, epochs=epochs, versions=versions)


def refusal(record: ZoneRecord, group: RegionGroup, change: ZoneChange) -> str:
    with pytest.raises(Conflict) as raised:
        changed(record, group, change)
    assert raised.value.message.endswith(".")
    return raised.value.code


def test_every_change_has_a_rule() -> None:
    assert set(CHANGES) == set(get_args(ZoneChange))


def test_an_election_takes_the_old_primary_out_and_draws_an_epoch() -> None:
    after = changed(RECORD, THREE, elect("b", epochs=(4, 3, 2)))
    assert (after.primary, after.epoch, after.in_sync, after.version) == ("b", 5, frozenset({"b", "c"}), 10)


def test_a_planned_transfer_keeps_the_old_primary_in_the_set() -> None:
    offered = changed(RECORD, THREE, OfferTransfer(heir="b", persisted=7, head=7))
    after = changed(offered, THREE, elect("b"))
    assert (after.primary, after.in_sync, after.heir) == ("b", frozenset({"a", "b", "c"}), None)
    assert refusal(RECORD, THREE, OfferTransfer(heir="b", persisted=6, head=7)) == "not_caught_up"


def test_nobody_outside_the_set_and_no_witness_is_elected() -> None:
    assert refusal(replace(RECORD, in_sync=frozenset({"a", "c"})), THREE, elect("b")) == "not_in_sync"
    assert refusal(RECORD, WITH_WITNESS, elect("w")) == "not_eligible"
    assert refusal(RECORD, WITH_WITNESS, Rejoin(region="w", persisted=9, answered=9)) == "not_eligible"


def test_two_regions_alone_never_fail_over_by_themselves() -> None:
    assert refusal(RECORD, TWO, elect("b")) == "no_automatic_failover"
    assert "third region or a witness" in str(TWO.why_not_automatic())
    assert changed(RECORD, TWO, elect("a")).epoch == 5  # the primary itself may take its own zone again
    assert WITH_WITNESS.why_not_automatic() is None
    switched_off = replace(THREE, automatic_failover=False)
    assert refusal(RECORD, switched_off, elect("b")) == "no_automatic_failover"


def test_a_restored_group_elects_nobody_before_an_operator_has_chosen() -> None:
    assert refusal(RECORD, THREE, elect("b", epochs=(4, 6))) == "group_restored"
    assert refusal(RECORD, THREE, elect("b", versions=(9, 12))) == "group_restored"
    restored = changed(RECORD, THREE, MarkRestored())
    assert refusal(restored, THREE, elect("b")) == "not_in_sync"
    chosen = changed(restored, THREE, AcceptLoss(candidate="c", epochs=(4, 6, 5), versions=(9, 12, 11)))
    assert (chosen.primary, chosen.epoch, chosen.in_sync, chosen.version) == ("c", 7, frozenset({"c"}), 13)
    assert changed(chosen, THREE, elect("c", epochs=(6,), versions=(12,))).epoch == 8


def test_a_member_leaves_and_returns_only_caught_up() -> None:
    left = changed(RECORD, THREE, Leave(region="b"))
    assert left.in_sync == {"a", "c"}
    assert refusal(RECORD, THREE, Leave(region="a")) == "is_primary"
    assert refusal(left, THREE, Rejoin(region="b", persisted=6, answered=7)) == "not_caught_up"
    assert changed(left, THREE, Rejoin(region="b", persisted=7, answered=7)).in_sync == {"a", "b", "c"}


def test_a_switch_of_the_mode_leaves_the_primary_alone_in_the_set() -> None:
    asynchronous = changed(RECORD, THREE, SetMode(mode=ReplicationMode.ASYNC))
    assert asynchronous.in_sync == {"a"}
    assert changed(asynchronous, THREE, elect("b")).in_sync == {"b"}
    assert changed(RECORD, THREE, SetMode(mode=ReplicationMode.SYNC)).in_sync == RECORD.in_sync


def test_only_data_regions_of_a_residency_lead_its_zone() -> None:
    group = RegionGroup(
        members=(RegionMember(region="a"), RegionMember(region="e", residency="eu"), RegionMember(region="c"))
    )
    resident = replace(founded("eu", "e", ("a",), ReplicationMode.SYNC), epoch=1)
    assert refusal(resident, group, elect("a", epochs=(), versions=())) == "not_eligible"
    assert refusal(resident, group, AcceptLoss(candidate="a", epochs=(), versions=())) == "not_eligible"
    assert group.may_lead("default", "e")


def test_records_and_groups_come_back_from_their_texts() -> None:
    assert ZoneRecord.decode(RECORD.encode()) == RECORD
    assert RegionGroup.decode(WITH_WITNESS.encode()) == WITH_WITNESS
    for text in ("", "[]", "{}"):
        with pytest.raises(InternalError):
            ZoneRecord.decode(text)
        with pytest.raises(InternalError):
            RegionGroup.decode(text)
