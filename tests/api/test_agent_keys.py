"""Keys and tokens that are bound to agents: whatever acts for an agent acts for those alone, by every door."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

from cluster.domain.access.permissions import Permission
from serve_app.auth.admission import permission_of
from tests.support.api import CP
from tests.support.authenticated import Authenticated, authenticated
from tests.support.bearer_tables import own_token
from tests.support.principals import bearer
from tests.support.stores import StoreUrls

#: The fast path, and FastAPI's.
WAYS: tuple[dict[str, str], ...] = ({}, {"Origin": "http://elsewhere"})
ACTING = (Permission.AGENTS_CONNECT, Permission.AGENTS_WRITE, Permission.TASKS_CLAIM)
#: What an operator's key may do besides, which a key of an agent has to be bound for as well.
GRANTS = ("operator",)


def an_agent(agent_id: str) -> dict[str, Any]:
    """It holds several tasks at a time."""
    return {"agent_id": agent_id, "capabilities": [agent_id], "max_concurrency": 64}


@pytest.fixture
async def door(store_urls: StoreUrls) -> AsyncIterator[Authenticated]:
    async with authenticated(store_urls) as running:
        for agent_id in ("own", "foreign"):
            await running.call("POST", "/agents", an_agent(agent_id))
        yield running


async def leased(door: Authenticated, agent_id: str, by: dict[str, str]) -> tuple[str, str]:
    """A task that the agent holds, and its lease token. A report without a token counts if it is by who has claimed."""
    task = {"task_type": "t", "required_capabilities": [agent_id], "max_retries": 9}
    await door.call("POST", "/tasks", task)
    claim = {"agent_id": agent_id, "block_ms": 5000, "max_tasks": 1}
    found = (await door.call("POST", "/tasks/claim", claim, headers=by))["task"]
    return found["id"], found["lease_token"]


def one_report(task_id: str, **fields: Any) -> dict[str, Any]:
    return {"reports": [{"task_id": task_id, **fields}]}


#: Route → calls of it (path and body) about an agent that holds a task under a token. The agents are removed last.
CALLS: dict[str, Any] = {
    "POST /agents": lambda a, t, k: [("/agents", an_agent(a))],
    "POST /agents/batch": lambda a, t, k: [("/agents/batch", {"agents": [an_agent(a)]})],
    "POST /agents/heartbeats": lambda a, t, k: [("/agents/heartbeats", {"heartbeats": [{"agent_id": a}]})],
    "POST /agents/{agent_id}/heartbeat": lambda a, t, k: [(f"/agents/{a}/heartbeat", None)],
    "POST /agents/{agent_id}/pause": lambda a, t, k: [(f"/agents/{a}/pause", None)],
    "POST /agents/{agent_id}/drain": lambda a, t, k: [(f"/agents/{a}/drain", None)],
    "POST /agents/{agent_id}/resume": lambda a, t, k: [(f"/agents/{a}/resume", None)],
    "POST /tasks/claim": lambda a, t, k: [("/tasks/claim", {"agent_id": a, "block_ms": 0})],
    "POST /tasks/{task_id}/extend": lambda a, t, k: [(f"/tasks/{t}/extend", {"lease_token": k})],
    "POST /tasks/{task_id}/chunks": lambda a, t, k: [
        (f"/tasks/{t}/chunks", {"lease_token": k, "first": 1, "chunks": ["so far"]})
    ],
    "POST /tasks/{task_id}/ask": lambda a, t, k: [(f"/tasks/{t}/ask", {"lease_token": k, "question": "Which one?"})],
    "POST /tasks/{task_id}/park": lambda a, t, k: [(f"/tasks/{t}/park", {"lease_token": k, "children": ["task_0"]})],
    "POST /tasks/{task_id}/children": lambda a, t, k: [
        (f"/tasks/{t}/children", {"lease_token": k, "tasks": [{"task_type": "of a child"}]})
    ],
    "POST /tasks/complete": lambda a, t, k: [
        ("/tasks/complete", one_report(t, lease_token=k)),
        ("/tasks/complete", one_report(t, lease_token=k, ask={"question": "Which one?"})),
        ("/tasks/complete", one_report(t, agent_id=a)),
    ],
    "POST /tasks/fail": lambda a, t, k: [("/tasks/fail", one_report(t, agent_id=a, error="no"))],
    "POST /tasks/{task_id}/complete": lambda a, t, k: [
        (f"/tasks/{t}/complete", {"lease_token": k}),
        (f"/tasks/{t}/complete", {"agent_id": a}),
    ],
    "POST /tasks/{task_id}/fail": lambda a, t, k: [
        (f"/tasks/{t}/fail", {"lease_token": k, "error": "no"}),
        (f"/tasks/{t}/fail", {"lease_token": k, "released": True}),
    ],
    "POST /tasks/{task_id}/stopped": lambda a, t, k: [(f"/tasks/{t}/stopped", {"lease_token": k})],
    "DELETE /agents/{agent_id}": lambda a, t, k: [(f"/agents/{a}", None)],
}


def refusal(answer: Any) -> tuple[int, str]:
    """Status and code of a call that was refused, or of the only entry that was."""
    body = answer.json()
    entries = [*body.get("refused", ()), *body.get("results", ())]
    code = entries[0].get("code", "") if entries else body.get("code", "")
    return 403 if entries and code else answer.status_code, code


def test_every_route_that_acts_for_agents_is_in_the_table(door: Authenticated) -> None:
    found = set()
    for context in iter_route_contexts(door.api.app.routes):
        route, whole = context.original_route, context.path or ""
        if not whole.startswith(CP) or not isinstance(route, APIRoute | APIWebSocketRoute):
            continue
        if permission_of(route.endpoint) in ACTING:
            method = "WS" if isinstance(route, APIWebSocketRoute) else next(iter(route.methods or ()))
            found.add(f"{method} {whole.removeprefix(CP)}")
    assert found == {*CALLS, "WS /agents/heartbeats"}


@pytest.mark.parametrize("way", WAYS, ids=("fast path", "FastAPI"))
async def test_a_bound_key_acts_for_its_own_agent_and_no_other(door: Authenticated, way: dict[str, str]) -> None:
    key = {**bearer(await door.key(*GRANTS, agents=["own", "another"])), **way}
    free = {**bearer(await door.key(*GRANTS)), **way}

    async def made(route: str, number: int, agent_id: str, holder: dict[str, str], caller: dict[str, str]) -> Any:
        lease = await leased(door, agent_id, holder) if "/tasks/" in route else ("", "")
        path, body = CALLS[route](agent_id, *lease)[number]
        return await door.api.call(route.split(" ")[0], path, body, headers=caller)

    for route in CALLS:
        for number in range(len(CALLS[route]("", "", ""))):
            answer = await made(route, number, "foreign", free, key)
            assert refusal(answer) == (403, "agent_mismatch"), (route, answer.text)
            assert "another, own" in answer.text
            for agent_id, caller in (("foreign", free), ("own", key)):
                answer = await made(route, number, agent_id, caller, caller)
                if route.endswith("/park"):  # it is let in, and the task has no such child
                    assert refusal(answer) == (400, "unknown_child"), answer.text
                elif route.endswith("/stopped"):  # it is let in, and nobody has told the agent to stop
                    assert refusal(answer) == (409, "lease_lost"), answer.text
                else:
                    assert (answer.is_success, refusal(answer)[1]) == (True, ""), (route, answer.text)


async def test_the_socket_of_heartbeats_takes_those_of_its_own_agent(door: Authenticated) -> None:
    key = bearer(await door.key("agent", agents=["own"]))
    url = door.api.url.replace("http", "ws") + "/api/control-plane/agents/heartbeats"
    async with websockets.connect(url, additional_headers=key) as socket:
        await socket.send(json.dumps({"heartbeats": [{"agent_id": "own"}, {"agent_id": "foreign"}]}))
        data = json.loads(await socket.recv())["data"]
    assert (data["acknowledged"], [entry["code"] for entry in data["refused"]]) == (1, ["agent_mismatch"])


async def test_a_report_that_names_no_agent_is_its_only_agents(door: Authenticated) -> None:
    one = bearer(await door.key("agent", agents=["own"]))
    two = bearer(await door.key("agent", agents=["own", "foreign"]))
    (theirs, _), (mine, _) = await leased(door, "foreign", two), await leased(door, "own", one)
    answer = await door.api.call("POST", f"/tasks/{mine}/complete", headers=two)
    assert (answer.status_code, answer.json()["code"]) == (400, "agent_required")
    answer = await door.api.call("POST", f"/tasks/{theirs}/complete", headers=one)
    assert (answer.status_code, answer.json()["code"]) == (409, "lease_lost"), answer.text
    assert (await door.api.call("POST", f"/tasks/{mine}/complete", headers=one)).status_code == 200


async def test_the_token_of_an_agent_acts_for_it_alone(door: Authenticated) -> None:
    sent = bearer(own_token(door.clock, "agent:own", grants=["agent"], workspaces=["default"]))
    answers = [await door.api.call("POST", f"/agents/{name}/heartbeat", headers=sent) for name in ("own", "foreign")]
    assert [answer.status_code for answer in answers] == [200, 403], [answer.text for answer in answers]


async def test_whoever_is_bound_grants_nothing_that_is_not(door: Authenticated) -> None:
    bound = bearer(await door.key("admin", agents=["own", "another"]))
    key = {"name": "k", "grants": ["viewer"]}
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/keys", key),
        ("POST", "/keys", key | {"agents": ["own", "foreign"]}),
        ("PUT", "/workspaces/default/members", {"subject": "user:a@example.org", "role": "viewer"}),
        ("PUT", "/roles/mine", {"permissions": ["controlplane:tasks.claim"]}),
        ("POST", f"/keys/{(await door.key('viewer')).split('_')[1]}/rotate", None),
    ]
    for method, path, body in calls:
        answer = await door.api.call(method, path, body, headers=bound)
        assert (answer.status_code, answer.json()["code"]) == (403, "exceeds_own"), (path, answer.text)
    made = await door.call("POST", "/keys", key | {"agents": ["own"]}, headers=bound)
    assert made["agents"] == ["own"]
    renewed = await door.call("POST", f"/keys/{made['id']}/rotate", headers=bound)
    assert renewed["agents"] == ["own"]
    listed = {each["id"]: each["agents"] for each in (await door.call("GET", "/keys"))["keys"]}
    assert listed[made["id"]] == ["own"]
    assert None in listed.values()


@pytest.mark.parametrize("agents", [[], ["a b"], "own", [7]])
async def test_agents_of_a_key_are_ids(door: Authenticated, agents: Any) -> None:
    body = {"name": "k", "grants": ["agent"], "agents": agents}
    answer = await door.api.call("POST", "/keys", body, headers=door.admin)
    assert answer.status_code == 400, answer.text
