"""Weak passwords of stores are named by their variable, and are not quoted."""

from __future__ import annotations

import pytest

from cluster.process.store_passwords import weak_store_passwords
from cluster.settings import load_settings

DATABASE, REDIS = "ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL"
GOOD = "vK3x9mQ2tR7wLz5b"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        (DATABASE, "postgresql://user:sesame@db/d"),
        (DATABASE, "postgresql://user:sesame@127.0.0.1:1,db2:2/d"),
        (DATABASE, "postgresql:///d?host=/run/postgresql&user=user&password=sesame"),
        (DATABASE, "postgresql://user:%73esame@db/d"),
        (REDIS, "redis://:sesame@localhost:6379/0"),
        (REDIS, "rediss://user:sesame@[fd00::1]:6379"),
        (REDIS, "redis://redis:6379"),
    ],
)
def test_a_weak_password_is_named_by_its_variable(name: str, url: str) -> None:
    ((detail, advice),) = weak_store_passwords(load_settings({name: url}))
    assert name in detail
    assert "sesame" not in detail + advice


@pytest.mark.parametrize(
    "urls",
    [
        {},
        {DATABASE: f"postgresql://user:{GOOD}@db/d", REDIS: f"redis://:{GOOD}@redis/0"},
        {DATABASE: "postgresql://user@db/d?sslcert=c&sslkey=k", REDIS: "redis://localhost:6379/0"},
        {DATABASE: "postgresql:///d?host=/run/postgresql", REDIS: "unix:///run/redis.sock"},
    ],
)
def test_good_passwords_and_local_stores_are_not_named(urls: dict[str, str]) -> None:
    assert list(weak_store_passwords(load_settings(urls))) == []
