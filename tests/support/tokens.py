"""Tokens of every kind, also such as nobody should make; and the documents in which issuers publish their keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

#: 32 bytes of randomness, in hexadecimal.
SECRET = b"8f1c0d7a5b3e49f6a2d4c6e8b0917f35d1e3a5c7092b4d6f8e0a1c3b5d7f9e11"
OTHER_SECRET = b"07d94c2be1f84a6f9b3c5d7e8a1f2b4c6d8e0a2b4c6f8091a3b5c7d9e1f30527"
_SIGNERS = get_default_algorithms()


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def signed_text(header: str, payload: str, key: Any = SECRET, algorithm: str = "HS256") -> str:
    """A token of a header and a payload as they are, well formed or not. ``algorithm`` signs, whatever the header says."""
    head = f"{encoded(header.encode())}.{encoded(payload.encode())}"
    return f"{head}.{encoded(_SIGNERS[algorithm].sign(head.encode(), key))}"


def signed(
    claims: Mapping[str, Any],
    key: Any = SECRET,
    algorithm: str = "HS256",
    header: Mapping[str, Any] | None = None,
) -> str:
    """A token with these claims. ``header`` adds to ``alg`` and ``typ``, or replaces them."""
    whole = {"alg": algorithm, "typ": "JWT", **(header or {})}
    return signed_text(json.dumps(whole), json.dumps(claims), key, algorithm)


def private_key(algorithm: str, name: str = "") -> Any:
    """A private key, made once per name."""
    return _made(algorithm, name)


@cache
def _made(algorithm: str, name: str) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, kid: str | None, name: str = "", **members: Any) -> dict[str, Any]:
    """The public half of a private key as a JWK."""
    public = json.loads(_SIGNERS[algorithm].to_jwk(private_key(algorithm, name).public_key()))
    public.pop("key_ops", None)
    return {**public, **({} if kid is None else {"kid": kid}), **members}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()
