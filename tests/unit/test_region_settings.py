"""Settings of several regions: the guide's are taken alone, and each contradiction is one sentence that names what to mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.domain.replication.quorum import TWO_ALONE
from cluster.settings import SettingsError, load_settings

THREE = {
    "ARAGORA_REGION": "us-east-1",
    "ARAGORA_REGION_PRIMARY": "true",
    "ARAGORA_REPLICATION_TARGETS": "us-west-2,eu-west-1",
    "ARAGORA_REGION_PEERS": "us-west-2=10.0.8.4:7443, eu-west-1=[fe80::1]:7443",
    "ARAGORA_REGION_CERT_FILE": "c.pem",
    "ARAGORA_REGION_KEY_FILE": "k.pem",
    "ARAGORA_REGION_CA_FILE": "ca.pem",
    "ARAGORA_ETCD_ENDPOINTS": "https://e1:2379,https://e2:2379",
}


def refused(**changes: str) -> str:
    with pytest.raises(SettingsError) as found:
        load_settings(THREE | {f"ARAGORA_{name}": value for name, value in changes.items()})
    sentence = str(found.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_three_regions_fit_together() -> None:
    settings = load_settings(THREE)
    assert settings.peer_addresses() == {"us-west-2": ("10.0.8.4", 7443), "eu-west-1": ("fe80::1", 7443)}
    assert (settings.has_peers, settings.first_primary) == (True, "us-east-1")
    urls = "us-east-1=https://east.example.com, us-west-2=http://[fe80::1]:8000/cp"
    assert load_settings(THREE | {"ARAGORA_REGION_URLS": urls}).urls_of_regions() == {
        "us-east-1": "https://east.example.com",
        "us-west-2": "http://[fe80::1]:8000/cp",
    }
    timers = settings.region_timers()
    assert (timers.election_s, timers.stale_s, timers.sync_s, timers.problems()) == (10.0, 60.0, 5.0, [])


def test_each_region_is_in_one_zone_or_in_none() -> None:
    zones = load_settings(
        THREE | {"ARAGORA_DATA_RESIDENCY": "us", "ARAGORA_REGION_ZONES": "us-east-1=us, eu-west-1=eu"}
    ).zones()
    assert (zones.own, dict(zones.zones)) == ("us", {"us-east-1": "us", "eu-west-1": "eu"})
    assert zones.regions == {"us-east-1", "us-west-2", "eu-west-1"}
    alone = load_settings({"ARAGORA_DATA_RESIDENCY": "eu"}).zones()
    assert (alone.own, alone.has_others, alone.regions) == ("eu", False, {"default"})
    assert not load_settings({}).zones().zones


def test_the_settings_survive_the_file(tmp_path: Path) -> None:
    first = load_settings(THREE | {"ARAGORA_REPLICATION_MODE": "async"})
    first.to_config_file(tmp_path / "config.json")
    again = load_settings({"ARAGORA_CONFIG_FILE": str(tmp_path / "config.json")})
    assert again == first
    assert again.fingerprint() == first.fingerprint()


@pytest.mark.parametrize(
    "guides",
    [
        {"ARAGORA_REGION_PRIMARY": "true", "ARAGORA_REPLICATION_TARGETS": "us-west-2,eu-west-1"},
        {"ARAGORA_REGION_PRIMARY": "false", "ARAGORA_PRIMARY_REGION": "us-east-1", "ARAGORA_DATA_RESIDENCY": "eu"},
        {"ARAGORA_LEADER_ELECTION_TIMEOUT": "90", "ARAGORA_SYNC_INTERVAL": "5.0"},
    ],
)
def test_without_peers_the_guides_variables_stop_no_start(guides: dict[str, str]) -> None:
    assert not load_settings(guides).has_peers


@pytest.mark.parametrize(
    "name",
    ["REPLICATION_MODE", "REGION_WITNESSES", "ETCD_ENDPOINTS", "REGION_CERT_FILE", "REGION_URLS", "REGION_ZONES"],
)
def test_without_peers_what_is_for_peers_is_refused(name: str) -> None:
    value = {
        "REPLICATION_MODE": "sync",
        "ETCD_ENDPOINTS": "http://e:1",
        "REGION_URLS": "e=http://e:1",
        "REGION_ZONES": "e=eu",
    }.get(name, "w")
    assert "ARAGORA_REGION_PEERS is not" in refused(**{"REGION_PEERS": "", name: value, **_without(name)})


def _without(kept: str) -> dict[str, str]:
    return {
        name.removeprefix("ARAGORA_"): "" for name in THREE if name.endswith(("FILE", "ENDPOINTS")) and kept not in name
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LEADER_ELECTION_TIMEOUT": "1.5"}, "must be at least 2 s"),
        ({"REGION_HEARTBEAT": "10"}, "The heartbeat (10 s) must be shorter than ARAGORA_LEADER_ELECTION_TIMEOUT"),
        ({"STALE_LEADER_THRESHOLD": "10"}, "must be shorter than ARAGORA_STALE_LEADER_THRESHOLD (10 s)"),
        ({"REGION_PEERS": "us-west-2=h:1", "REPLICATION_TARGETS": ""}, TWO_ALONE),
        ({"REGION_PEERS": "us-east-1=h:1,us-west-2=h:2"}, "names this region itself (us-east-1)"),
        ({"REGION_WITNESSES": "us-west-2"}, "ARAGORA_REGION_WITNESSES names us-west-2, which holds data"),
        ({"REPLICATION_TARGETS": "ap-1,us-west-2,eu-west-1"}, "names ap-1, but ARAGORA_REGION_PEERS has no address"),
        ({"REPLICATION_TARGETS": "us-west-2"}, "ARAGORA_REGION_PEERS has eu-west-1, but"),
        ({"PRIMARY_REGION": "us-west-2"}, "ARAGORA_REGION_PRIMARY is true in us-east-1, but"),
        ({"REGION_PRIMARY": "false"}, "ARAGORA_REGION_PRIMARY is false in us-east-1, so"),
        ({"REGION_PRIMARY": "false", "PRIMARY_REGION": "ap-1"}, "ARAGORA_PRIMARY_REGION names ap-1, but"),
        ({"REGION_KEY_FILE": ""}, "ARAGORA_REGION_KEY_FILE is not set"),
        ({"ETCD_ENDPOINTS": ""}, "ARAGORA_ETCD_ENDPOINTS is not set"),
        ({"ETCD_CERT_FILE": "c"}, "ARAGORA_ETCD_CERT_FILE and ARAGORA_ETCD_KEY_FILE go together"),
        ({"ETCD_USER": "u"}, "ARAGORA_ETCD_USER and ARAGORA_ETCD_PASSWORD_FILE go together"),
        ({"ETCD_CA_FILE": "c", "ETCD_ENDPOINTS": "https://a:1,http://b:2"}, "has http://b:2, which is not encrypted"),
        ({"REGION_PEERS": "us-west-2"}, "ARAGORA_REGION_PEERS="),
        ({"REGION_PEERS": "us-west-2=h:99999"}, "each must be NAME=HOST:PORT"),
        ({"REGION_PEERS": "a=h:1,a=h:2"}, "it names a region twice"),
        ({"REGION_LISTEN": "h"}, "ARAGORA_REGION_LISTEN="),
        ({"REGION_URLS": "us-west-2=west.example.com"}, "each must be NAME=URL"),
        ({"REGION_URLS": "https://west.example.com"}, "each must be NAME=URL"),
        ({"REGION_URLS": "ap-1=https://ap.example.com"}, "ARAGORA_REGION_URLS names ap-1, which is no region"),
        ({"REGION_ZONES": "eu-west-1"}, "each must be NAME=ZONE"),
        ({"REGION_ZONES": "eu-west-1=eu,eu-west-1=us"}, "it names a region twice"),
        ({"REGION_ZONES": "ap-1=eu"}, "ARAGORA_REGION_ZONES names ap-1, which is no region"),
        ({"REGION_ZONES": "us-east-1=us"}, "says that us-east-1 is in us, and its ARAGORA_DATA_RESIDENCY says nothing"),
        ({"REGION_ZONES": "us-east-1=us", "DATA_RESIDENCY": "eu"}, "and its ARAGORA_DATA_RESIDENCY says eu"),
        ({"REGION_ZONES": "eu-west-1=default"}, "No zone of residency is called default"),
        ({"DATA_RESIDENCY": "e u"}, "ARAGORA_DATA_RESIDENCY="),
        ({"ETCD_ENDPOINTS": "e:2379"}, "ARAGORA_ETCD_ENDPOINTS="),
        ({"REPLICATION_MODE": "some"}, "ARAGORA_REPLICATION_MODE="),
    ],
)
def test_a_contradiction_is_named(changes: dict[str, str], said: str) -> None:
    assert said in refused(**changes)


@pytest.mark.parametrize("changes", [{"REGION_WITNESSES": "w"}, {"AUTOMATIC_FAILOVER": "false"}])
def test_two_regions_need_a_witness_or_an_operator(changes: dict[str, str]) -> None:
    two = {"ARAGORA_REGION_PEERS": "us-west-2=h:1", "ARAGORA_REPLICATION_TARGETS": "us-west-2"}
    assert load_settings(THREE | two | {f"ARAGORA_{name}": value for name, value in changes.items()}).has_peers
