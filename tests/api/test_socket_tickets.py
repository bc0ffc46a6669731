"""Tickets of WebSockets: each opens one socket, at any replica, for what its maker may do at that moment."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets
from pydantic import SecretStr

from cluster.domain.access.tickets import LIFE_S, TICKET_CHARS
from cluster.telemetry.log_files import API, begin_logging, end_logging
from serve_app.auth.login_throttle import RATE
from tests.support.api import CP, Api, api_settings
from tests.support.authenticated import ADMIN, Authenticated, authenticated
from tests.support.authorities import Issuer
from tests.support.bearer_tables import own_token
from tests.support.fronted import PROOF, fronted
from tests.support.hanging import stopped
from tests.support.openid import ORIGIN, login_ground
from tests.support.principals import bearer
from tests.support.stores import StoreUrls, own_stores
from tests.support.tokens import SECRET

SOCKETS = ("/ws", "/ws/control-plane", "/ws/control-plane/ws", f"{CP}/stream", "/api/v1/control-plane/stream")
W = "research"


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, ()) as door:
        yield door


async def made(api: Api, headers: dict[str, str]) -> str:
    """A new ticket."""
    answer = await api.call("POST", "/auth/ticket", headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ticket"])


async def opened(api: Api, query: str, path: str = "/ws/control-plane", **headers: str) -> int | tuple[int, str]:
    """101, or the status and code with which a socket is refused."""
    url = f"{api.url.replace('http', 'ws')}{path}?{query}"
    try:
        async with websockets.connect(url, additional_headers=headers) as socket:
            if "heartbeats" not in path:
                frame = json.loads(await socket.recv())
                assert frame["type"] == "connected", frame
            return 101
    except websockets.InvalidStatus as refused:
        return refused.response.status_code, str(json.loads(refused.response.body or b"{}")["code"])


REFUSED = (401, "unauthenticated")


async def test_a_ticket_opens_one_socket(door: Authenticated) -> None:
    key = await door.key("viewer")
    answer = await door.call("POST", "/auth/ticket", headers=bearer(key))
    assert set(answer) == {"ticket", "expires_at"}
    assert len(answer["ticket"]) == TICKET_CHARS
    assert 0 < answer["expires_at"] - door.clock.now() <= LIFE_S
    assert await opened(door.api, f"ticket={answer['ticket']}") == 101
    assert await opened(door.api, f"ticket={answer['ticket']}") == REFUSED
    assert await made(door.api, bearer(key)) != await made(door.api, bearer(key))


@pytest.mark.parametrize("path", SOCKETS)
async def test_every_socket_takes_tickets_of_every_credential(door: Authenticated, path: str) -> None:
    for token in (await door.key("viewer"), own_token(door.clock, ADMIN)):
        assert await opened(door.api, f"ticket={await made(door.api, bearer(token))}&task_id=t1", path) == 101


async def test_a_ticket_counts_at_every_replica_and_once_at_all_of_them(door: Authenticated) -> None:
    key = await door.key("viewer")
    async with Api(door.api.settings, door.clock).running(()) as other:
        ticket = await made(door.api, bearer(key))
        tries = [opened(api, f"ticket={ticket}") for api in (door.api, other) * 5]
        outcomes = await asyncio.gather(*tries)
        assert sorted(outcomes, key=str) == [REFUSED] * 9 + [101]
        assert await opened(other, f"ticket={await made(door.api, bearer(key))}") == 101


async def test_a_ticket_ends_after_its_time_or_with_its_key(door: Authenticated) -> None:
    ticket, other = [await made(door.api, bearer(await door.key("viewer"))) for _ in range(2)]
    door.clock.ahead_s = LIFE_S - 1
    assert await opened(door.api, f"ticket={ticket}") == 101
    door.clock.ahead_s = LIFE_S
    assert await opened(door.api, f"ticket={other}") == REFUSED
    short = await door.key("viewer", expires_in_seconds=5)
    answer = await door.call("POST", "/auth/ticket", headers=bearer(short))
    assert answer["expires_at"] - door.clock.now() <= 5
    door.clock.ahead_s += 5
    assert await opened(door.api, f"ticket={answer['ticket']}") == REFUSED


async def test_redis_ends_a_ticket_that_nobody_uses(door: Authenticated) -> None:
    await made(door.api, bearer(await door.key("viewer")))
    redis = door.api.resources.redis
    (name,) = await redis.keys(f"{door.api.settings.redis_prefix}:ticket:*")
    assert 0 < await redis.pttl(name) <= LIFE_S * 1000


async def test_what_is_kept_tells_neither_ticket_nor_key(door: Authenticated) -> None:
    key = await door.key("viewer")
    ticket = await made(door.api, bearer(key))
    redis = door.api.resources.redis
    (name,) = await redis.keys(f"{door.api.settings.redis_prefix}:ticket:*")
    kept = f"{name} {await redis.get(name)}"
    assert ticket not in kept
    assert key.split("_")[1] not in kept
    sealed = await redis.get(name)
    for changed in (sealed + "AAAA", sealed[:60] + ("B" if sealed[60] == "A" else "A") + sealed[61:], "x", ""):
        await redis.set(name, changed)
        assert await opened(door.api, f"ticket={ticket}") == REFUSED, changed


async def test_a_ticket_of_a_revoked_key_is_refused(door: Authenticated) -> None:
    key = await door.key("viewer")
    ticket = await made(door.api, bearer(key))
    await door.call("DELETE", f"/keys/{key.split('_')[1]}")
    assert await opened(door.api, f"ticket={ticket}") == REFUSED


async def test_a_ticket_ends_with_the_role_of_its_maker(door: Authenticated) -> None:
    await door.call("POST", "/workspaces", {"id": W})
    ann = {"subject": "user:ann@example.com", "role": "viewer"}
    await door.call("PUT", f"/workspaces/{W}/members", ann)
    headers = bearer(own_token(door.clock, "ann@example.com")) | {"X-Aragora-Workspace": W}
    ticket, other = await made(door.api, headers), await made(door.api, headers)
    # It acts where it was made, and a socket that names another workspace is refused.
    assert await opened(door.api, f"ticket={other}", **{"X-Aragora-Workspace": "default"}) == (403, "forbidden")
    await door.call("DELETE", f"/workspaces/{W}/members?subject={ann['subject']}&role=viewer")
    assert await opened(door.api, f"ticket={ticket}") == (403, "forbidden")


async def test_a_ticket_shows_the_workspace_in_which_it_was_made(door: Authenticated) -> None:
    await door.call("POST", "/workspaces", {"id": W})
    ticket = await made(door.api, door.admin | {"X-Aragora-Workspace": W})
    url = f"{door.api.url.replace('http', 'ws')}/ws/control-plane?ticket={ticket}"
    async with websockets.connect(url) as socket:
        await socket.recv()
        await door.call("POST", "/tasks", {"task_type": "elsewhere"})
        created = await door.call("POST", "/tasks", {"task_type": "t"}, headers=door.admin | {"X-Aragora-Workspace": W})
        assert json.loads(await socket.recv())["data"]["task_id"] == created["task_id"]


async def test_a_socket_closes_when_the_credential_of_its_ticket_ends(door: Authenticated) -> None:
    key = await door.key("viewer")
    url = f"{door.api.url.replace('http', 'ws')}/ws/control-plane?ticket={await made(door.api, bearer(key))}"
    async with websockets.connect(url) as socket:
        await socket.recv()
        await door.call("DELETE", f"/keys/{key.split('_')[1]}")
        await socket.wait_closed()
        assert socket.close_code == 1008


async def test_a_ticket_allows_what_its_key_allows(door: Authenticated) -> None:
    agent = await door.key("agent")
    answer = await door.api.call("POST", "/auth/ticket", headers=bearer(agent))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    beats = f"{CP}/agents/heartbeats"
    assert await opened(door.api, f"ticket={await made(door.api, bearer(await door.key('viewer')))}", beats) == (
        403,
        "forbidden",
    )
    assert await opened(door.api, f"ticket={await made(door.api, bearer(await door.key('operator')))}", beats) == 101


async def test_only_sockets_take_tickets(door: Authenticated) -> None:
    key = await door.key("admin")
    ticket = await made(door.api, bearer(key))
    stream = {"Accept": "text/event-stream"}
    for method, path in (("GET", "/tasks"), ("GET", "/stream"), ("POST", "/tasks"), ("POST", "/auth/ticket")):
        answer = await door.api.call(method, f"{path}?ticket={ticket}", headers=stream)
        assert answer.status_code == 401, path
    named = await door.api.call("GET", f"/tasks?ticket={ticket}", headers=bearer(key))
    assert (named.status_code, named.json()["code"]) == (400, "unknown_parameter")
    # None of these has used it up, and neither do calls with two credentials.
    for query, headers in ((f"ticket={ticket}", bearer(key)), (f"ticket={ticket}&token={key}", {})):
        assert await opened(door.api, query, **headers) == REFUSED
    assert await opened(door.api, f"ticket={ticket}&ticket={ticket}") == REFUSED
    assert await opened(door.api, f"ticket={ticket}") == 101


@pytest.mark.parametrize("ticket", ["", "x", "a" * TICKET_CHARS, "a" * 5_000, "%00", "*" * TICKET_CHARS, "é" * 43])
async def test_what_is_no_ticket_is_refused_and_is_a_failed_login(door: Authenticated, ticket: str) -> None:
    assert await opened(door.api, f"ticket={ticket}") == REFUSED
    await door.api.app.state.throttle.write()
    assert [row.data["failures"] for row in await door.api.rows() if row.kind == "auth.failed"] == [1]


async def test_a_good_ticket_counts_where_others_have_failed_too_often(door: Authenticated) -> None:
    key = await door.key("viewer")
    assert await made(door.api, bearer(key))
    for _ in range(RATE.burst + 2):
        await opened(door.api, "ticket=guessed")
    assert await opened(door.api, f"ticket={await made(door.api, bearer(key))}") == 101


async def test_a_page_makes_a_ticket_with_its_session(store_urls: StoreUrls) -> None:
    async with login_ground(store_urls) as ground:
        browser = ground.browser()
        await browser.log_in(ground.provider)
        assert (await browser.call("POST", "/auth/ticket")).json()["code"] == "csrf"
        csrf = await browser.csrf()

        async def ticket() -> str:
            answer = await browser.call("POST", "/auth/ticket", X_CSRF_Token=csrf, Origin=ORIGIN)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["ticket"])

        assert await opened(ground.api, f"ticket={await ticket()}", Origin=ORIGIN) == 101
        # It widens nothing: the session's cookie opens no socket of another origin's page either.
        assert await opened(ground.api, f"ticket={await ticket()}", Origin="https://evil.example") == (403, "csrf")
        late = await ticket()
        await browser.call("POST", "/auth/logout", X_CSRF_Token=csrf)
        assert await opened(ground.api, f"ticket={late}", Origin=ORIGIN) == REFUSED


async def test_no_ticket_is_made_with_a_certificate(store_urls: StoreUrls, schema: str, tmp_path: Path) -> None:
    authority = Issuer()
    settings = api_settings(
        store_urls,
        schema,
        auth_enabled=True,
        admin_users=(ADMIN,),
        jwt_secret=SECRET.decode(),
        embedded=False,
        tls_ca_file=authority.file(tmp_path),
    )
    async with Api(settings, front_proof=PROOF).running(()) as api:
        token = bearer(own_token(api.resources.clock, ADMIN))
        answer = await api.call("POST", "/auth/ticket", headers=token | fronted(authority.agent("a1")))
        assert (answer.status_code, answer.json()["code"]) == (400, "ticket_of_certificate")
        assert await opened(api, f"ticket={await made(api, token)}") == 101


async def test_there_are_no_tickets_while_redis_is_away_or_hangs(door: Authenticated) -> None:
    key = bearer(await door.key("viewer"))  # before the others start: no bell of theirs rings
    with own_stores() as (_, redis):
        settings = door.api.settings.model_copy(update={"redis_url": SecretStr(redis.url)})
        async with Api(settings, door.clock).running(()) as api:
            ticket = await made(api, key)
            assert redis.process is not None
            with stopped(redis.process):
                assert _is_later(await api.call("POST", "/auth/ticket", headers=key))
                assert await opened(api, f"ticket={ticket}") == (503, "store_unavailable")
                # Whatever brings its credential itself is served.
                assert await opened(api, f"token={key['Authorization'].removeprefix('Bearer ')}") == 101
    nowhere = door.api.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    async with Api(nowhere, door.clock).running(()) as api:
        assert _is_later(await api.call("POST", "/auth/ticket", headers=key))


def _is_later(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1


async def test_no_log_has_a_ticket(door: Authenticated, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    begin_logging("api", API, "debug", directory=tmp_path, most_bytes=10_000_000)
    # What serves replicas logs the query of each WebSocket. Other servers of this process may have raised the level.
    caplog.set_level(logging.INFO, "uvicorn.error")
    try:
        ticket = await made(door.api, bearer(await door.key("viewer")))
        for _ in range(2):
            await opened(door.api, f"task_id=t1&ticket={ticket}")
            await door.api.client.get(f"{CP}/tasks?ticket={ticket}")
    finally:
        end_logging()
    written = (tmp_path / f"{API}.log").read_text()
    assert "/ws/control-plane?task_id=t1&ticket=***" in written
    assert ticket not in written


async def test_without_authentication_a_page_does_as_with_it(api: Api) -> None:
    ticket = await made(api, {})
    assert len(ticket) == TICKET_CHARS
    assert await opened(api, f"ticket={ticket}") == 101


async def test_the_released_parameter_stays(door: Authenticated) -> None:
    key = await door.key("viewer")
    assert [await opened(door.api, f"token={key}") for _ in range(2)] == [101, 101]
