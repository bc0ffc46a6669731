"""What the doctor says of the regions' etcd: releases with known defects, members that are away, nothing where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.checks.etcd import check_etcd, is_sound
from cluster.cli.checks.findings import OK, PROBLEM, WARNING
from cluster.embedded.ports import free_ports
from cluster.settings import Settings
from tests.support.authorities import Issuer
from tests.support.etcd import etcd_group, etcd_members, needs_etcd


@pytest.mark.parametrize(
    ("release", "sound"),
    [
        ("3.4.23", False),
        ("3.4.30", False),
        ("3.4.31", True),
        ("3.5.2", False),
        ("3.5.12", False),
        ("3.5.13", True),
        ("3.6.0", True),
        ("3.6.0-rc.1", True),
        ("3.3.99", False),
        ("4.0.0", True),
        ("current", False),
    ],
)
def test_releases_that_revoke_renewed_leases_are_known(release: str, sound: bool) -> None:
    assert is_sound(release) is sound


async def test_a_region_alone_has_no_etcd_to_look_at() -> None:
    assert await check_etcd(Settings()) == []


@needs_etcd
async def test_the_doctor_asks_each_member() -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with etcd_members() as members:
        async with etcd_group(members):
            settings = Settings(region="m0", etcd_endpoints=(members[0].url, nobody))
            first, second = await check_etcd(settings)
            *_, unnamed = await check_etcd(settings.model_copy(update={"region": "east"}))
    release = first.detail.split("release ")[1].split(",")[0]
    assert first.level == (OK if is_sound(release) else WARNING)
    assert (second.level, nobody in second.detail) == (PROBLEM, True)
    assert (unnamed.level, "no member has the name east" in unnamed.detail) == (WARNING, True)


@pytest.mark.parametrize("common_name", ["", "control-plane"])
async def test_a_certificate_with_which_etcd_takes_no_password_is_told(tmp_path: Path, common_name: str) -> None:
    issuer = Issuer()
    certificate, key = issuer.issue(common_name=common_name).write(tmp_path, "client")
    settings = Settings(
        etcd_endpoints=(f"https://127.0.0.1:{free_ports(1)[0]}",),
        etcd_ca_file=Path(issuer.file(tmp_path)),
        etcd_cert_file=Path(certificate),
        etcd_key_file=Path(key),
    )
    named = "has a common name (CN=control-plane)"
    assert not [found for found in await check_etcd(settings) if named in found.detail], "without a password it may"
    with_password = await check_etcd(settings.model_copy(update={"etcd_user": "somebody"}))
    assert any(named in found.detail and found.level == PROBLEM for found in with_password) == bool(common_name)
