"""Who may do what by the methods of the A2A server, and what they get to see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from a2a.types import ListTasksRequest

from cluster.domain.access.roles import ROLES
from serve_app.auth import shared_limits
from serve_app.http.paging import encode_cursor
from tests.support.a2a_clients import (
    VERSION,
    a2a_client,
    called,
    frames,
    got,
    javascript_client,
    message,
    raw_message,
    refused,
    sent,
    state_of,
    work,
)
from tests.support.api import STARTED
from tests.support.authenticated import Authenticated, authenticated
from tests.support.permission_tables import calls, roles
from tests.support.principals import bearer
from tests.support.probes import eventually
from tests.support.stores import StoreUrls

PUBLIC = "https://control.example.com"
TEXT = [{"text": "secret word"}]


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, STARTED, a2a_enabled=True, public_url=PUBLIC) as door:
        yield door


@pytest.fixture
async def quiet(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    """Without actors, which these calls do not reach."""
    async with authenticated(store_urls, (), a2a_enabled=True, public_url=PUBLIC) as door:
        yield door


async def _objects(door: Authenticated) -> tuple[str, str]:
    """The ids of a task and a deliberation that wait."""
    headers = bearer(await door.key("submitter"))
    async with a2a_client(door.api.url, headers, polling=True, streaming=False) as client:
        task = await sent(client, work({"secret": "word"}, context_id="secret talk"))
        asked = await sent(client, message("Which secret word?", context_id="secret talk"))
    return task.id, asked.id


async def test_each_method_takes_the_permission_of_its_call(door: Authenticated) -> None:
    task_id, request_id = await _objects(door)
    at_once = {"returnImmediately": True}
    methods: list[tuple[str, Any, str]] = [
        ("GetTask", {"id": task_id}, "GET /tasks/{task_id}"),
        ("GetTask", {"id": request_id}, "GET /deliberations/{request_id}"),
        ("ListTasks", {}, "GET /tasks"),
        (
            "SendMessage",
            raw_message(TEXT, configuration=at_once, metadata={"aragora": {"task_type": "t"}}),
            "POST /tasks",
        ),
        ("SendMessage", raw_message(TEXT, configuration=at_once), "POST /deliberations"),
        ("CancelTask", {"id": task_id}, "POST /tasks/{task_id}/cancel"),
        ("CancelTask", {"id": request_id}, "POST /deliberations/{request_id}/cancel"),
    ]
    for role in ROLES:
        headers = {**VERSION, **bearer(await door.key(role))}
        held = roles()[role]
        for method, params, call in methods:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer = await door.api.client.post("/a2a", json=body, headers=headers)
            # What it is called on is looked up first, as a task.
            may = calls()[call] in held and ("id" not in params or calls()["GET /tasks/{task_id}"] in held)
            expected = 200 if may else 403
            assert answer.status_code == expected, (role, method, call, answer.text)


async def test_nothing_of_another_workspace_is_found(door: Authenticated) -> None:
    await door.call("POST", "/workspaces", {"id": "other", "name": "Other"})
    foreign = bearer(await door.key("admin", workspace="other"))
    ids = await _objects(door)
    http = door.api.client
    for each in ids:
        for method in ("GetTask", "CancelTask", "SubscribeToTask"):
            assert (await refused(http, method, {"id": each}, foreign))[0] == -32001
        for method in ("SendMessage", "SendStreamingMessage"):
            assert (await refused(http, method, raw_message(TEXT, taskId=each), foreign))[0] == -32001
    for query in ({}, {"contextId": "secret talk"}, {"contextId": ids[0]}):
        for token in ("", encode_cursor(4e9, "x")):
            listed = await called(http, "ListTasks", {**query, "pageToken": token}, foreign)
            assert listed["result"]["tasks"] == []
    # The same message of another workspace is another one.
    params = raw_message(TEXT, configuration={"returnImmediately": True})
    made = {(await called(http, "SendMessage", params, who))["result"]["task"]["id"] for who in (door.admin, foreign)}
    assert len(made) == 2
    assert (await refused(http, "GetTask", {"id": ids[0], "tenant": "default"}, foreign))[0] == -32602


async def test_words_are_shown_to_those_who_may_read_them(door: Authenticated) -> None:
    ids = await _objects(door)
    viewer = bearer(await door.key("viewer"))
    async with a2a_client(door.api.url, viewer) as client:
        for each in ids:
            task = await got(client, each)
            assert (state_of(task), task.context_id) == ("SUBMITTED", each)
            assert "secret" not in str(task)
        assert "secret" not in str(await client.list_tasks(ListTasksRequest(include_artifacts=True)))
    # Whether a conversation exists is told by what it is called.
    body = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {"contextId": "secret talk"}}
    answer = await door.api.client.post("/a2a", json=body, headers={**VERSION, **viewer})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_who_has_no_credential_that_counts_gets_no_answer(quiet: Authenticated) -> None:
    for headers in ({}, bearer("ara_nobody"), {"Authorization": "Basic eDp5"}):
        # What is no call is not looked at before.
        for content in (b'{"jsonrpc": "2.0", "id": 1, "method": "ListTasks"}', b"{"):
            sent_with = {**VERSION, **headers, "content-type": "application/json"}
            answer = await quiet.api.client.post("/a2a", headers=sent_with, content=content)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert set(answer.json()) == {"error", "code", "trace_id"}
    await quiet.api.app.state.denials.write()
    denials = [row.data for row in await quiet.api.rows() if row.kind == "auth.denied"]
    assert {(denial["route"], denial["call"], denial["status"]) for denial in denials} == {("/a2a", "POST", 401)}
    card = (await quiet.api.client.get("/.well-known/agent-card.json")).json()
    assert card["securitySchemes"]["bearer"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
    assert list(card["securityRequirements"][0]["schemes"]) == ["bearer"]


@pytest.mark.longer
async def test_the_javascript_client_verifies_a_card_with_security_schemes(quiet: Authenticated) -> None:
    verified = (await javascript_client(quiet.api.url))["verified"]
    assert (verified["received"], verified["changed"]) == (True, False)


async def test_a_question_is_answered_by_those_whom_it_names(door: Authenticated) -> None:
    asked = work({"n": 1}, ours={"input_required": {"question": "Go?", "answerers": ["user:boss@example.com"]}})
    async with a2a_client(door.api.url, bearer(await door.key("submitter"))) as client:
        task = await sent(client, asked)
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": raw_message(TEXT, taskId=task.id)}
    answer = await door.api.client.post("/a2a", json=body, headers={**VERSION, **bearer(await door.key("submitter"))})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_an_answerer")


async def test_a_stream_ends_when_its_caller_loses_its_key(door: Authenticated) -> None:
    task_id, _ = await _objects(door)
    made = await door.call("POST", "/keys", {"name": "k", "grants": ["viewer"], "workspaces": ["default"]})
    body = {"jsonrpc": "2.0", "id": "s", "method": "SubscribeToTask", "params": {"id": task_id}}
    headers = {**VERSION, **bearer(made["token"])}

    async def listened() -> str:
        async with httpx.AsyncClient(base_url=door.api.url, timeout=60, verify=False) as http:
            return (await http.post("/a2a", json=body, headers=headers)).text

    listening = asyncio.create_task(listened())
    await eventually(lambda: door.api.gateway.hub._listeners == 1)
    await door.call("DELETE", f"/keys/{made['id']}")
    text = await listening
    assert "event: error" in text
    assert "error" in frames(text)[-1][1]


async def test_a_method_counts_as_one_call_of_its_caller(
    store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)  # a busy machine is not taken for a Redis that is away
    async with authenticated(store_urls, (), a2a_enabled=True, public_url=PUBLIC, rate_limit=1) as door:
        params = raw_message(TEXT, configuration={"returnImmediately": True})
        body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
        headers = {**VERSION, **door.admin}
        begun = await door.api.client.post("/a2a", headers=headers, json=body)
        assert begun.json()["result"]["task"]["status"]["state"] == "TASK_STATE_SUBMITTED"
        over = await door.api.client.post("/a2a", headers=headers, json=body)
        assert (over.status_code, over.json()["code"]) == (429, "rate_limited")
        assert int(over.headers["retry-after"]) >= 1
