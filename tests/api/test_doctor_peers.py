"""What the doctor says of the other regions: they answer, are away, are others, or take no certificate of this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli.checks.findings import OK, PROBLEM, Finding
from cluster.cli.checks.peers import check_peers
from cluster.embedded.ports import free_ports
from cluster.settings import Settings
from regions.links.identity import PeerFiles
from tests.support.links import ListEnd, RegionIssuer, serving


@pytest.fixture
def issuer(tmp_path: Path) -> RegionIssuer:
    return RegionIssuer(tmp_path)


async def _found(files: PeerFiles, *peers: str) -> list[Finding]:
    """What is found from the region `west`."""
    settings = Settings(
        region="west",
        region_peers=peers,
        region_cert_file=Path(files.certificate),
        region_key_file=Path(files.key),
        region_ca_file=Path(files.authority),
    )
    return list(await check_peers(settings))


async def test_a_region_alone_has_no_others_to_look_at() -> None:
    assert await check_peers(Settings()) == []


async def test_regions_that_answer_and_that_are_away_are_told(issuer: RegionIssuer) -> None:
    (nobody,) = free_ports(1)
    async with serving(ListEnd(), issuer.files("east")) as server:
        peers = f"east=127.0.0.1:{server.port}", f"north=127.0.0.1:{nobody}"
        east, north = await _found(issuer.files("west"), *peers)
    assert (east.level, "east at" in east.detail) == (OK, True)
    assert (north.level, "does not answer" in north.detail) == (PROBLEM, True)


async def test_another_region_at_an_address_is_told(issuer: RegionIssuer) -> None:
    async with serving(ListEnd(), issuer.files("east")) as server:
        (found,) = await _found(issuer.files("west"), f"north=127.0.0.1:{server.port}")
    assert found.level == PROBLEM
    assert "spiffe://aragora/region/east" in found.detail


async def test_certificates_of_another_authority_are_told_at_both_ends(issuer: RegionIssuer, tmp_path: Path) -> None:
    other = RegionIssuer(tmp_path / "other")
    ours, theirs = issuer.files("west"), other.files("west")
    mixed = PeerFiles(certificate=theirs.certificate, key=theirs.key, authority=ours.authority)
    async with serving(ListEnd(), issuer.files("east")) as server:
        peer = f"east=127.0.0.1:{server.port}"
        (untrusted,) = await _found(theirs, peer)
        (refused,) = await _found(mixed, peer)
    assert (untrusted.level, "not trusted" in untrusted.detail) == (PROBLEM, True)
    assert (refused.level, "does not take this region's certificate" in refused.detail) == (PROBLEM, True)


async def test_files_that_cannot_be_used_are_told(issuer: RegionIssuer, tmp_path: Path) -> None:
    files = issuer.files("west")
    absent = PeerFiles(certificate=str(tmp_path / "absent"), key=files.key, authority=files.authority)
    (found,) = await _found(absent, "east=127.0.0.1:7443")
    assert (found.level, "cannot be used" in found.detail) == (PROBLEM, True)
