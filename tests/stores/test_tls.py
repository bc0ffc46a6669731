"""Stores that speak TLS alone and ask for a client's certificate: they are used as any others, and every connection that is not
safe is refused, in a sentence, before anything is started."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.embedded.given_stores import check_given_stores
from cluster.embedded.layout import EmbeddedError
from cluster.postgres.migrate import migrate
from cluster.postgres.stores import open_stores
from cluster.redis.pool import connect, ping
from cluster.redis.wake_ups import RedisDoorbell
from cluster.settings import load_settings
from tests.support.probes import eventually
from tests.support.stores import fresh_name
from tests.support.tls_stores import TlsStores, tls_stores

DATABASE, REDIS = "ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL"


@pytest.fixture(scope="module")
def tls() -> Iterator[TlsStores]:
    with tls_stores() as stores:
        urls = load_settings({DATABASE: stores.database_url(), REDIS: stores.redis_url()})

        def usable() -> bool:
            try:
                check_given_stores(urls)
            except EmbeddedError:
                return False
            return True

        asyncio.run(eventually(usable))
        yield stores


async def test_stores_with_certificates_of_both_sides_are_used(tls: TlsStores) -> None:
    name = fresh_name()
    await migrate(tls.database_url("localhost"), name)
    stores = await open_stores(tls.database_url("localhost"), name, "here", max_connections=2)
    try:
        assert await stores.pool.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()") is True
        assert await stores.region.epoch() == 1
    finally:
        await stores.close()
    client = connect(tls.redis_url("localhost"))
    bell = RedisDoorbell(client, name)
    try:
        await ping(client)
    finally:
        await bell.close()
        await client.aclose()


def _refusal(name: str, url: str) -> str:
    with pytest.raises(EmbeddedError) as refused:
        check_given_stores(load_settings({name: url}))
    return str(refused.value)


UNKNOWN = "TLS fails (self-signed certificate in certificate chain)|TLS fails (unable to get local issuer certificate)"
ANOTHER_HOST = "TLS fails (IP address mismatch, certificate is not valid for '127.0.0.2')"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"mode": "disable"}, "no encryption"),
        ({"sslcert": None, "sslkey": None}, "valid client certificate"),
        ({"sslrootcert": "OTHERS"}, UNKNOWN),
        ({"host": "127.0.0.2"}, ANOTHER_HOST),
        ({"sslrootcert": "/nowhere.crt"}, "names /nowhere.crt, which does not exist"),
    ],
)
def test_an_unsafe_database_url_is_refused(tls: TlsStores, changed: dict[str, Any], words: str) -> None:
    changed = {name: str(tls.others.file) if value == "OTHERS" else value for name, value in changed.items()}
    refusal = _refusal(DATABASE, tls.database_url(**changed))
    assert any(each in refusal for each in words.split("|")), refusal


PLAIN = dict.fromkeys(("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scheme": "redis", **PLAIN}, "does not speak Redis|use rediss://"),
        ({"ssl_certfile": None, "ssl_keyfile": None}, "TLS fails|ssl_certfile"),
        ({"ssl_ca_certs": "OTHERS"}, UNKNOWN),
        ({"host": "127.0.0.2"}, ANOTHER_HOST),
        ({"ssl_ca_certs": "/nowhere.crt"}, "names /nowhere.crt, which does not exist"),
    ],
)
def test_an_unsafe_redis_url_is_refused(tls: TlsStores, changed: dict[str, Any], words: str) -> None:
    changed = {name: str(tls.others.file) if value == "OTHERS" else value for name, value in changed.items()}
    refusal = _refusal(REDIS, tls.redis_url(**changed))
    assert any(each in refusal for each in words.split("|")), refusal
