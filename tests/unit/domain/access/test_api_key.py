"""API keys: their form, and which secret counts when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.access.api_key import MARK, ApiKey, digest_of, is_valid, parse_token

SECRET, OLDER, OLDEST = "a" * 32, "b" * 32, "c" * 32
KEY = ApiKey(
    id="k" * 12,
    name="ci",
    workspaces=("w",),
    grants=("submitter",),
    digests=(digest_of(SECRET),),
    created_at=0.0,
    created_by="user:ann",
)
NOW = 1000.0


def test_a_key_is_named_in_log_rows_by_its_id() -> None:
    assert KEY.principal == f"key:{KEY.id}"


@given(st.from_regex(r"ara_[0-9a-z]{10,40}_[0-9a-z]{32}", fullmatch=True))
def test_a_token_has_an_id_and_a_secret(token: str) -> None:
    parsed = parse_token(token)
    assert parsed is not None
    assert token == f"{MARK}{parsed[0]}_{parsed[1]}"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "ara_",
        f"ara_{'k' * 9}_{SECRET}",
        f"ara_{'k' * 12}_{SECRET[1:]}",
        f"ara_{'k' * 12}_{SECRET}\n",
        f" ara_{'k' * 12}_{SECRET}",
        f"ara_{'K' * 12}_{SECRET}",
        f"ara_{'k' * 12}{SECRET}",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
    ],
)
def test_what_has_another_form_is_no_key(token: str) -> None:
    assert parse_token(token) is None


@given(st.text(max_size=40))
def test_only_the_secret_itself_is_valid(secret: str) -> None:
    assert is_valid(KEY, secret, NOW) is (secret == SECRET)


def test_a_key_ends_at_its_time_and_at_its_revocation() -> None:
    ending = replace(KEY, expires_at=NOW)
    assert is_valid(ending, SECRET, NOW - 0.001)
    assert not is_valid(ending, SECRET, NOW)
    assert not is_valid(replace(KEY, revoked_at=NOW - 10), SECRET, NOW)


def test_while_a_rotation_overlaps_both_secrets_count() -> None:
    rotated = replace(KEY, digests=(digest_of(SECRET), digest_of(OLDER)), overlap_until=NOW)
    for at, older_counts in ((NOW - 0.001, True), (NOW, False), (NOW + 1, False)):
        assert is_valid(rotated, SECRET, at)
        assert is_valid(rotated, OLDER, at) is older_counts
    assert not is_valid(rotated, OLDEST, NOW - 1)
    # Without an overlap the newest alone counts, however many are stored.
    assert not is_valid(replace(rotated, overlap_until=None), OLDER, NOW - 1)
    # A revocation and an end count for both.
    assert not is_valid(replace(rotated, revoked_at=NOW - 1), OLDER, NOW - 1)
    assert not is_valid(replace(rotated, expires_at=NOW - 1), OLDER, NOW - 1)


def test_a_key_without_a_secret_opens_nothing() -> None:
    assert not is_valid(replace(KEY, digests=()), SECRET, NOW)
    assert not is_valid(replace(KEY, digests=(), overlap_until=NOW + 1), SECRET, NOW)


def test_neither_a_token_nor_a_secret_is_in_what_is_stored() -> None:
    assert SECRET not in repr(KEY)
