"""Who may do what by the tools of the MCP server, and what they get to see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import Client

from cluster.domain.access.roles import ROLES
from serve_app.auth import shared_limits
from serve_app.mcp.tools import TOOLS
from tests.support.api import STARTED
from tests.support.authenticated import Authenticated, authenticated
from tests.support.mcp_clients import GENERATIONS, at_its_end, called, mcp_client, refused, sent
from tests.support.permission_tables import calls, roles
from tests.support.principals import bearer
from tests.support.stores import StoreUrls

#: Tool → its first call in docs/permissions.md, and arguments that it takes of objects of the workspace.
FIRST: dict[str, tuple[str, dict[str, Any]]] = {
    "deliberate": ("POST /deliberations", {"content": "Which?", "wait": 0}),
    "submit_task": ("POST /tasks", {"task_type": "t"}),
    "task_status": ("GET /tasks/{task_id}", {"task_id": ""}),
    "task_result": ("GET /deliberations/{request_id}", {"deliberation_id": ""}),
    "receipt": ("GET /deliberations/{request_id}/receipt", {"deliberation_id": ""}),
    "explain": ("GET /tasks/{task_id}/explain", {"task_id": ""}),
    "list_agents": ("GET /agents", {}),
    "cancel": ("POST /tasks/{task_id}/cancel", {"task_id": ""}),
}
LIST: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls, STARTED, mcp_enabled=True) as door:
        yield door


@pytest.fixture
async def quiet(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    """Without actors, which these calls do not reach."""
    async with authenticated(store_urls, (), mcp_enabled=True) as door:
        yield door


async def _objects(client: Client) -> dict[str, str]:
    """The ids of a task that waits and a deliberation that has ended."""
    task = await called(client, "submit_task", task_type="t", payload={"secret": "word"})
    deliberation = await called(client, "deliberate", content="Which secret word?", wait=0)
    named = {"deliberation_id": deliberation["deliberation_id"]}
    await called(client, "cancel", **named)
    await at_its_end(client, **named)
    return {**task, **named}


def _arguments(given: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
    return {name: ids.get(name, value) for name, value in given.items()}


async def test_each_tool_takes_the_permission_of_its_call(door: Authenticated) -> None:
    assert set(FIRST) == set(TOOLS)
    url = door.api.url
    async with mcp_client(url, headers=bearer(await door.key("submitter"))) as client:
        ids = await _objects(client)
    for role in ROLES:
        async with mcp_client(url, headers=bearer(await door.key(role))) as client:
            for tool, (call, given) in FIRST.items():
                result = await client.call_tool(tool, _arguments(given, ids))
                is_denied = result.is_error and result.structured_content["code"] == "forbidden"
                assert is_denied != (calls()[call] in roles()[role]), (role, tool, result.structured_content)


async def test_nothing_of_another_workspace_is_found(door: Authenticated) -> None:
    await door.call("POST", "/workspaces", {"id": "other", "name": "Other"})
    own, foreign = bearer(await door.key("admin")), bearer(await door.key("admin", workspace="other"))
    async with mcp_client(door.api.url, headers=own) as client:
        ids = await _objects(client)
    for generation in GENERATIONS:
        async with mcp_client(door.api.url, generation, foreign) as client:
            for tool in ("task_status", "task_result", "explain", "cancel"):
                assert (await refused(client, tool, task_id=ids["task_id"]))["code"] == "task_not_found"
            for tool in ("task_status", "task_result", "receipt", "cancel"):
                error = await refused(client, tool, deliberation_id=ids["deliberation_id"])
                assert error["code"] == "deliberation_not_found"
            assert (await called(client, "list_agents"))["total"] == 0
    # The key of another workspace does not act in the one that it names.
    headers = sent("2025-06-18", **foreign, x_aragora_workspace="default")
    assert (await door.api.client.post("/mcp", headers=headers, json=LIST)).status_code == 403


async def test_words_are_shown_to_those_who_may_read_them(door: Authenticated) -> None:
    async with mcp_client(door.api.url, headers=bearer(await door.key("submitter"))) as client:
        ids = await _objects(client)
        assert "reasoning" in (await called(client, "task_result", deliberation_id=ids["deliberation_id"]))["result"]
    async with mcp_client(door.api.url, headers=bearer(await door.key("viewer"))) as client:
        for tool, (call, given) in FIRST.items():
            if not call.startswith("GET"):
                continue
            result = await client.call_tool(tool, _arguments(given, ids))
            assert not result.is_error
            assert "secret" not in str(result)
        assert set(await called(client, "task_result", task_id=ids["task_id"])) == {"task_id", "ended", "status"}
        record = await client.read_resource(f"aragora://deliberations/{ids['deliberation_id']}")
        assert "secret" not in str(record)


async def test_who_has_no_credential_that_counts_gets_no_answer(quiet: Authenticated) -> None:
    for headers in ({}, bearer("ara_nobody"), {"Authorization": "Basic eDp5"}):
        # What is no message is not looked at before.
        for body in ({"json": LIST}, {"content": b"{"}):
            answer = await quiet.api.client.post("/mcp", headers=sent("2025-06-18", **headers), **body)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert set(answer.json()) == {"error", "code", "trace_id"}
    await quiet.api.app.state.denials.write()
    denials = [row.data for row in await quiet.api.rows() if row.kind == "auth.denied"]
    assert {(denial["route"], denial["call"], denial["status"]) for denial in denials} == {("/mcp", "POST", 401)}
    assert sum(denial["count"] for denial in denials) == 6


async def test_a_denied_tool_is_in_the_log_by_its_route(quiet: Authenticated) -> None:
    async with mcp_client(quiet.api.url, headers=bearer(await quiet.key("viewer"))) as client:
        error = await refused(client, "submit_task", task_type="t")
    await quiet.api.app.state.denials.write()
    (row,) = [row for row in await quiet.api.rows() if row.kind == "auth.denied"]
    assert (row.data["route"], row.data["code"], row.cause) == ("/tasks", "forbidden", error["trace_id"])


async def test_a_host_of_any_name_is_called_with_a_key(quiet: Authenticated) -> None:
    headers = {**bearer(await quiet.key("viewer")), "host": "control.example.com"}
    answer = await quiet.api.client.post("/mcp", headers=sent("2025-06-18", **headers), json=LIST)
    assert answer.status_code == 200
    assert len(answer.json()["result"]["tools"]) == len(TOOLS)


async def test_a_tool_counts_as_one_call_of_its_caller(store_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_limits, "WAIT_S", 60.0)  # a busy machine is not taken for a Redis that is away
    async with authenticated(store_urls, (), mcp_enabled=True, rate_limit=1) as door:
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        params = {"name": "deliberate", "arguments": {"content": "Which?", "wait": 0}}
        headers = sent("2025-06-18", **door.admin)
        begun = await door.api.client.post("/mcp", headers=headers, json={**call, "params": params})
        assert begun.json()["result"]["structuredContent"]["status"] == "pending"
        over = await door.api.client.post("/mcp", headers=headers, json={**call, "params": params})
        assert (over.status_code, over.json()["code"]) == (429, "rate_limited")
        assert int(over.headers["retry-after"]) >= 1
