"""Secrets that can be guessed are told from those that cannot."""

from __future__ import annotations

import base64
import random

import pytest

from cluster.domain.access.secret_quality import password_weakness, weakness


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "your-256-bit-secret-your-256-bit-secret",
        "Change-Me-To-Something-Long-And-Random-8f1c0d7a",
        "my_super_secret_key_for_the_production_system_1",
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",
        "a" * 64,
        "abcabcabcabcabcabcabcabcabcabcabcabcabc",
        "0123456789abcdef" * 4,
        "00000000000000000000000000000001",
        "qwertyuiopqwertyuiopqwertyuiopqwertyuiop",
        "qwertyuiopasdfghjklzxcvbnm1234567890",
        "abcdefghijklmnopqrstuvwxyz012345",
        "zyxwvutsrqponmlkjihgfedcba987654",
        "acegikmoqsuwy02468bdfhjlnprtvxz1",
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "django-insecure-k2#v9!xq8w7e6r5t4y3u1i0o",
    ],
)
def test_what_can_be_guessed_is_refused_without_a_quote(secret: str) -> None:
    found = weakness(secret)
    assert found is not None
    assert not secret or secret not in found


@pytest.mark.parametrize("form", ["hex", "base64", "letters"])
def test_random_secrets_are_accepted(form: str) -> None:
    source = random.Random(1)
    for _ in range(2000):
        content = source.randbytes(32)
        letters = "".join(source.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(32))
        secret = {"hex": content.hex(), "base64": base64.b64encode(content).decode(), "letters": letters}[form]
        assert weakness(secret) is None, secret


@pytest.mark.parametrize(
    ("password", "user"),
    [
        ("pass", "user"),
        ("Postgres12!", "postgres"),
        ("mypassword2024", ""),
        ("ChangeMe-2026", "aragora"),
        ("aaaaaaaaaaaaaaaa", ""),
        ("schedulerscheduler1", "scheduler"),
        ("121212121212", ""),
    ],
)
def test_a_password_that_can_be_guessed_is_weak(password: str, user: str) -> None:
    found = password_weakness(password, user)
    assert found is not None
    assert password not in found


def test_random_passwords_are_not_weak() -> None:
    source = random.Random(2)
    for length in (16, 20, 32):
        for _ in range(500):
            password = "".join(source.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(length))
            assert password_weakness(password, "user") is None, password
