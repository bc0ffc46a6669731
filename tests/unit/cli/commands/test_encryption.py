"""The doctor warns of a store on another machine that is used without TLS, or without a look at its certificate."""

from __future__ import annotations

import pytest

from cluster.cli.checks.encryption import check_encryption
from cluster.cli.checks.findings import OK, WARNING
from cluster.settings import load_settings

DATABASE, REDIS = "ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL"


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        (DATABASE, "postgresql://u:sesame@db.internal/d", "may not be encrypted (sslmode=prefer)"),
        (DATABASE, "postgresql://u:sesame@10.0.0.1:5432/d?sslmode=disable", "may not be encrypted (sslmode=disable)"),
        (DATABASE, "postgresql://u:sesame@[fd00::1]:5432/d?sslmode=require", "certificate is not checked"),
        (DATABASE, "postgresql://u:sesame@127.0.0.1:1,db2:2/d", "may not be encrypted"),
        (DATABASE, "postgresql://u:sesame@/d?host=db.internal", "may not be encrypted"),
        (REDIS, "redis://:sesame@redis.internal:6379/0", "is not encrypted"),
        (REDIS, "rediss://:sesame@redis.internal:6379/0?ssl_cert_reqs=none", "(ssl_cert_reqs=none)"),
    ],
)
async def test_a_remote_store_that_others_can_read_is_a_warning(name: str, url: str, words: str) -> None:
    (found,) = await check_encryption(load_settings({name: url}))
    assert found.level == WARNING
    assert words in found.detail
    assert name in found.advice
    assert "sesame" not in found.detail + found.advice


@pytest.mark.parametrize(
    "urls",
    [
        {},
        {DATABASE: "postgresql://u:p@db/d?sslmode=verify-full", REDIS: "rediss://:p@redis:6380/0"},
        {DATABASE: "postgresql://u:p@db/d?sslmode=verify-ca"},
        {DATABASE: "postgresql://u:p@127.0.0.1/d", REDIS: "redis://localhost:6379/0"},
        {DATABASE: "postgresql://u:p@[::1]:5432/d", REDIS: "unix:///run/redis.sock"},
        {DATABASE: "postgresql:///d?host=/run/postgresql"},
    ],
)
async def test_stores_that_are_local_or_use_tls_are_fine(urls: dict[str, str]) -> None:
    assert [finding.level for finding in await check_encryption(load_settings(urls))] == [OK]
