"""What `aragora-cp regions demo` says where etcd is not installed, and which variables its regions take over."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.cli.region_group import GROUP_FILE, NAMES, RegionGroup, regions_in
from cluster.embedded.layout import EmbeddedError
from cluster.settings import load_settings
from tests.support.system import COMMAND, clean_environment


def test_without_etcd_it_says_what_to_install(tmp_path: Path) -> None:
    environment = clean_environment(PATH=str(tmp_path))
    done = subprocess.run([COMMAND, "regions", "demo"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "apt-get install etcd-server" in done.stderr


def test_the_regions_fit_together_and_share_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ARAGORA_DATABASE_URL": "postgresql://somewhere/db",
        "ARAGORA_CONFIG_FILE": "/etc/aragora.json",
        "RAY_ADDRESS": "http://127.0.0.1:8265",
        "ARAGORA_LEADER_ELECTION_TIMEOUT": "4",
    }.items():
        monkeypatch.setenv(name, value)
    regions = regions_in(tmp_path, "etcd")
    assert [region.name for region in regions] == list(NAMES)
    for region in regions:
        settings = load_settings(region.environment)
        assert settings.first_primary == NAMES[0]
        assert settings.urls_of_regions() == {other.name: other.url for other in regions}
        assert settings.leader_election_timeout == 4
        assert settings.database_url is None
        assert "RAY_ADDRESS" not in region.environment
        assert settings.etcd_endpoints == tuple(other.etcd.url for other in regions)
    listen = [region.environment["ARAGORA_REGION_LISTEN"].split(":")[1] for region in regions]
    urls = [url.split(":")[2] for region in regions for url in (region.url, region.etcd.url)]
    assert len({*listen, *urls}) == 3 * len(NAMES)


def test_a_folder_with_an_earlier_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / GROUP_FILE).write_text("{}")
    group = RegionGroup(tmp_path, 1_000_000)
    with pytest.raises(EmbeddedError, match="aragora-cp down --data-dir"):
        group.begin("etcd")
    group.stop()
    assert [path.name for path in tmp_path.iterdir()] == [GROUP_FILE]
