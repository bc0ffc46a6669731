"""What is told of regions, from what a leader says in each of its states."""

from __future__ import annotations

from typing import Any

from serve_app.schemas.regions import regions_wire

_SAID: dict[str, Any] = {
    "leader": True,
    "region": "east",
    "zone": "default",
    "phase": "primary",
    "role": "primary",
    "epoch": 3,
    "trusted_until": 1_000.5,
    "head": 77,
    "whole": True,
    "problem": None,
    "surplus": [{"name": "surplus-east-1.jsonl", "rows": 4}, {"name": "surplus-east-2.jsonl", "rows": 3}],
    "lag": {"west": {"rows": 5}},
    "etcd_leader": "east",
    "contradictions": ["The settings of east do not name north, a member."],
    "primary": "east",
    "in_sync": ["east"],
    "mode": "sync",
    "members": [
        {"region": "east", "data": True, "residency": None},
        {"region": "north", "data": False, "residency": "eu"},
    ],
    "no_automatic_failover": "Two regions elect nobody.",
    "no_writes": None,
}


def test_a_primary_tells_who_is_in_sync_and_who_lags() -> None:
    found = regions_wire("east", True, _SAID)
    assert (found["primary"], found["epoch"], found["in_sync"], found["head"]) == ("east", 3, ["east"], 77)
    assert found["lag"] == [{"region": "west", "rows": 5, "silent_seconds": None, "is_stale": None}]
    assert found["members"][1] == {"region": "north", "holds_data": False, "residency": "eu"}
    assert found["warnings"] == ["The settings of east do not name north, a member.", "Two regions elect nobody."]
    assert found["surplus_rows"] == 7
    assert "surplus-east" not in str(found), "names of files stay on their machine"


def test_a_secondary_tells_its_own_silence() -> None:
    said = {**_SAID, "role": "secondary", "lag": {"west": {"silent_s": 7.5, "stale": True}}}
    (lag,) = regions_wire("west", True, said)["lag"]
    assert lag == {"region": "west", "rows": None, "silent_seconds": 7.5, "is_stale": True}


def test_a_region_without_a_leader_has_the_same_members() -> None:
    said = {"region": "east", "leader": False, "warnings": ["The region's leader is starting."]}
    found = regions_wire("east", True, said)
    assert found.keys() == regions_wire("east", True, _SAID).keys()
    assert (found["is_led"], found["role"], found["in_sync"], found["members"]) == (False, None, [], [])
    assert found["warnings"] == ["The region's leader is starting."]
