"""Failed logins through the whole application: who is told to wait, who is not, and what the log has of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import httpx
import pytest

from cluster.process import front
from serve_app.auth import shared_limits
from serve_app.auth.login_throttle import MAX_ROWS, RATE, WINDOW_S, LoginThrottle
from tests.support.api import Api, api_settings
from tests.support.authenticated import ADMIN, AheadClock, Authenticated
from tests.support.fronted import PROOF
from tests.support.principals import bearer
from tests.support.stores import StoreUrls
from tests.support.tokens import SECRET


@pytest.fixture
async def system(store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Authenticated]:
    """It does not take a busy machine for a Redis that is away."""
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    clock = AheadClock()
    settings = api_settings(
        store_urls, schema, auth_enabled=True, admin_users=(ADMIN,), jwt_secret=SECRET.decode(), embedded=False
    )
    async with Api(settings, clock, front_proof=PROOF).running(()) as api:
        yield Authenticated(api, clock)


def throttle_of(system: Authenticated) -> LoginThrottle:
    found: LoginThrottle = system.api.app.state.throttle
    return found


async def tried(system: Authenticated, token: str, address: str) -> httpx.Response:
    headers = bearer(token) | {front.PROOF: PROOF, front.ADDRESS: address}
    return await system.api.call("GET", "/agents", headers=headers)


async def statuses(system: Authenticated, token: str, address: str, times: int) -> list[int]:
    return [(await tried(system, token, address)).status_code for _ in range(times)]


def wrong(key: str) -> str:
    """The key with another secret."""
    return key[:-1] + ("0" if key[-1] != "0" else "1")


@pytest.mark.parametrize(
    "token", ["ara_nonsense", "a.b.c", "ara_" + "z" * 26 + "_" + "f" * 32], ids=lambda text: text[:8]
)
async def test_who_fails_too_often_has_to_wait(system: Authenticated, token: str) -> None:
    assert await statuses(system, token, "192.0.2.1", RATE.burst) == [401] * RATE.burst
    refused = await tried(system, token, "192.0.2.1")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_failures")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await tried(system, token, "192.0.2.2")).status_code == 401


async def test_a_good_key_counts_from_elsewhere_and_where_it_has_counted(system: Authenticated) -> None:
    key, late = await system.key("viewer"), await system.key("viewer")
    assert await statuses(system, key, "192.0.2.1", 1) == [200]
    await statuses(system, "ara_nonsense", "192.0.2.1", RATE.burst)
    assert await statuses(system, "ara_nonsense", "192.0.2.1", 1) == [429]
    # It counted before; of the other nothing is known here. A guess that fits is no exception.
    assert await statuses(system, key, "192.0.2.1", 3) == [200] * 3
    assert await statuses(system, late, "192.0.2.1", 1) == [429]
    assert await statuses(system, late, "192.0.2.2", 1) == [200]
    assert await statuses(system, late, "192.0.2.1", 1) == [200]


async def test_wrong_secrets_of_a_key_never_shut_out_its_owner(system: Authenticated) -> None:
    key = await system.key("viewer")
    found = [(await tried(system, wrong(key), f"192.0.2.{number}")).status_code for number in range(RATE.burst + 5)]
    assert found == [401] * RATE.burst + [429] * 5
    assert await statuses(system, key, "198.51.100.1", 2) == [200, 200]


async def test_a_key_that_has_ended_counts_no_more_although_it_was_known(system: Authenticated) -> None:
    key = await system.key("viewer")
    assert await statuses(system, key, "192.0.2.1", 1) == [200]
    await system.call("DELETE", f"/keys/{key.split('_')[1]}")
    assert await statuses(system, key, "192.0.2.1", RATE.burst + 1) == [401] * RATE.burst + [429]


async def test_failures_are_counted_over_all_replicas(system: Authenticated) -> None:
    key = await system.key("viewer")
    async with Api(system.api.settings, system.clock, front_proof=PROOF).running(()) as api:
        second = Authenticated(api, system.clock)
        half = RATE.burst // 2
        for replica in (system, second):
            assert await statuses(replica, "ara_nonsense", "192.0.2.1", half) == [401] * half
            for number in range(half):
                assert await statuses(replica, wrong(key), f"10.0.0.{number}", 1) == [401]
        for replica in (system, second):
            assert await statuses(replica, "ara_nonsense", "192.0.2.1", 1) == [429]
            assert await statuses(replica, wrong(key), "10.0.1.1", 1) == [429]
            assert await statuses(replica, key, "192.0.2.2", 1) == [200]


async def test_each_replica_counts_its_share_while_redis_is_away(
    system: Authenticated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system.api.app.state.throttle._limits, "_away_until", math.inf)
    monkeypatch.setattr(system.api.app.state.throttle._limits, "_sharers", 2)
    half = RATE.burst // 2
    assert await statuses(system, "ara_nonsense", "192.0.2.1", half + 1) == [401] * half + [429]


async def test_a_household_with_ipv6_is_one_client(system: Authenticated) -> None:
    for number in range(RATE.burst):
        await tried(system, "ara_nonsense", f"2001:db8::{number:x}")
    assert await statuses(system, "ara_nonsense", "2001:db8::ffff", 1) == [429]
    assert await statuses(system, "ara_nonsense", "2001:db8:0:1::1", 1) == [401]


async def test_calls_without_a_token_are_no_logins(system: Authenticated) -> None:
    at = {front.PROOF: PROOF, front.ADDRESS: "192.0.2.1"}
    for _ in range(RATE.burst + 5):
        assert (await system.api.call("GET", "/agents", headers=at)).status_code == 401
    assert (await system.api.client.get("/health/live", headers=at)).status_code == 200
    assert await statuses(system, "ara_nonsense", "192.0.2.1", 1) == [401]


async def test_the_log_has_a_row_of_each_client_and_window(system: Authenticated) -> None:
    key = await system.key("viewer")
    await statuses(system, wrong(key), "192.0.2.1", 3)
    await statuses(system, "ara_nonsense-my-secret", "192.0.2.2", RATE.burst + 2)
    await throttle_of(system).write()
    await throttle_of(system).write()
    rows = [row for row in await system.api.rows() if row.kind == "auth.failed"]
    assert [(row.entity, dict(row.data), dict(row.private)) for row in rows] == [
        (
            key.split("_")[1],
            {"failures": 3, "throttled": 0, "key_id": key.split("_")[1]},
            {"address": "192.0.2.1"},
        ),
        ("login", {"failures": RATE.burst + 2, "throttled": 2, "key_id": None}, {"address": "192.0.2.2"}),
    ]
    assert {row.workspace for row in rows} == {"default"}
    assert WINDOW_S >= 1


async def test_many_addresses_make_few_rows(system: Authenticated) -> None:
    for number in range(MAX_ROWS + 50):
        await tried(system, "ara_nonsense", f"10.0.{number // 256}.{number % 256}")
    await throttle_of(system).write()
    rows = [row for row in await system.api.rows() if row.kind == "auth.failed"]
    assert len(rows) == MAX_ROWS + 1
    assert (rows[-1].private["address"], rows[-1].data["failures"]) == ("others", 50)


async def test_what_forwards_is_believed_from_trusted_proxies_only(
    store_urls: StoreUrls, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)
    settings = api_settings(
        store_urls,
        schema,
        auth_enabled=True,
        jwt_secret=SECRET.decode(),
        trusted_proxies=("10.0.0.0/8",),
        log_level="info",
    )

    async with Api(settings, front_proof=PROOF).running(()) as api:

        async def status(caller: str, forwarded: str, proof: str = PROOF) -> int:
            headers = bearer("ara_nonsense") | {
                front.PROOF: proof,
                front.ADDRESS: caller,
                "X-Forwarded-For": forwarded,
            }
            return (await api.call("GET", "/agents", headers=headers)).status_code

        assert [await status("10.0.0.1", "203.0.113.9, 192.0.2.1") for _ in range(RATE.burst)] == [401] * RATE.burst
        assert await status("10.0.0.1", "203.0.113.10, 192.0.2.1") == 429
        assert await status("192.0.2.1", "203.0.113.11") == 429
        assert await status("10.0.0.1", "192.0.2.2") == 401
        # Without the front's proof its words are a client's: then it is the one that has connected.
        found = [await status(f"192.0.2.{number}", "", "0" * 64) for number in range(RATE.burst + 1)]
        assert found[-1] == 429
