"""HTTP Message Signatures (RFC 9421) of the calls of agents, and digests of their bodies (RFC 9530)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

#: The name of the signature among others that a proxy may add.
LABEL: Final = "aragora"
_PEM: Final = "-----BEGIN "


@dataclass(frozen=True, slots=True)
class SigningKey:
    """``algorithm`` by its name in the registry of RFC 9421."""

    algorithm: str
    sign: Callable[[bytes], bytes] = field(repr=False)


def signing_key(secret: str) -> SigningKey:
    """The key in a secret: of an Ed25519 or P-256 key in PEM, else what both sides share (HMAC).

    Raises: ``ValueError`` if it is PEM of something else, or encrypted."""
    if not secret.lstrip().startswith(_PEM):
        shared = secret.encode()
        return SigningKey("hmac-sha256", lambda base: hmac.digest(shared, base, "sha256"))
    try:
        key = load_pem_private_key(secret.encode(), None)
    except TypeError as error:  # it is encrypted
        raise ValueError(str(error)) from None
    if isinstance(key, Ed25519PrivateKey):
        return SigningKey("ed25519", key.sign)
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return SigningKey("ecdsa-p256-sha256", lambda base: _fixed(key.sign(base, ECDSA(SHA256()))))
    raise ValueError("a key of another kind")


def _fixed(der: bytes) -> bytes:
    """An ECDSA signature as RFC 9421 has it: both numbers in 32 bytes each."""
    return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))


def content_digest(content: bytes) -> str:
    """The value of Content-Digest."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def parameters(components: Sequence[str], *, created: int, key_id: str, algorithm: str | None = None) -> str:
    """What is covered, when it was signed (epoch seconds) and by which key: the value of ``@signature-params``. ``key_id`` has
    neither quotes nor backslashes."""
    covered = " ".join(f'"{name}"' for name in components)
    alg = f';alg="{algorithm}"' if algorithm is not None else ""
    return f'({covered});created={created};keyid="{key_id}"{alg}'


def signature_base(components: Sequence[tuple[str, str]], params: str) -> bytes:
    """What is signed: one line for each component, by its name and value, and one for the parameters."""
    lines = (*components, ("@signature-params", params))
    return "\n".join(f'"{name}": {value}' for name, value in lines).encode()


def signature_headers(
    key: SigningKey,
    key_id: str,
    created: int,
    *,
    method: str,
    authority: str,
    path: str,
    query: str,
    content: bytes | None,
    content_type: str | None,
) -> dict[str, str]:
    """The headers that sign a call. ``path`` and ``query`` as they are sent; ``authority`` in lower case, without the scheme's
    own port. A call without ``content`` has no Content-Digest."""
    components = [("@method", method), ("@authority", authority), ("@path", path or "/"), ("@query", f"?{query}")]
    digest: dict[str, str] = {}
    if content is not None:
        digest = {"content-digest": content_digest(content)}
        if content_type is not None:
            components.append(("content-type", content_type))
        components.append(("content-digest", digest["content-digest"]))
    params = parameters([name for name, _ in components], created=created, key_id=key_id, algorithm=key.algorithm)
    signature = base64.b64encode(key.sign(signature_base(components, params))).decode()
    return {**digest, "signature-input": f"{LABEL}={params}", "signature": f"{LABEL}=:{signature}:"}
