"""Denied calls are rows of the log, whichever way they came in, and a flood of them makes few."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from actors.roles import SEALER, TELEMETRY
from cluster.domain.base.log import LogRow
from cluster.postgres.migrate import migrate
from serve_app.auth.denials import MAX_ADDRESSES, MAX_ANONYMOUS, MAX_ROWS, SUMMED, WINDOW_S, Denials
from tests.actors.test_sealer import seal_all
from tests.support.api import CP, Api, api_settings
from tests.support.authenticated import ADMIN, AheadClock, Authenticated, authenticated
from tests.support.fronted import PROOF
from tests.support.hanging import REFUSED_S, stopped
from tests.support.log_texts import words_in
from tests.support.openid import ORIGIN, login_ground
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.routes import http_routes
from tests.support.stores import StoreUrls, fresh_name, own_stores
from tests.support.tokens import SECRET

SSE = {"Accept": "text/event-stream"}


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, ()) as door:
        yield door


async def denied(api: Api) -> list[LogRow]:
    """The rows of denials, after what is noted was written."""
    await api.app.state.denials.write()
    return [row for row in await api.rows() if row.kind == "auth.denied"]


async def the_row(api: Api) -> dict[str, Any]:
    """What the only row says."""
    (row,) = await denied(api)
    assert words_in(row.kind, row.data) == []
    assert row.verifies()
    return {"principal": row.principal, "workspace": row.workspace, "cause": row.cause, **row.data, **row.private}


async def refused_socket(api: Api, path: str, headers: dict[str, str]) -> int:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(api.url.replace("http", "ws") + path, additional_headers=headers):
            pass
    return refused.value.response.status_code


#: (method, path, headers) → call and route of the row.
WAYS: dict[str, tuple[str, str, dict[str, str], tuple[str, str]]] = {
    "fast path": ("POST", f"{CP}/tasks", {}, ("POST", "/tasks")),
    "fast path with an id": ("POST", f"{CP}/tasks/my-words/cancel", {}, ("POST", "/tasks/{task_id}/cancel")),
    "FastAPI": ("POST", f"{CP}/tasks", {"Origin": "http://elsewhere"}, ("POST", "/tasks")),
    "a read": ("GET", f"{CP}/tasks/my-words?token=my-words", {}, ("GET", "/tasks/{task_id}")),
    "the other prefix": ("DELETE", "/api/v1/control-plane/agents/my-words", {}, ("DELETE", "/agents/{agent_id}")),
    "a stream": ("GET", f"{CP}/stream", SSE, ("GET", "/stream")),
    "a WebSocket": ("WS", "/ws/control-plane?task_id=my-words", {}, ("WS", "/ws/control-plane")),
    "heartbeats": ("WS", f"{CP}/agents/heartbeats", {}, ("WS", f"{CP}/agents/heartbeats")),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_without_a_principal_is_a_row(door: Authenticated, way: str) -> None:
    method, path, headers, (call, route) = WAYS[way]
    sent = headers | {"X-Request-Id": "trace-1"}
    if method == "WS":
        assert await refused_socket(door.api, path, sent) == 401
    else:
        assert (await door.api.client.request(method, path, headers=sent)).status_code == 401
    row = await the_row(door.api)
    assert row.pop("since") <= door.clock.now()
    assert row == {
        "route": route,
        "principal": "anonymous",
        "workspace": "default",
        "cause": "trace-1",
        "status": 401,
        "code": "unauthenticated",
        "call": call,
        "count": 1,
        "addresses": ["127.0.0.1"],
    }
    (stored,) = await denied(door.api)
    assert "my-words" not in f"{stored.entity} {stored.data_json} {stored.private_json}"


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("a read", "a stream", "a WebSocket")])
async def test_a_call_that_its_principal_may_not_make_is_a_row(door: Authenticated, way: str) -> None:
    key = await door.key("viewer")
    method, path, headers, (call, _) = WAYS[way]
    sent = headers | bearer(key)
    if method == "WS":
        assert await refused_socket(door.api, path, sent) == 403
    else:
        assert (await door.api.client.request(method, path, headers=sent)).status_code == 403
    row = await the_row(door.api)
    assert (row["principal"], row["status"], row["code"], row["call"]) == (
        f"key:{key.split('_')[1]}",
        403,
        "forbidden",
        call,
    )


async def test_what_routes_refuse_is_a_row_of_the_callers_workspace(door: Authenticated) -> None:
    """A workspace that is named in a body, another agent, a suspended workspace."""
    await door.call("POST", "/workspaces", {"id": "research"})
    key = bearer(await door.key("operator", workspace="research", agents=["a1"]))
    bound = f"key:{key['Authorization'].split('_')[1]}"
    answers = [
        await door.api.call("POST", "/tasks", {"task_type": "t", "workspace_id": "default"}, headers=key),
        await door.api.call("POST", "/tasks/claim", {"agent_id": "a2", "block_ms": 0}, headers=key),
    ]
    await door.call("PATCH", "/workspaces/research", {"state": "suspended"})
    answers += [await door.api.call("POST", "/tasks", {"task_type": "t"}, headers=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403] * 5
    rows = await denied(door.api)
    assert {(row.workspace, row.principal) for row in rows} == {("research", bound)}
    assert sorted((row.data["code"], row.data["count"]) for row in rows) == sorted(
        [(answers[0].json()["code"], 1), (answers[1].json()["code"], 1), ("workspace_suspended", 3)]
    )


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://elsewhere"}])
async def test_what_is_refused_inside_an_answer_200_is_a_row(door: Authenticated, headers: dict[str, str]) -> None:
    sent = headers | bearer(await door.key("agent", agents=["a1"]))
    reports = {
        "reports": [{"task_id": "t", "agent_id": "a2"}, {"task_id": "t", "agent_id": "a3"}, {"task_id": "not one"}]
    }
    beats = {"heartbeats": [{"agent_id": "a2"}, {"agent_id": "a1"}]}
    for path, body in (("/tasks/complete", reports), ("/tasks/fail", reports), ("/agents/heartbeats", beats)):
        assert (await door.api.call("POST", path, body, headers=sent)).status_code == 200
    url = door.api.url.replace("http", "ws") + f"{CP}/agents/heartbeats"
    async with websockets.connect(url, additional_headers={"Authorization": sent["Authorization"]}) as socket:
        await socket.send(json.dumps(beats))
        assert json.loads(await socket.recv())["data"]["refused"]
    rows = [(row.data["call"], row.data["route"], row.data["count"]) for row in await denied(door.api)]
    assert sorted(rows) == [
        ("POST", "/agents/heartbeats", 1),
        ("POST", "/tasks/complete", 2),
        ("POST", "/tasks/fail", 2),
        ("WS", f"{CP}/agents/heartbeats", 1),
    ]


async def test_who_has_nothing_in_a_workspace_is_named(door: Authenticated) -> None:
    key = await door.key("viewer")
    headers = bearer(key) | {"X-Aragora-Workspace": "elsewhere"}
    assert (await door.api.call("GET", "/tasks", headers=headers)).status_code == 403
    row = await the_row(door.api)
    assert (row["principal"], row["workspace"]) == (f"key:{key.split('_')[1]}", "default")


async def test_another_page_with_a_session_is_a_row_of_its_person(store_urls: StoreUrls) -> None:
    async with login_ground(store_urls) as ground:
        browser = ground.browser()
        await browser.log_in(ground.provider)
        assert (await browser.call("POST", "/tasks", {"task_type": "t"}, Origin=ORIGIN)).status_code == 403
        row = await the_row(ground.api)
        assert (row["principal"], row["code"]) == ("user:ann@example.com", "csrf")


async def test_calls_that_are_let_in_or_fail_otherwise_are_no_denials(door: Authenticated) -> None:
    for path, status in (("/tasks", 200), ("/tasks/nothing", 404), ("/tasks?state=x", 400)):
        assert (await door.api.call("GET", path, headers=door.admin)).status_code == status
    assert (await door.api.client.get("/health/live")).status_code == 200
    assert await denied(door.api) == []


async def test_denials_are_entries_of_the_audit(door: Authenticated) -> None:
    for _ in range(3):
        await door.api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(await door.key("auditor")))
    rows = await denied(door.api)
    auditor = bearer(await door.key("auditor"))
    keeper = await door.api.start(SEALER)
    await keeper.stop()
    await seal_all(keeper.first)
    page = (await door.api.call("GET", "/audit?actions=auth.denied", headers=auditor)).json()
    assert [entry["sequence_number"] for entry in page["entries"]] == [row.seq for row in reversed(rows)]
    for entry in page["entries"]:
        assert (entry["outcome"], entry["actor"]["type"], entry["details"]["route"]) == ("failure", "key", "/tasks")
        assert entry["entry_hash"] is not None
        assert "addresses" not in entry["details"], "an auditor sees no words"
    exported = await door.api.call("GET", "/audit/export?format=json", headers=auditor)
    entries = [json.loads(line) for line in exported.text.splitlines()]
    assert [entry for entry in entries if entry["action"] == "auth.denied"] == page["entries"][::-1]
    assert (await door.api.call("GET", "/audit/verify", headers=auditor)).json()["valid"]


# --- floods --------------------------------------------------------------------------------------------------------------


async def flooded(api: Api, times: int) -> int:
    """Calls that are denied, by every route that needs a principal, in turns; how many kinds they are of."""
    routes = [route for route in http_routes() if route.path.startswith(CP) and route.endpoint.permission != "public"]
    assert len(routes) > MAX_ROWS

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 401) == 401

    for number in range(times):
        route = routes[number % len(routes)]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": route.method,
            "path": route.path.replace("{", "").replace("}", ""),
            "query_string": b"",
            "headers": [],
            "client": (f"10.0.{number // 250 % 250}.{number % 250}", 1),
        }
        await api.app(scope, receive, send)
    return len(routes)


async def test_a_flood_makes_few_rows_whose_counts_add_up(door: Authenticated) -> None:
    await door.api.start(TELEMETRY)
    kinds = await flooded(door.api, 10_000)
    key = await door.key("viewer")
    assert (await door.api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(key))).status_code == 403
    rows = await denied(door.api)
    assert len(rows) == MAX_ANONYMOUS + 2
    assert MAX_ROWS / WINDOW_S <= 5, "a few rows a second"
    assert sum(row.data["count"] for row in rows) == 10_001
    # Who has no key hides nobody who has one.
    assert [row.data["count"] for row in rows if row.principal.startswith("key:")] == [1]
    (others,) = [row for row in rows if row.data["code"] == "others"]
    assert others.data["count"] > 10_000 * (kinds - MAX_ANONYMOUS) // kinds - kinds
    assert {len(row.private["addresses"]) for row in rows if row.principal == "anonymous"} == {MAX_ADDRESSES}
    assert all(row.data["since"] <= row.at for row in rows)
    assert await denied(door.api) == rows, "each is written once"
    text = (await door.api.client.get("/metrics", headers=door.admin)).text
    found = {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert found[SUMMED] == others.data["count"]


async def test_many_principals_make_few_rows_too(door: Authenticated) -> None:
    denials: Denials = door.api.app.state.denials
    keys = [await door.key("viewer") for _ in range(MAX_ROWS + 5)]
    for key in keys:
        await door.api.call("POST", "/tasks", {"task_type": "t"}, headers=bearer(key))
    rows = await denied(door.api)
    assert len(rows) == MAX_ROWS + 1
    assert rows[-1].data["count"] == 5
    assert [increment.amount for increment in denials.increments()] == [5]
    assert denials.increments() == []


# --- the database --------------------------------------------------------------------------------------------------------


async def test_a_database_that_hangs_changes_no_answer_and_loses_no_denial() -> None:
    with own_stores() as (postgres, redis):
        schema = fresh_name()
        await migrate(postgres.url, schema)
        settings = api_settings(
            StoreUrls(postgres.url, redis.url),
            schema,
            auth_enabled=True,
            admin_users=(ADMIN,),
            jwt_secret=SecretStr(SECRET.decode()),
        )
        clock = AheadClock()
        async with Api(settings, clock, front_proof=PROOF).running(()) as api:
            key = bearer(await Authenticated(api, clock).key("viewer"))
            denials: Denials = api.app.state.denials
            assert postgres.process is not None
            with stopped(postgres.process):
                for _ in range(3):
                    writing = asyncio.create_task(denials.write())
                    answer = await api.call("POST", "/tasks", {"task_type": "t"}, headers=key, timeout=REFUSED_S)
                    assert answer.status_code == 403
                    await writing
                await flooded(api, 1_000)
                await denials.write()
                await flooded(api, 1_000)
            # The outcome of a write that was not answered is unknown, so a denial may be counted twice.
            rows = await eventually(lambda: denied(api))
            assert sum(row.data["count"] for row in rows) >= 2_003
            assert sum(row.data["count"] for row in rows if row.principal.startswith("key:")) >= 3
            assert len(rows) <= 5 * (MAX_ROWS + 1), "as many at most for each write"


async def test_authentication_that_is_off_notes_nothing(api: Api) -> None:
    answer = await api.client.get(f"{CP}/tasks", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert api.app.state.denials is None
    assert not [row for row in await api.rows() if row.kind.startswith("auth.")]
