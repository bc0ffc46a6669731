"""Certificates of agents: which of them name an agent, and that nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import HTTPConnection

from cluster.domain.access.agent_certificates import DENIED, canonical_serial
from cluster.domain.base.errors import InvalidRequest, Unauthenticated
from cluster.ports.replication import LinkRefused
from regions.links.identity import region_of
from serve_app.auth.agent_identity import AgentCertificates
from tests.support.authorities import Issuer
from tests.support.bearer_tables import Tables
from tests.support.fronted import PROOF, agent_certificates, fronted
from tests.support.principals import bearer

ISSUER = Issuer()


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def connection(headers: dict[str, str]) -> HTTPConnection:
    sent = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "method": "GET", "path": "/", "headers": sent, "query_string": b""})


#: What is changed in a good certificate that libraries read differently.
UNREADABLE: dict[str, tuple[bytes, bytes]] = {
    "a version that there is not": (bytes.fromhex("a003020102"), bytes.fromhex("a003020109")),
    "a kind of name that nobody reads": (b"\x82\x01x", b"\xa3\x01x"),
}


async def refused(resolver: AgentCertificates, headers: dict[str, str]) -> str | None:
    with pytest.raises(Unauthenticated) as refusal:
        await resolver.resolve(connection(headers))
    return refusal.value.code


GOOD: dict[str, Any] = {
    "alone": ("a-1", [uri("spiffe://aragora/agent/a-1")]),
    "with a DNS name": ("a-1", [x509.DNSName("x"), uri("spiffe://aragora/agent/a-1")]),
    "every character of ids": ("A.b_c:d@e-1", [uri("spiffe://aragora/agent/A.b_c:d@e-1")]),
}


@pytest.mark.parametrize(("agent_id", "names"), GOOD.values(), ids=GOOD.keys())
async def test_the_one_uri_is_the_identity(agent_id: str, names: Any) -> None:
    own = fronted(ISSUER.issue(names, common_name="spiffe://aragora/agent/another"))
    found = await agent_certificates(Tables()).resolve(connection(own))
    assert (found.id, found.workspace) == (f"agent:{agent_id}", "w")


ODD: dict[str, Any] = {
    "two URIs": [uri("spiffe://aragora/agent/a-1"), uri("spiffe://aragora/agent/a-2")],
    "the same URI twice": [uri("spiffe://aragora/agent/a-1")] * 2,
    "no alternative name": [],
    "a DNS name only": [x509.DNSName("a-1")],
    "another trust domain": [uri("spiffe://aragora.example/agent/a-1")],
    "a longer trust domain": [uri("spiffe://aragora2/agent/a-1")],
    "a trust domain that goes on": [uri("spiffe://aragoraa-1")],
    "a path of an id alone": [uri("spiffe://aragora/a-1")],
    "another path": [uri("spiffe://aragora/region/r/agent/a-1")],
    "a deeper path": [uri("spiffe://aragora/agent/a-1/x")],
    "no id": [uri("spiffe://aragora/agent/")],
    "an id with an escape": [uri("spiffe://aragora/agent/a%2D1")],
    "a word of a route": [uri("spiffe://aragora/agent/claim")],
    "a query": [uri("spiffe://aragora/agent/a-1?x=1")],
    "another scheme": [uri("https://aragora/agent/a-1")],
    "capitals": [uri("SPIFFE://aragora/agent/a-1")],
}


@pytest.mark.parametrize("names", ODD.values(), ids=ODD.keys())
async def test_an_odd_certificate_is_nobodys(names: Any) -> None:
    tables = Tables()
    resolver, key = agent_certificates(tables), bearer(tables.add_key("k"))
    odd = fronted(ISSUER.issue(names, common_name="spiffe://aragora/agent/a-1"))
    assert await refused(resolver, odd) == "certificate_refused"
    # Nor does a key make it somebody's.
    assert await refused(resolver, {**odd, **key}) == "certificate_refused"


@pytest.mark.parametrize("der", [b"", b"nonsense", b"0" * 9000], ids=["empty", "nonsense", "long"])
async def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    assert await refused(agent_certificates(Tables()), fronted(der)) == "certificate_refused"


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_certificate_that_cannot_be_read_names_nobody(change: tuple[bytes, bytes]) -> None:
    names = [x509.DNSName("x"), uri("spiffe://aragora/agent/a-1"), uri("spiffe://aragora/region/east")]
    der = ISSUER.issue(names).certificate.public_bytes(Encoding.DER).replace(*change)
    assert change[1] in der
    assert await refused(agent_certificates(Tables()), fronted(der)) == "certificate_refused"
    with pytest.raises(LinkRefused, match="no region's"):
        region_of(der, "aragora")


@pytest.mark.parametrize("proof", ["", "a5" * 31, "b5" * 32, PROOF + "00"], ids=["none", "short", "another", "long"])
async def test_without_the_proof_a_certificate_counts_for_nothing(proof: str) -> None:
    forged = fronted(ISSUER.agent("a-1"), proof)
    assert await refused(agent_certificates(Tables()), forged) == "unauthenticated"


@pytest.mark.parametrize("proof", ["", "None", PROOF])
async def test_a_front_without_a_proof_is_never_believed(proof: str) -> None:
    forged = fronted(ISSUER.agent("a-1"), proof)
    assert await refused(agent_certificates(Tables(), proof=None), forged) == "unauthenticated"


@pytest.mark.parametrize("text", ["0a:FF:01", "aff01", " 0AFF01 "])
def test_a_serial_number_is_read_as_tools_print_it(text: str) -> None:
    assert canonical_serial(text) == "aff01"


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "a_b", "serial=0A"])
def test_what_is_no_serial_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="hexadecimal"):
        canonical_serial(text)


@pytest.mark.parametrize("has_key", [False, True], ids=["certificate alone", "with a key"])
async def test_an_open_call_ends_with_its_certificate(has_key: bool) -> None:
    tables = Tables()
    own = ISSUER.agent("a-1")
    call = connection({**fronted(own), **(bearer(tables.add_key("k")) if has_key else {})})
    await agent_certificates(tables).resolve(call)
    proof = call.scope["state"]["proof"]
    assert proof.holds()
    assert proof.ends_at() == own.certificate.not_valid_after_utc.timestamp()
    tables.revoked.add(f"{DENIED}{own.certificate.serial_number:x}")
    assert not proof.holds()


async def test_an_open_call_with_a_certificate_ends_with_its_key() -> None:
    tables = Tables()
    call = connection({**fronted(ISSUER.agent("a-1")), **bearer(tables.add_key("k", expires_at=2e9))})
    await agent_certificates(tables).resolve(call)
    proof = call.scope["state"]["proof"]
    assert proof.ends_at() == min(2e9, ISSUER.agent("a-1").certificate.not_valid_after_utc.timestamp())
    tables.keys.clear()
    assert not proof.holds()
