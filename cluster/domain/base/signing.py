"""Ed25519 keys that sign receipts and audit checkpoints. A key's id is the first half of the SHA-256 of its 32 public bytes, in
hex."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cluster.domain.base.errors import InvalidRequest

SEED_BYTES = 32
ALGORITHM = "Ed25519"


def key_id(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key. Raises: ``InvalidRequest`` if the seed has the wrong length."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise InvalidRequest(f"A signing key must be {SEED_BYTES} bytes.", "invalid_signing_key")

    @property
    def public_key(self) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        return key_id(self.public_key)

    def sign(self, content: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(content)


def is_signature(public_key: bytes, signature: bytes, content: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def seed_of(text: str) -> bytes:
    """Reads a seed as settings state it: 32 bytes in base64. Raises: ``InvalidRequest`` if it is anything else."""
    try:
        seed = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        seed = b""
    if len(seed) != SEED_BYTES:
        raise InvalidRequest(
            f"A signing key must be {SEED_BYTES} bytes in base64 (make one with `openssl rand -base64 32`).",
            "invalid_signing_key",
        )
    return seed


def public_key_of(text: str) -> bytes:
    """Reads a public key: 64 hex digits, or PEM. Raises: ``InvalidRequest`` if it is neither."""
    words = text.strip()
    try:
        if words.startswith("-----BEGIN"):
            found = load_pem_public_key(words.encode())
            if isinstance(found, Ed25519PublicKey):
                return found.public_bytes_raw()
        elif len(key := bytes.fromhex(words)) == SEED_BYTES:
            return key
    except ValueError:
        pass
    raise InvalidRequest("A public key must be 64 hex digits, or an Ed25519 key in PEM.", "invalid_public_key")
