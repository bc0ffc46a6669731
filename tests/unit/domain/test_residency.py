"""The rule of residency, against a model that lists everything out."""

from __future__ import annotations

import itertools
import pickle

import pytest

from cluster.domain.base.errors import CallerError, ControlPlaneError
from cluster.domain.residency import (
    Answerer,
    AwayRegion,
    RegionZones,
    ResidencyViolation,
    WrongZone,
    away_region,
    may_hold,
)

ZONES = {"eu-1": "eu", "eu-2": "eu", "us-1": "us"}
#: ``ap-1`` is in no zone.
REGIONS = ("eu-1", "eu-2", "us-1", "ap-1")
URLS = {"eu-2": "https://eu-2", "us-1": "https://us-1"}


def seen_from(region: str) -> RegionZones:
    return RegionZones(region=region, zones=ZONES, regions=frozenset(REGIONS))


def model(zone: str | None, here: str, primary: str | None, writes: bool) -> Answerer:
    """All that may be answered where it comes or forwarded, one by one."""
    if zone is None:
        return Answerer.ANY
    inside = [region for region in REGIONS if ZONES.get(region, "") == zone]
    if here not in inside:
        return Answerer.ZONE
    if not writes or primary is None or primary in inside:
        return Answerer.ANY
    return Answerer.NOBODY


def test_who_answers_is_what_a_list_of_all_cases_says() -> None:
    cases = list(itertools.product((None, "eu", "us", "xx"), REGIONS, (None, *REGIONS), (False, True)))
    found = {case: seen_from(case[1]).answerer(case[0], case[2], writes=case[3]) for case in cases}
    assert found == {case: model(*case) for case in cases}
    assert set(found.values()) == set(Answerer)


def test_no_byte_of_a_resident_call_goes_to_a_region_outside() -> None:
    """What may be answered or forwarded is so by regions that may hold it, whoever is primary."""
    for zone, here, primary in itertools.product(("eu", "us"), REGIONS, REGIONS):
        if seen_from(here).answerer(zone, primary, writes=True) is Answerer.ANY:
            assert may_hold(zone, ZONES.get(here))
            assert may_hold(zone, ZONES.get(primary))


@pytest.mark.parametrize(
    ("primary", "region", "url"),
    [
        ("eu-1", "eu-1", None),
        ("eu-2", "eu-2", "https://eu-2"),
        ("us-1", "eu-2", "https://eu-2"),
        (None, "eu-2", "https://eu-2"),
    ],
)
def test_the_address_is_the_primarys_else_one_that_is_known(primary: str | None, region: str, url: str | None) -> None:
    error = seen_from("us-1").address("eu", primary, URLS)
    assert (error.status, error.code, error.details) == (
        421,
        "wrong_zone",
        {"zone": "eu", "region": region, "url": url},
    )
    assert (region in error.message, (url or region) in error.message) == (True, True)
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.details) == (error.message, error.details)


def test_without_any_address_the_region_is_named_alone() -> None:
    assert seen_from("us-1").address("eu", None, {}).details == {"zone": "eu", "region": "eu-1", "url": None}
    assert WrongZone("eu").message.count("None") == 0


@pytest.mark.parametrize(
    ("zone", "code"), [("eu", None), ("us", "zone_too_small"), ("xx", "unknown_zone"), ("", "unknown_zone")]
)
def test_a_workspace_takes_a_zone_with_a_second_copy(zone: str, code: str | None) -> None:
    if code is None:
        seen_from("eu-1").check_new(zone)
        return
    with pytest.raises(CallerError) as refused:
        seen_from("eu-1").check_new(zone)
    assert refused.value.code == code


def test_a_region_alone_is_a_zone_of_its_own() -> None:
    alone = RegionZones(region="a", zones={"a": "eu"}, regions=frozenset({"a"}))
    alone.check_new("eu")
    assert (alone.own, alone.has_others, seen_from("eu-1").has_others) == ("eu", False, True)
    nowhere = RegionZones(region="a", regions=frozenset({"a"}))
    assert (nowhere.own, nowhere.has_others) == (None, False)


def test_agents_outside_of_the_zone_get_no_work() -> None:
    zones = seen_from("eu-1")
    for regions in (("eu-1",), ("eu-1", "eu-2")):
        zones.check_runs("eu", "a", regions)
    zones.check_runs(None, "a", ("us-1", "nowhere"))
    for regions in (("us-1",), ("eu-1", "us-1"), ("ap-1",), ("unknown",)):
        with pytest.raises(ResidencyViolation) as refused:
            zones.check_runs("eu", "a", regions)
        error: ControlPlaneError = refused.value
        assert (error.status, error.code) == (403, "residency_violation")


def test_a_primary_is_away_when_it_misses_its_heartbeats() -> None:
    assert away_region("eu-1", 5.0, 1.0) is None
    assert away_region("eu-1", 5.1, 1.0) == AwayRegion(region="eu-1", silent_s=5.1)
    assert away_region("eu-1", None, 1.0) == AwayRegion(region="eu-1", silent_s=None)
    assert away_region(None, 0.0, 1.0) == AwayRegion(region=None, silent_s=0.0)
