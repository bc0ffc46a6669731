"""Sealed secrets: AES-256-GCM under an envelope key, bound to the secret's name, so that nobody who can write to the table can
pass one secret off as another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cluster.domain.base.errors import Conflict, InternalError

KEY_BYTES = 32
NONCE_BYTES = 12
_FORM = b"\x01"
_ID_BYTES = 8
_HEAD = len(_FORM) + _ID_BYTES


class Unsealable(InternalError):
    """A secret cannot be opened: no key fits, or somebody changed it."""

    default_code = "unsealable"


class NoSealingKey(Conflict):
    """Nothing can be sealed or opened, since the deployment has no key for it."""

    default_code = "no_secrets_key"


def _id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"aragora sealing key\0" + key).digest()[:_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Sealer:
    """``keys``: the one that seals, and others that open what was sealed before a rotation."""

    keys: Sequence[bytes] = field(repr=False)

    def seal(self, name: str, secret: bytes, nonce: bytes) -> bytes:
        """A sealed secret. ``nonce`` must be random, and new for each."""
        key = self.keys[0]
        return _FORM + _id_of(key) + nonce + AESGCM(key).encrypt(nonce, secret, name.encode())

    def open(self, name: str, sealed: bytes) -> bytes:
        """The secret. Raises: `Unsealable` if none of the keys has sealed it under this name."""
        for key in self.keys:
            if sealed[:_HEAD] == _FORM + _id_of(key):
                nonce = sealed[_HEAD : _HEAD + NONCE_BYTES]
                try:
                    return AESGCM(key).decrypt(nonce, sealed[_HEAD + NONCE_BYTES :], name.encode())
                except (InvalidTag, ValueError):
                    raise Unsealable(f"The stored secret {name} was changed; restore it, or remove it.") from None
        raise Unsealable(
            f"ARAGORA_SECRETS_KEY has not sealed the stored secret {name}; set the key that has, as that or as "
            "ARAGORA_SECRETS_KEY_PREVIOUS."
        )

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key has sealed it."""
        return sealed[:_HEAD] == _FORM + _id_of(self.keys[0])
