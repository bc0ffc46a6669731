"""Sealed secrets: only the key that sealed a secret opens it, under its own name, and only unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.sealing import Sealer, Unsealable

OLD, NEW, NONCE = b"o" * 32, b"n" * 32, b"0" * 12


@given(st.text(max_size=20), st.binary(max_size=100))
def test_what_is_sealed_is_hidden_and_comes_back(name: str, secret: bytes) -> None:
    sealed = Sealer([OLD]).seal(name, secret, NONCE)
    assert len(secret) < 4 or secret not in sealed
    assert Sealer([OLD]).open(name, sealed) == secret


def test_the_key_before_opens_and_the_current_one_seals() -> None:
    both = Sealer([NEW, OLD])
    sealed = Sealer([OLD]).seal("jwt", b"secret", NONCE)
    assert both.open("jwt", sealed) == b"secret"
    assert not both.is_current(sealed)
    assert both.is_current(both.seal("jwt", b"secret", NONCE))


@pytest.mark.parametrize("keys", [[NEW], [NEW, b"x" * 32]])
def test_another_key_opens_nothing(keys: list[bytes]) -> None:
    with pytest.raises(Unsealable, match="ARAGORA_SECRETS_KEY"):
        Sealer(keys).open("jwt", Sealer([OLD]).seal("jwt", b"secret", NONCE))


def test_a_secret_does_not_pass_under_another_name() -> None:
    with pytest.raises(Unsealable, match="changed"):
        Sealer([OLD]).open("webhook", Sealer([OLD]).seal("jwt", b"secret", NONCE))


def test_every_changed_or_missing_byte_is_noticed() -> None:
    sealed = Sealer([OLD]).seal("jwt", b"secret", NONCE)
    for index in range(len(sealed)):
        for changed in (sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :], sealed[:index]):
            with pytest.raises(Unsealable):
                Sealer([OLD]).open("jwt", changed)


def test_keys_are_not_shown() -> None:
    assert "ooo" not in repr(Sealer([OLD]))
