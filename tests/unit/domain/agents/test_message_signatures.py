"""Signatures of calls, against the examples of RFC 9421 (appendix B.2) and RFC 9530."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from cluster.domain.agents.message_signatures import (
    content_digest,
    parameters,
    signature_base,
    signature_headers,
    signing_key,
)

ED25519 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF
-----END PRIVATE KEY-----
"""
#: What the request of the RFC's examples has.
REQUEST = {
    "date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "@method": "POST",
    "@path": "/foo",
    "@authority": "example.com",
    "content-type": "application/json",
    "content-length": "18",
}
B_2_6 = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="


def _base(names: tuple[str, ...], key_id: str) -> bytes:
    params = parameters(names, created=1618884473, key_id=key_id)
    return signature_base([(name, REQUEST[name]) for name in names], params)


def test_the_example_with_an_ed25519_key() -> None:
    names = ("date", "@method", "@path", "@authority", "content-type", "content-length")
    key = signing_key(ED25519)
    assert key.algorithm == "ed25519"
    assert base64.b64encode(key.sign(_base(names, "test-key-ed25519"))).decode() == B_2_6


def test_the_base_of_the_example_with_a_shared_secret() -> None:
    assert _base(("date", "@authority", "content-type"), "test-shared-secret").decode() == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    )


def test_the_digest_of_a_body() -> None:
    assert content_digest(b'{"hello": "world"}') == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_a_call_is_covered_whole() -> None:
    headers = signature_headers(
        signing_key("shared secret"),
        "k1",
        1618884473,
        method="POST",
        authority="a.example:8443",
        path="/v1",
        query="x=1",
        content=b"{}",
        content_type="application/json",
    )
    covered = '("@method" "@authority" "@path" "@query" "content-type" "content-digest")'
    assert headers["signature-input"] == f'aragora={covered};created=1618884473;keyid="k1";alg="hmac-sha256"'
    assert headers["content-digest"] == content_digest(b"{}")


def test_a_p256_signature_is_two_numbers_of_fixed_size() -> None:
    private = generate_private_key(SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = signing_key(pem)
    signature = key.sign(b"base")
    assert (key.algorithm, len(signature)) == ("ecdsa-p256-sha256", 64)
    halves = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    private.public_key().verify(encode_dss_signature(*halves), b"base", ECDSA(SHA256()))


def test_a_key_that_cannot_sign_is_refused() -> None:
    private = generate_private_key(SECP256R1())
    encrypted = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    rsa = generate_rsa(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for secret in (encrypted, rsa, "-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----"):
        with pytest.raises(ValueError, match=r".+"):
            signing_key(secret)
