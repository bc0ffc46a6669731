from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.domain.base.errors import Conflict
from cluster.domain.replication.quorum import ReplicationMode
from cluster.domain.replication.timers import RegionTimers
from regions.domain.group import MEMBERS_KEY, RegionGroup, RegionMember, ZoneRecord, founded
from regions.domain.leadership import (
    AnswerUpTo,
    Appended,
    CampaignAnswered,
    Effect,
    GroupSeen,
    Leadership,
    LogPosition,
    Persisted,
    ProposalAnswered,
    Propose,
    RegionReport,
    ReportReceived,
    Tick,
    WritesOpened,
)
from regions.domain.machine import step
from regions.domain.transactions import Rejoin, changed
from regions.domain.zones import first_primary, primaries_of, records_of, zones_of


def group_of(**residency: str | None) -> RegionGroup:
    return RegionGroup(members=tuple(RegionMember(region=name, residency=zone) for name, zone in residency.items()))


TWO_INSIDE = group_of(a=None, b="eu", c="eu")
ONE_INSIDE = group_of(a=None, b="eu", c=None)
OWN = RegionReport(epoch=1, version=1, position=LogPosition(epoch=1, seq=9), is_whole=True)


def record(*in_sync: str) -> ZoneRecord:
    return replace(founded("eu", "b", in_sync, ReplicationMode.SYNC), epoch=1)


def primary(group: RegionGroup, *in_sync: str) -> Leadership:
    """``b``, of zone eu, epoch 2; its last row is 10, which nobody has confirmed."""
    state = Leadership(region="b", key="b/1", timers=RegionTimers(), own=OWN)
    state, _ = step(state, GroupSeen(group=group, record=record(*in_sync), holder=None), 0.0)
    state, _ = step(state, ReportReceived(region="c", report=OWN), 0.0)
    state, _ = step(state, Tick(own=OWN), 5.0)
    state, (proposed,) = step(state, CampaignAnswered(started=0.0, ttl_s=10.0), 5.0)
    assert isinstance(proposed, Propose)
    state, _ = step(state, ProposalAnswered(after=proposed.after, succeeded=True), 5.0)
    state, _ = step(state, WritesOpened(epoch=2, head=10), 5.0)
    return state


def proposed_sets(effects: tuple[Effect, ...]) -> list[set[str]]:
    return [set(effect.after.in_sync) for effect in effects if isinstance(effect, Propose)]


def confirmed(state: Leadership, *regions: str) -> tuple[Leadership, tuple[Effect, ...]]:
    effects: tuple[Effect, ...] = ()
    for region in regions:
        state, more = step(state, Persisted(region=region, epoch=2, seq=10), 5.0)
        effects += more
    return state, effects


def test_a_group_has_the_zones_of_its_data_regions() -> None:
    assert zones_of(group_of(a=None, b="us", c="eu")) == ("default", "eu", "us")
    assert zones_of(RegionGroup(members=(RegionMember(region="w", data=False, residency="eu"),))) == ("default",)


def test_a_zone_is_founded_by_a_region_that_may_lead_it() -> None:
    assert first_primary(TWO_INSIDE, "default", "c") == "c"
    assert first_primary(TWO_INSIDE, "eu", "c") == "c"
    assert first_primary(TWO_INSIDE, "eu", "a") == "b"
    assert first_primary(TWO_INSIDE, "us", "a") is None


def test_the_store_of_the_group_has_a_record_of_each_zone() -> None:
    default = founded("default", "a", (), ReplicationMode.SYNC)
    entries = {found.key: found.encode() for found in (default, record())}
    found = records_of({**entries, MEMBERS_KEY: TWO_INSIDE.encode(), "leader/eu": "b/1"})
    assert found == {"default": default, "eu": record()}
    assert primaries_of(found) == {"a", "b"}


def test_only_who_holds_payloads_counts_where_two_regions_do() -> None:
    assert (TWO_INSIDE.counting("eu"), TWO_INSIDE.counting("default")) == ({"b", "c"}, {"a", "b", "c"})
    with pytest.raises(Conflict) as refused:
        changed(record(), TWO_INSIDE, Rejoin(region="a", persisted=9, answered=9))
    assert refused.value.code == "not_eligible"
    state, _ = confirmed(primary(TWO_INSIDE), "a")
    assert proposed_sets(step(state, Tick(own=OWN), 5.1)[1]) == []
    state, _ = confirmed(state, "c")
    assert proposed_sets(step(state, Tick(own=OWN), 5.1)[1]) == [{"b", "c"}]
    assert TWO_INSIDE.payload_copies(record("c")) == 2


def test_a_zone_of_one_region_answers_when_others_have_the_rest() -> None:
    assert ONE_INSIDE.counting("eu") == {"a", "b", "c"}
    assert ONE_INSIDE.payload_copies(record("a", "c")) == 1
    state, effects = step(primary(ONE_INSIDE, "a"), Appended(seq=11), 5.1)
    assert effects == ()
    state, effects = step(state, Persisted(region="a", epoch=2, seq=11), 5.2)
    assert effects == (AnswerUpTo(seq=11),)


def test_who_has_no_payloads_leaves_when_another_copy_has_come() -> None:
    state = primary(TWO_INSIDE, "a")
    state, _ = confirmed(state, "a")
    assert proposed_sets(step(state, Tick(own=OWN), 5.1)[1]) == [], "it is the only other copy of the rest"
    state, _ = confirmed(primary(TWO_INSIDE, "a", "c"), "a", "c")
    assert proposed_sets(step(state, Tick(own=OWN), 5.1)[1]) == [{"b", "c"}]
