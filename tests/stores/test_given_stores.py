"""Stores whose URLs are set are asked before anything is started: each mistake is a sentence that names the variable."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Iterator

import asyncpg
import pytest

from cluster.embedded import given_stores
from cluster.embedded.given_stores import check_given_stores
from cluster.embedded.layout import EmbeddedError
from cluster.settings import load_settings
from tests.support.stores import StoreUrls, fresh_name

DATABASE, REDIS = "ARAGORA_DATABASE_URL", "ARAGORA_REDIS_URL"


#: Longer than a busy machine takes over an answer, and what is enough where none comes.
PATIENT_S, SHORT_S = 60.0, 0.2


@pytest.fixture(autouse=True)
def _the_thread_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_stores, "RESOLVE_S", PATIENT_S)


def _refusal(name: str, url: str, answer_s: float = PATIENT_S, **more: str) -> str:
    with pytest.raises(EmbeddedError) as refused:
        check_given_stores(load_settings({name: url} | more), answer_s)
    said = str(refused.value)
    assert said.startswith(f"{name}: the server at ")
    assert said.endswith(".")
    assert "sesame" not in said
    return said


def test_stores_that_answer_are_taken(store_urls: StoreUrls) -> None:
    check_given_stores(load_settings({DATABASE: store_urls.database, REDIS: store_urls.redis}), PATIENT_S)
    check_given_stores(load_settings({}))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("test-postgres", "sesame", "refuses the user or the password"),
        ("aragora:", "bob:", "refuses the user or the password"),
        ("/postgres?", "/nope?", "has no database nope; create it, or correct the URL"),
        ("port=5432", "port=5432&colour=red", 'refuses the connection: unrecognized configuration parameter "colour"'),
        ("port=5432", "port=5432&sslmode=perhaps", "cannot be asked with this URL"),
        ("port=5432", "port=1", "cannot be reached: No such file or directory"),
    ],
)
def test_a_wrong_database_url_is_told_apart(store_urls: StoreUrls, old: str, new: str, said: str) -> None:
    assert said in _refusal(DATABASE, store_urls.database.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("test-redis", "sesame", "refuses the user or the password"),
        (":test-redis@", "", "refuses the user or the password"),
        (":test-redis", "bob:sesame", "refuses the user or the password"),
        ("db=0", "db=9999", "refuses the connection: DB index is out of range"),
        ("db=0", "db=first", "cannot be asked with this URL"),
        ("db=0", "colour=red", "has an unknown option"),
        ("redis.sock", "nothing.sock", "cannot be reached: No such file or directory"),
    ],
)
def test_a_wrong_redis_url_is_told_apart(store_urls: StoreUrls, old: str, new: str, said: str) -> None:
    assert said in _refusal(REDIS, store_urls.redis.replace(old, new))


async def test_a_user_who_may_not_create_the_schema_is_told_so(store_urls: StoreUrls) -> None:
    name = fresh_name()
    admin = await asyncpg.connect(store_urls.database)
    try:
        await admin.execute(f"create role {name} login password 'sesame'")
        url = re.sub("//[^@]*@", f"//{name}:sesame@", store_urls.database)
        said = _refusal(DATABASE, url, ARAGORA_DATABASE_SCHEMA=name)
        assert f"lets this user create no schema {name}; grant create on the database" in said
        await admin.execute(f"create schema {name} authorization {name}")
        check_given_stores(load_settings({DATABASE: url, "ARAGORA_DATABASE_SCHEMA": name}), PATIENT_S)
    finally:
        await admin.close()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def web_port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("name", "scheme"), [(DATABASE, "postgresql"), (REDIS, "redis")])
def test_where_no_such_server_is_the_reason_is_said(
    name: str, scheme: str, closed_port: int, silent_port: int, web_port: int
) -> None:
    def said(port: int, host: str = "127.0.0.1", answer_s: float = PATIENT_S) -> str:
        return _refusal(name, f"{scheme}://user:sesame@{host}:{port}/0", answer_s)

    assert f"127.0.0.1:{closed_port} cannot be reached: Connection refused; start it, or correct the URL" in said(
        closed_port
    )
    assert "did not answer within 0.2 s" in said(silent_port, answer_s=SHORT_S)
    if name == REDIS:
        assert "does not speak Redis" in said(web_port)
    else:  # PostgreSQL's client and this server wait for each other
        assert "did not answer within 0.2 s" in said(web_port, answer_s=SHORT_S)
    assert "no-such-host.invalid:1 cannot be reached: " in said(1, "no-such-host.invalid")


def test_a_server_without_tls_is_told_apart(web_port: int) -> None:
    assert "cannot be reached: TLS fails (" in _refusal(REDIS, f"rediss://127.0.0.1:{web_port}/0")


def test_both_stores_are_named_at_once(closed_port: int) -> None:
    url = f"127.0.0.1:{closed_port}/0"
    settings = load_settings({DATABASE: f"postgresql://{url}", REDIS: f"redis://{url}"})
    with pytest.raises(EmbeddedError) as refused:
        check_given_stores(settings, PATIENT_S)
    assert DATABASE in str(refused.value)
    assert REDIS in str(refused.value)
