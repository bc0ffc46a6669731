"""Signing keys: the forms that people hold them in."""

from __future__ import annotations

import pytest

from cluster.domain.base.errors import CallerError
from cluster.domain.base.signing import public_key_of, seed_of
from tests.support.receipts import SIGNER


def test_keys_are_read_in_every_common_form() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = SIGNER.public_key
    pem = Ed25519PublicKey.from_public_bytes(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_of(public.hex()) == public_key_of(pem.decode()) == public
    assert seed_of("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n") == SIGNER.seed
    for wrong in ("", "zz", "00" * 31, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"):
        with pytest.raises(CallerError):
            public_key_of(wrong)
        with pytest.raises(CallerError):
            seed_of(wrong)


def test_a_key_does_not_show_in_its_repr() -> None:
    assert "seed" not in repr(SIGNER)
