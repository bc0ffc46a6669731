"""Keys that tokens (JWT) are signed with. Each key is bound to one algorithm: what a token's header says chooses among keys, and
never how a key is used (RFC 8725, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError

from cluster.domain.base.errors import InvalidRequest
from cluster.domain.base.json_values import parse_json

#: More keys than any issuer has; what is behind them is not read.
MAX_KEYS = 100
MAX_KID_CHARS = 256
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_SIGNERS = get_default_algorithms()


class Algorithm(StrEnum):
    """The algorithms that are accepted. ``none`` is none of them."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


#: Names of algorithms in headers and keys. RFC 9864 has a new name for EdDSA, which PyJWT 2.15 does not know.
ALGORITHMS: Mapping[str, Algorithm] = {**{each.value: each for each in Algorithm}, "Ed25519": Algorithm.EDDSA}
#: (kty, crv) of a JWK → its algorithm. Symmetric keys (``oct``) are left out: a key that is published is no secret.
_BY_TYPE: Mapping[tuple[str, str | None], Algorithm] = {
    ("RSA", None): Algorithm.RS256,
    ("EC", "P-256"): Algorithm.ES256,
    ("OKP", "Ed25519"): Algorithm.EDDSA,
}


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that verifies signatures of its own algorithm."""

    algorithm: Algorithm
    material: Any = field(repr=False)

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's."""
        return bool(_SIGNERS[self.algorithm].verify(content, self.material, signature))


def secret_key(secret: bytes) -> TokenKey:
    """The key of a shared secret."""
    return TokenKey(Algorithm.HS256, secret)


def sign(content: bytes, secret: bytes) -> bytes:
    """The HS256 signature of a secret."""
    return bytes(_SIGNERS[Algorithm.HS256].sign(content, secret))


@dataclass(frozen=True, slots=True)
class KeySet:
    """An issuer's keys by their ``kid``, and those that have none."""

    named: Mapping[str, TokenKey]
    unnamed: tuple[TokenKey, ...] = ()

    def find(self, algorithm: Algorithm, kid: str | None) -> TokenKey | None:
        """The key of a token: that of its ``kid``, which is nothing but a name; without one, the only key of the algorithm."""
        if kid is not None:
            found = self.named.get(kid)
            return found if found is not None and found.algorithm is algorithm else None
        fitting = [key for key in (*self.named.values(), *self.unnamed) if key.algorithm is algorithm]
        return fitting[0] if len(fitting) == 1 else None


def read_keys(content: bytes) -> KeySet:
    """The keys of a JWKS document. Keys that no accepted algorithm can use are left out, as RFC 7517 asks.

    Raises: `InvalidRequest` if the document is no key set."""
    document = parse_json(content, "The key set")
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise InvalidRequest("The key set has no list of keys.", "invalid_key_set")
    named: dict[str, TokenKey] = {}
    unnamed: list[TokenKey] = []
    for entry in keys[:MAX_KEYS]:
        key = _usable(entry) if isinstance(entry, dict) else None
        kid = entry.get("kid") if isinstance(entry, dict) else None
        if key is None:
            continue
        if kid is None:
            unnamed.append(key)
        elif isinstance(kid, str) and len(kid) <= MAX_KID_CHARS:
            named.setdefault(kid, key)
    return KeySet(named, tuple(unnamed))


def _usable(entry: Mapping[str, Any]) -> TokenKey | None:
    kind, curve, use = entry.get("kty"), entry.get("crv"), entry.get("use", "sig")
    if not isinstance(kind, str) or not isinstance(curve, str | None) or "d" in entry or use != "sig":
        return None
    algorithm = _BY_TYPE.get((kind, curve))
    named = entry.get("alg", algorithm)
    if algorithm is None or not isinstance(named, str) or ALGORITHMS.get(named) is not algorithm:
        return None
    try:
        material = _SIGNERS[algorithm].from_jwk(dict(entry))
    except (
        PyJWTError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        OverflowError,
    ):  # each for some member that is wrong
        return None
    if isinstance(material, RSAPublicKey) and not MIN_RSA_BITS <= material.key_size <= MAX_RSA_BITS:
        return None
    return TokenKey(algorithm, material)
