"""Logins with an OIDC provider through the whole application: whom they let in, and whom nothing lets in."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote_plus

import pytest
import websockets

from cluster.domain.access.sessions import csrf_token, parse_session
from cluster.ports.access import Revocation
from tests.support.api import CP, Api
from tests.support.openid import CLIENT, CLIENT_SECRET, LOGIN, ORIGIN, SESSION, Browser, Ground, login_ground
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.samples import ASKER
from tests.support.stores import StoreUrls
from tests.support.tokens import encoded, jwk, private_key


@pytest.fixture
async def ground(store_urls: StoreUrls) -> AsyncIterator[Ground]:
    async with login_ground(store_urls) as found:
        yield found


async def _refused(ground: Ground, browser: Browser, answer: Any, status: int, code: str | None = None) -> None:
    """No session, our shape, and a failure in the log."""
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].endswith(".")
    assert code is None or answer.json()["code"] == code
    assert SESSION not in browser.cookies
    assert (await ground.api.rows()) == [row for row in await ground.api.rows() if row.kind != "auth.login"]


# --- who is let in -------------------------------------------------------------------------------------------------------


async def test_a_login_ends_in_a_session_that_opens_every_door(ground: Ground) -> None:
    browser = ground.browser()
    asked = await browser.begin("?next=/docs")
    assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
    assert asked["redirect_uri"] == f"{ORIGIN}{CP}/auth/callback"
    assert asked["scope"].split() == ["openid", "email"]
    ground.provider.nonce = asked["nonce"]
    answer = await browser.finish(ground.provider.url, state=asked["state"], session_state="x", scope="openid")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{ORIGIN}/docs"), answer.text
    form, headers = ground.provider.asked[0]
    verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() == asked["code_challenge"]
    pair = base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode().split(":")
    assert [unquote_plus(part) for part in pair] == [CLIENT, CLIENT_SECRET]

    shown = (await browser.call("GET", "/auth/session")).json()
    assert (shown["principal"], shown["groups"]) == ("user:ann@example.com", ["builders"])
    assert (await browser.call("GET", "/tasks")).status_code == 200  # the default role
    assert (await ground.browser().call("GET", "/tasks")).status_code == 401
    await ground.door.call("PUT", "/workspaces/default/members", {"subject": "group:builders", "role": "submitter"})
    csrf = {"X_CSRF_Token": shown["csrf_token"]}
    for origin in ({}, {"Origin": ORIGIN}):  # the fast path, and FastAPI
        made = await browser.call("POST", "/tasks", {"task_type": "t"}, **csrf, **origin)
        assert made.status_code == 201, made.text
        (row,) = await ground.api.rows(made.json()["task_id"])
        assert row.principal == "user:ann@example.com"
    cookie = {"Cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    url = ground.api.url.replace("http", "ws") + "/ws/control-plane"
    async with websockets.connect(url, additional_headers={**cookie, "Origin": ORIGIN}) as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
    async with ground.api.client.stream(
        "GET", f"{CP}/stream", headers={**cookie, "Accept": "text/event-stream"}
    ) as stream:
        assert stream.status_code == 200


async def test_cookies_are_of_this_host_alone_and_no_secret_is_stored(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    for text in browser.set_cookies:
        parts = [part.strip().lower() for part in text.split(";")]
        assert text.startswith((f"{SESSION}=", f"{LOGIN}="))
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= set(parts)
        assert not any(part.startswith("domain") for part in parts)
    assert LOGIN not in browser.cookies
    token = browser.cookies[SESSION]
    id, secret = parse_session(token) or ("", "")
    stored = str([dict(row) for row in await ground.api.stores.pool.rows("select * from sessions")])
    written = str(await ground.api.rows())
    assert id in stored
    assert secret not in stored + written
    assert (await ground.api.stores.pool.value("select count(*) from logins")) == 0


async def test_over_plain_http_on_loopback_cookies_have_no_prefix(store_urls: StoreUrls) -> None:
    async with login_ground(store_urls, public_url="http://127.0.0.1:8080") as ground:
        browser = ground.browser()
        assert (await browser.log_in(ground.provider)).status_code == 303
        assert set(browser.cookies) == {"aragora-session"}
        assert not any("secure" in text.lower() for text in browser.set_cookies)


async def test_logins_and_logouts_are_in_the_log(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    token = browser.cookies[SESSION]
    csrf = await browser.csrf()
    out = await browser.call("POST", "/auth/logout", X_CSRF_Token=csrf)
    assert out.json() == {"ended": True}
    assert SESSION not in browser.cookies
    rows = [row for row in await ground.api.rows() if row.kind.startswith("auth.")]
    assert [(row.kind, row.principal, row.workspace) for row in rows] == [
        ("auth.login", "user:ann@example.com", "default"),
        ("auth.logout", "user:ann@example.com", "default"),
    ]
    assert rows[0].entity == rows[1].entity == (parse_session(token) or ("",))[0]
    assert (rows[0].data["method"], rows[0].private) == ("browser", {"address": "127.0.0.1"})
    browser.cookies[SESSION] = token
    assert (await browser.call("POST", "/auth/logout", X_CSRF_Token=csrf)).json() == {"ended": False}


async def test_email_and_groups_come_from_userinfo_where_the_token_lacks_them(ground: Ground) -> None:
    ground.provider.claims = {"sub": "1"}
    ground.provider.userinfo = {"sub": "1", "email": "Bob@Example.com", "email_verified": True, "groups": ["ops"]}
    browser = ground.browser()
    assert (await browser.log_in(ground.provider)).status_code == 303
    shown = (await browser.call("GET", "/auth/session")).json()
    assert (shown["principal"], shown["groups"]) == ("user:bob@example.com", ["ops"])


async def test_groups_have_the_roles_of_the_settings_in_the_default_workspace(store_urls: StoreUrls) -> None:
    async with login_ground(store_urls, oauth_group_roles=("builders=operator",)) as ground:
        browser = ground.browser()
        await browser.log_in(ground.provider)
        csrf = await browser.csrf()
        made = await browser.call("POST", "/tasks", {"task_type": "t"}, X_CSRF_Token=csrf)
        assert made.status_code == 201, made.text
        await ground.door.call("POST", "/workspaces", {"id": "other"})
        assert (await browser.call("GET", "/tasks", X_Aragora_Workspace="other")).status_code == 403
        # A token of ours with the same group is no login.
        token = await ground.door.key("viewer")
        assert (await ground.api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(token))).status_code == 403


@pytest.mark.parametrize(
    ("claims", "is_admin"),
    [
        ({"email": "Root@example.com", "email_verified": True}, True),
        ({"email": "root@example.com", "email_verified": False}, False),
        ({"email": "root@example.com", "email_verified": "true"}, False),
        ({"email": "root@example.com"}, False),
        ({"email": "user:root@example.com", "email_verified": True}, False),
    ],
    ids=str,
)
async def test_only_a_verified_address_makes_an_administrator(
    ground: Ground, claims: dict[str, Any], is_admin: bool
) -> None:
    ground.provider.claims = {"sub": "root@example.com", "groups": [], **claims}
    browser = ground.browser()
    await browser.log_in(ground.provider)
    assert (await browser.call("GET", "/keys")).status_code == (200 if is_admin else 403)
    principal = (await browser.call("GET", "/auth/session")).json()["principal"]
    assert principal == ("user:root@example.com" if is_admin else "user:subject/127.0.0.1/root%40example.com")


async def test_an_address_of_the_token_is_not_verified_by_userinfo(ground: Ground) -> None:
    ground.provider.claims = {"sub": "1", "email": "root@example.com"}
    ground.provider.userinfo = {"sub": "1", "email": "ann@example.com", "email_verified": True}
    browser = ground.browser()
    await browser.log_in(ground.provider)
    assert (await browser.call("GET", "/auth/session")).json()["principal"].startswith("user:subject/")


async def test_only_addresses_of_allowed_domains_log_in(store_urls: StoreUrls) -> None:
    async with login_ground(store_urls, oauth_allowed_domains=("example.com",)) as ground:
        assert (await ground.browser().log_in(ground.provider)).status_code == 303
        for email, verified in (("ann@example.org", True), ("ann@sub.example.com", True), ("ann@example.com", False)):
            ground.provider.claims |= {"email": email, "email_verified": verified}
            browser = ground.browser()
            answer = await browser.log_in(ground.provider)
            assert (answer.status_code, answer.json()["code"]) == (403, "login_refused")
            assert SESSION not in browser.cookies
        assert await ground.failures() == 3


async def test_where_anybody_has_an_account_only_those_with_a_role_log_in(ground: Ground) -> None:
    """As from Google, without named domains: the default role is for those whom an organisation knows."""
    logins = ground.api.app.state.logins
    logins._policy = dataclasses.replace(logins._policy, open_provider=True)
    stranger = ground.browser()
    answer = await stranger.log_in(ground.provider)
    assert answer.status_code == 403
    assert SESSION not in stranger.cookies
    await ground.door.call("PUT", "/workspaces/default/members", {"subject": "user:ann@example.com", "role": "viewer"})
    member = ground.browser()
    assert (await member.log_in(ground.provider)).status_code == 303
    assert await ground.failures() == 1


# --- whom nothing lets in ------------------------------------------------------------------------------------------------


async def test_the_answer_to_a_login_of_another_browser_is_refused(ground: Ground) -> None:
    attacker, victim = ground.browser(), ground.browser()
    asked = await attacker.begin()
    ground.provider.nonce = asked["nonce"]
    for begun in (False, True):
        if begun:
            await victim.begin()
        answer = await victim.finish(ground.provider.url, state=asked["state"])
        await _refused(ground, victim, answer, 400, "login_mismatch")
    assert await ground.failures() == 2
    assert ground.provider.asked == []  # the code was not even redeemed


async def test_an_answer_counts_once(ground: Ground) -> None:
    browser = ground.browser()
    asked = await browser.begin()
    ground.provider.nonce = asked["nonce"]
    kept = dict(browser.cookies)
    assert (await browser.finish(ground.provider.url, state=asked["state"])).status_code == 303
    browser.cookies = kept
    await _refused_again(browser, await browser.finish(ground.provider.url, state=asked["state"]))
    assert len(ground.provider.asked) == 1


async def _refused_again(browser: Browser, answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (400, "login_mismatch")
    assert SESSION not in browser.cookies


async def test_an_answer_after_ten_minutes_is_refused(ground: Ground) -> None:
    browser = ground.browser()
    asked = await browser.begin()
    ground.provider.nonce = asked["nonce"]
    ground.door.clock.ahead_s = 601
    await _refused(
        ground, browser, await browser.finish(ground.provider.url, state=asked["state"]), 400, "login_mismatch"
    )


@pytest.mark.parametrize("issuer", [None, "https://other.example"])
async def test_the_answer_of_another_provider_is_refused(ground: Ground, issuer: str | None) -> None:
    browser = ground.browser()
    asked = await browser.begin()
    ground.provider.nonce = asked["nonce"]
    await _refused(ground, browser, await browser.finish(issuer, state=asked["state"]), 400, "issuer_mismatch")
    assert ground.provider.asked == []


async def test_a_code_that_the_provider_refuses_lets_nobody_in(ground: Ground) -> None:
    ground.provider.answers["/token"] = 400, b'{"error": "invalid_grant"}'
    browser = ground.browser()
    await _refused(ground, browser, await browser.log_in(ground.provider), 400, "login_refused")
    asked = await browser.begin()
    denied = await browser.finish(ground.provider.url, state=asked["state"], error="access_denied")
    await _refused(ground, browser, denied, 403, "login_refused")


_PUBLIC = json.dumps(jwk("ES256", "k1", "of the provider")).encode()
_WRONG: dict[str, dict[str, Any]] = {
    "nonce of another login": {"claims": {"nonce": "another"}},
    "no nonce": {"claims": {"nonce": None}},
    "another audience": {"claims": {"aud": "c2"}},
    "another authorized party": {"claims": {"aud": [CLIENT, "c2"], "azp": "c2"}},
    "two audiences and no authorized party": {"claims": {"aud": [CLIENT, "c2"]}},
    "another issuer": {"claims": {"iss": "https://other.example"}},
    "expired": {"claims": {"exp": 1}},
    "of the future": {"claims": {"iat": 4_000_000_000, "exp": 4_000_000_060}},
    "no subject": {"claims": {"sub": None}},
    "hash of another access token": {"claims": {"at_hash": "abc"}},
    "a hash that is no text": {"claims": {"at_hash": 5}},
    "a time that is no number": {"claims": {"exp": "soon"}},
    "groups that are no list": {"claims": {"groups": "admins"}},
    "HS256 with the client's secret": {"key": CLIENT_SECRET.encode(), "algorithm": "HS256"},
    "HS256 with the public key": {"key": _PUBLIC, "algorithm": "HS256"},
    "another key": {"key": private_key("ES256", "of nobody")},
    "another key of an unknown name": {"key": private_key("ES256", "of nobody"), "header": {"kid": "k2"}},
    "no algorithm": {"token": f"{encoded(b'{}')}.{encoded(b'{}')}."},
    "no token": {"token": "x"},
}


@pytest.mark.parametrize("wrong", _WRONG)
async def test_an_id_token_that_does_not_count_lets_nobody_in(ground: Ground, wrong: str) -> None:
    changes = dict(_WRONG[wrong])
    ground.provider.claims |= changes.pop("claims", {})
    for name, value in changes.items():
        setattr(ground.provider, name, value)
    browser = ground.browser()
    await _refused(ground, browser, await browser.log_in(ground.provider), 401)
    assert await ground.failures() == 1


async def test_an_unsigned_token_lets_nobody_in(ground: Ground) -> None:
    browser = ground.browser()
    asked = await browser.begin()
    ground.provider.nonce = asked["nonce"]
    _, payload, _ = ground.provider.id_token(ground.door.clock.now()).split(".")
    for head in (b'{"alg":"none"}', b'{"alg":"None","kid":"k1"}'):
        ground.provider.token = f"{encoded(head)}.{payload}."
        answer = await browser.finish(ground.provider.url, state=asked["state"])
        assert answer.status_code in (400, 401)
        assert SESSION not in browser.cookies


async def test_userinfo_about_somebody_else_lets_nobody_in(ground: Ground) -> None:
    ground.provider.claims = {"sub": "1"}
    browser = ground.browser()
    for userinfo in ({"sub": "2", "email": "root@example.com", "email_verified": True}, {"email": "root@example.com"}):
        ground.provider.userinfo = userinfo
        await _refused(ground, browser, await browser.log_in(ground.provider), 401)


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "evil",
        "/a\tb",
        "/%0d\r\nX: y",
        "/" * 3000,
        "/\u2215",
    ],
)
async def test_a_login_leads_to_this_host_only(ground: Ground, target: str) -> None:
    answer = await ground.api.client.get(f"{CP}/auth/login", params={"next": target})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_next")


async def test_the_host_header_changes_no_redirect(ground: Ground) -> None:
    answer = await ground.api.client.get(f"{CP}/auth/login", headers={"Host": "evil.example"})
    assert "evil" not in answer.headers["location"]


async def test_a_planted_session_is_not_taken_over(ground: Ground) -> None:
    browser = ground.browser()
    planted = f"ars_{'a' * 32}_{'b' * 32}"
    browser.cookies[SESSION] = planted
    assert (await browser.log_in(ground.provider)).status_code == 303
    first = browser.cookies[SESSION]
    assert first != planted
    assert (await browser.log_in(ground.provider)).status_code == 303
    second = browser.cookies[SESSION]
    assert second != first
    for token, status in ((planted, 401), (first, 401), (second, 200)):
        browser.cookies = {SESSION: token}
        assert (await browser.call("GET", "/tasks")).status_code == status
    both = {"Cookie": f"{SESSION}={second}; {SESSION}={planted}"}
    assert (await ground.api.client.get(f"{CP}/tasks", headers=both)).status_code == 401


async def test_a_page_changes_nothing_without_the_sessions_token(ground: Ground) -> None:
    browser, other = ground.browser(), ground.browser()
    ground.provider.claims |= {"email": "root@example.com"}
    await browser.log_in(ground.provider)
    await other.log_in(ground.provider)
    csrf, others = await browser.csrf(), await other.csrf()
    before = await ground.api.rows()
    for headers in (
        {},
        {"X_CSRF_Token": ""},
        {"X_CSRF_Token": others},
        {"X_CSRF_Token": csrf, "Origin": "https://evil.example"},
        {"X_CSRF_Token": csrf, "Origin": "null"},
        {"Origin": ORIGIN},
    ):
        for method, path in (
            ("POST", "/tasks"),
            ("POST", "/auth/logout"),
            ("DELETE", "/keys/abcdefghijkl"),
            ("PUT", "/queue/controls"),
        ):
            answer = await browser.call(method, path, {} if method != "DELETE" else None, **headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "csrf"), (method, path, headers)
    assert await ground.api.rows() == before
    assert (await browser.call("POST", "/tasks", {"task_type": "t"}, X_CSRF_Token=csrf)).status_code == 201
    url = ground.api.url.replace("http", "ws") + "/ws/control-plane"
    cookie = {"Cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    for origin in ({}, {"Origin": "https://evil.example"}):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(url, additional_headers={**cookie, **origin}):
                pass
        assert refused.value.response.status_code == 403
    assert csrf_token("x") != csrf


async def test_origins_that_the_operator_names_may_call_with_the_session(store_urls: StoreUrls) -> None:
    async with login_ground(store_urls, cors_origins=("https://board.test",)) as ground:
        ground.provider.claims |= {"email": "root@example.com"}
        browser = ground.browser()
        await browser.log_in(ground.provider)
        csrf = await browser.csrf()
        made = await browser.call("POST", "/tasks", {"task_type": "t"}, X_CSRF_Token=csrf, Origin="https://board.test")
        assert made.status_code == 201


async def test_a_session_counts_at_every_replica_until_it_is_ended_at_one(ground: Ground) -> None:
    async with Api(ground.api.settings, ground.door.clock).running(()) as other:
        here = ground.browser()
        await here.log_in(ground.provider)
        there = Browser(other, dict(here.cookies))
        assert (await there.call("GET", "/tasks")).status_code == 200
        csrf = await here.csrf()
        assert (await here.call("POST", "/auth/logout", X_CSRF_Token=csrf)).json() == {"ended": True}

        async def is_refused() -> bool:
            return (await there.call("GET", "/tasks")).status_code == 401

        await eventually(is_refused)
        asked = await there.begin()  # a login that begins at one replica ends at the other
        ground.provider.nonce = asked["nonce"]
        here.cookies = there.cookies
        assert (await here.finish(ground.provider.url, state=asked["state"])).status_code == 303


async def test_a_cookie_is_no_bearer_token(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    answer = await ground.api.call("GET", "/tasks", headers=bearer(browser.cookies[SESSION]))
    assert answer.status_code == 401


async def test_a_session_ends_with_its_time_and_with_what_its_principal_may(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    ground.door.clock.ahead_s = 28_799
    assert (await browser.call("GET", "/tasks")).status_code == 200
    ground.door.clock.ahead_s = 28_801
    assert (await browser.call("GET", "/tasks")).status_code == 401


async def test_a_stream_ends_with_the_session(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    csrf = await browser.csrf()
    cookie = {"Cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    url = ground.api.url.replace("http", "ws") + "/ws/control-plane"
    async with websockets.connect(url, additional_headers={**cookie, "Origin": ORIGIN}) as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
        await browser.call("POST", "/auth/logout", X_CSRF_Token=csrf)
        await socket.wait_closed()
        assert socket.close_code == 1008


async def test_tries_of_sessions_that_do_not_count_are_throttled(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    assert (await browser.call("GET", "/tasks")).status_code == 200
    wrong = ground.browser()
    statuses = []
    for number in range(25):
        wrong.cookies = {SESSION: f"ars_{'a' * 32}_{number:032d}"}
        statuses.append((await wrong.call("GET", "/tasks")).status_code)
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert (await browser.call("GET", "/tasks")).status_code == 200


# --- the provider fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys", "/userinfo"])
@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, b"[]"), (500, b"{}"), (302, b""), (200, b"{}"), None], ids=str
)
async def test_a_provider_that_fails_is_a_503_and_no_session(
    ground: Ground, path: str, answer: tuple[int, bytes] | None
) -> None:
    ground.provider.claims = {"sub": "1"}
    if answer is not None:
        ground.provider.answers[path] = answer
    browser = ground.browser()
    if path.startswith("/.well-known"):
        if answer is None:
            ground.provider.document = {"issuer": "https://other.example"}
        found = await browser.call("GET", "/auth/login")
    else:
        if answer is None:
            ground.provider.answers[path] = 200, b"\xff" * 2_000_000
        found = await browser.log_in(ground.provider)
    # What says nothing about anybody is no userinfo of this person.
    status = 401 if (path, answer) == ("/userinfo", (200, b"{}")) else 503
    assert found.status_code == status, found.text
    assert found.json()["error"].endswith(".")
    assert SESSION not in browser.cookies


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/token", "/keys", "/userinfo"])
async def test_a_provider_that_hangs_is_a_503_within_a_bound(ground: Ground, path: str) -> None:
    ground.provider.claims = {"sub": "1"}
    ground.provider.hangs.add(path)
    browser = ground.browser()
    if path.startswith("/.well-known"):
        found = await browser.call("GET", "/auth/login")
    else:
        found = await browser.log_in(ground.provider)
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    assert SESSION not in browser.cookies


async def test_a_provider_that_names_plain_endpoints_is_not_asked(ground: Ground) -> None:
    ground.provider.document = {"token_endpoint": "http://id.example.com/token"}
    answer = await ground.browser().call("GET", "/auth/login")
    assert (answer.status_code, "token_endpoint" in answer.json()["error"]) == (503, True)


# --- command lines -------------------------------------------------------------------------------------------------------


async def test_a_device_login_ends_in_a_bearer_token(ground: Ground) -> None:
    begun = await ground.api.post("/auth/device")
    assert (begun["device_code"], begun["user_code"], begun["interval"]) == ("d1", "ABCD", 1)
    for error in ("authorization_pending", "slow_down", "access_denied", "expired_token"):
        ground.provider.answers["/token"] = 400, json.dumps({"error": error}).encode()
        waiting = await ground.api.call("POST", "/auth/device/token", {"device_code": "d1"})
        assert (waiting.status_code, waiting.json()["code"]) == (400, error)
    assert await ground.failures() == 2
    ground.provider.answers.clear()
    done = await ground.api.post("/auth/device/token", {"device_code": "d1"})
    assert done["principal"] == "user:ann@example.com"
    form, _ = ground.provider.asked[-1]
    assert (form["grant_type"], form["device_code"]) == ("urn:ietf:params:oauth:grant-type:device_code", "d1")
    headers = bearer(done["token"])
    assert (await ground.api.call("GET", "/tasks", headers=headers)).status_code == 200
    planted = Browser(ground.api, {SESSION: done["token"]})
    assert (await planted.call("GET", "/tasks")).status_code == 401
    assert (await ground.api.call("POST", "/auth/logout", headers=headers)).json() == {"ended": True}
    assert (await ground.api.call("GET", "/tasks", headers=headers)).status_code == 401


async def test_a_provider_without_device_logins_says_so(ground: Ground) -> None:
    ground.provider.document = {"device_authorization_endpoint": None}
    answer = await ground.api.call("POST", "/auth/device")
    assert (answer.status_code, answer.json()["code"]) == (400, "no_device_login")


async def test_nobody_logs_in_where_logins_are_off(api: Any) -> None:
    for method, path in (("GET", "/auth/login"), ("GET", "/auth/callback"), ("POST", "/auth/device")):
        answer = await api.call(method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, "login_off")
    assert (await api.get("/auth/session"))["enabled"] is False
    assert await api.post("/auth/logout") == {"ended": False}


async def test_a_revoked_principal_has_no_session(ground: Ground) -> None:
    browser = ground.browser()
    await browser.log_in(ground.provider)
    now = ground.door.clock.now()
    revocation = Revocation(subject="user:ann@example.com", not_before=now + 30, until=now + 60)
    await ground.api.stores.access.revoke(ASKER, revocation)

    async def is_refused() -> bool:
        return (await browser.call("GET", "/tasks")).status_code == 401

    await eventually(is_refused)
    await browser.log_in(ground.provider)
    assert (await browser.call("GET", "/tasks")).status_code == 200, "also by a clock that is behind"


async def test_a_session_that_a_clock_ahead_began_is_revoked_too(ground: Ground) -> None:
    ann, bob = ground.browser(), ground.browser()
    await ann.log_in(ground.provider)
    ground.provider.claims |= {"email": "bob@example.com", "sub": "bob"}
    await bob.log_in(ground.provider)
    now = ground.door.clock.now()
    revocation = Revocation(subject="user:ann@example.com", not_before=now - 30, until=now + 60)
    await ground.api.stores.access.revoke(ASKER, revocation)

    async def is_refused() -> bool:
        return (await ann.call("GET", "/tasks")).status_code == 401

    await eventually(is_refused)
    assert (await bob.call("GET", "/tasks")).status_code == 200
    (row,) = [row for row in await ground.api.rows() if row.kind == "auth.logout"]
    assert row.principal == ASKER.principal, "who revoked has ended it"
