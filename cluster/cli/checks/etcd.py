"""The etcd in which several regions elect their primary: whether its members answer, and whether their release is a sound one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import httpx
from cryptography import x509
from cryptography.x509.oid import NameOID

from cluster.cli.checks.findings import WARNING, Finding, fine, problem
from cluster.http.etcd_tls import etcd_context
from cluster.settings import Settings

#: For one question to a member.
MEMBER_S: Final = 2.0
#: Before these, by (major, minor): a leader of etcd that slept and goes on revokes leases that were renewed all along at the
#: others (etcd issue 15247), so that a primary loses the zone for no reason. 3.5.0 to 3.5.2 lose consistency as well.
_FIRST_SOUND: Final = {(3, 4): 31, (3, 5): 13}
_OLDEST: Final = (3, 4)


async def check_etcd(settings: Settings) -> Sequence[Finding]:
    """Nothing is found where the region is alone.

    Raises: `InvalidRequest` if a file of the settings cannot be used."""
    if not settings.etcd_endpoints:
        return []
    tls = etcd_context(settings.etcd_ca_file, settings.etcd_cert_file, settings.etcd_key_file)
    endpoints = [endpoint.rstrip("/") for endpoint in settings.etcd_endpoints]
    async with httpx.AsyncClient(verify=tls, timeout=MEMBER_S, trust_env=False) as http:
        found = await asyncio.gather(*(_member(http, endpoint) for endpoint in endpoints))
        lists = await asyncio.gather(*(_names(http, endpoint) for endpoint in endpoints))
    found = [*found, *_named_client(settings)]
    names = set().union(*lists)
    if not names or settings.region in names:
        return found
    detail = f"no member has the name {settings.region}, so etcd's leader is not moved out of this region while it is primary"
    return [*found, problem("etcd", detail, f"Start this region's member with --name {settings.region}.", WARNING)]


def _named_client(settings: Settings) -> Iterator[Finding]:
    """With its own authentication, etcd's JSON gateway refuses each call of a client whose certificate has a common name."""
    if settings.etcd_user is None or settings.etcd_cert_file is None:
        return
    certificate = x509.load_pem_x509_certificate(settings.etcd_cert_file.read_bytes())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if names:
        detail = f"the certificate in ARAGORA_ETCD_CERT_FILE has a common name ({names[0].rfc4514_string()}), so etcd refuses it"
        yield problem("etcd", detail, "Issue it without a common name, such as with a URI.")


async def _names(http: httpx.AsyncClient, endpoint: str) -> set[str]:
    """The names of all members, as one tells them; none if it does not."""
    try:
        answer = await http.post(f"{endpoint}/v3/cluster/member/list", json={})
        return {str(member.get("name", "")) for member in answer.raise_for_status().json()["members"]}
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError):
        return set()


async def _member(http: httpx.AsyncClient, endpoint: str) -> Finding:
    try:
        answer = await http.get(f"{endpoint}/version")
        release = str(answer.raise_for_status().json()["etcdserver"])
    except (httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        return problem(
            "etcd",
            f"{endpoint} does not answer ({type(error).__name__})",
            "Start the member; without most of them no primary can be elected, and the present one stops.",
        )
    if is_sound(release):
        return fine("etcd", f"{endpoint} has release {release}")
    advice = "Upgrade it to 3.4.31, 3.5.13 or a later release."
    return problem("etcd", f"{endpoint} has release {release}, which revokes leases that are renewed", advice, WARNING)


def is_sound(release: str) -> bool:
    """Whether a release, such as 3.5.21, has none of the defects that cost regions their primary."""
    try:
        major, minor, patch = (int(part) for part in release.partition("-")[0].split("."))
    except ValueError:
        return False
    return (major, minor) >= _OLDEST and patch >= _FIRST_SOUND.get((major, minor), 0)
