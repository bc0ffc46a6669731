"""Agents with certificates, through the whole application: who is let in, as whom, and for which agent it acts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import websockets
from cryptography import x509
from fastapi.routing import APIRoute, iter_route_contexts

from cluster.domain.access.agent_certificates import DENIED
from cluster.domain.access.permissions import Permission
from cluster.domain.access.workspaces import WorkspaceState
from serve_app.auth.admission import permission_of
from tests.support.api import CP, Api
from tests.support.authorities import Issued, Issuer
from tests.support.bearer_tables import Tables
from tests.support.fronted import agent_certificates, fronted
from tests.support.principals import bearer

ISSUER = Issuer()
WAYS: tuple[dict[str, str], ...] = ({}, {"Origin": "http://elsewhere"})

#: Name of a key → the agents that it is bound to.
BOUND = {"several": ("a-1", "a-2"), "other": ("a-2",)}


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


@pytest.fixture
def tables(api: Api) -> Tables:
    tables = Tables()
    api.app.state.resolver = agent_certificates(tables)
    return tables


async def register(api: Api, agent_id: str, own: Issued) -> None:
    body = {"agent_id": agent_id, "capabilities": ["c"]}
    answer = await api.call("POST", "/agents", body, headers=fronted(own))
    assert answer.status_code == 201, answer.text


async def test_an_agent_works_by_its_certificate_alone_and_keeps_leases(api: Api, tables: Tables) -> None:
    await api.start_scheduler()
    own = ISSUER.agent("a-1")
    await register(api, "a-1", own)
    submitted = await api.call(
        "POST", "/tasks", {"task_type": "t", "capabilities": ["c"]}, headers=bearer(tables.add_key("k"))
    )
    task_id = submitted.json()["task_id"]
    claimed = await api.call("POST", "/tasks/claim", {"agent_id": "a-1", "block_ms": 5000}, headers=fronted(own))
    token = claimed.json()["task"]["lease_token"]
    renewed = ISSUER.agent("a-1")  # another key, another serial number, the same agent
    other = await api.call(
        "POST", f"/tasks/{task_id}/complete", {"lease_token": token}, headers=fronted(ISSUER.agent("a-2"))
    )
    assert (other.status_code, other.json()["code"]) == (403, "agent_mismatch")
    done = await api.call("POST", f"/tasks/{task_id}/complete", {"lease_token": token}, headers=fronted(renewed))
    assert done.status_code == 200, done.text
    assert {(row.workspace, row.principal) for row in await api.rows("a-1")} == {("w", "agent:a-1")}


async def test_a_certificate_ends_by_time_by_number_and_by_principal(api: Api, tables: Tables) -> None:
    own, expired = ISSUER.agent("a-1"), ISSUER.issue([uri("spiffe://aragora/agent/a-1")], ends_in=timedelta(hours=-1))
    await register(api, "a-1", own)

    async def status(shown: Issued) -> int:
        return (await api.call("POST", "/agents/a-1/heartbeat", headers=fronted(shown))).status_code

    assert [await status(own), await status(expired)] == [200, 401]
    tables.revoked.add(f"{DENIED}{own.certificate.serial_number:x}")
    assert [await status(own), await status(ISSUER.agent("a-1"))] == [401, 200]
    tables.since["agent:a-1"] = own.certificate.not_valid_before_utc.timestamp() + 3600
    assert await status(ISSUER.agent("a-1")) == 401


async def test_a_certificate_that_does_not_count_is_refused_in_our_shape(api: Api, tables: Tables) -> None:
    odd = ISSUER.issue(common_name="spiffe://aragora/agent/a-1")
    for way in WAYS:
        answer = await api.call("POST", "/agents/a-1/heartbeat", headers={**fronted(odd), **way})
        assert (answer.status_code, answer.json()["code"]) == (401, "certificate_refused"), answer.text
        forged = await api.call(
            "POST", "/agents/a-1/heartbeat", headers={**fronted(ISSUER.agent("a-1"), "00" * 32), **way}
        )
        assert (forged.status_code, forged.json()["code"]) == (401, "unauthenticated")


async def test_every_route_of_agents_needs_a_certificate(api: Api, tables: Tables) -> None:
    await register(api, "a-1", ISSUER.agent("a-1"))
    worker, operator = bearer(tables.add_key("k", "agent")), bearer(tables.add_key("o", "operator"))
    found = 0
    for context in iter_route_contexts(api.app.routes):
        route, whole = context.original_route, context.path or ""
        if not isinstance(route, APIRoute) or not whole.startswith(CP):
            continue
        permission = permission_of(route.endpoint)
        if permission not in (Permission.AGENTS_CONNECT, Permission.TASKS_CLAIM):
            continue
        found += 1
        path = whole.removeprefix(CP).replace("{agent_id}", "a-1").replace("{task_id}", "t-1")
        for sent in (worker, operator) if permission is Permission.TASKS_CLAIM else (worker,):
            answer = await api.call(next(iter(route.methods or ())), path, {}, headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (401, "certificate_required"), path
    assert found >= 10
    beats = await api.call("POST", "/agents/heartbeats", {"heartbeats": [{"agent_id": "a-1"}]}, headers=operator)
    assert [entry["code"] for entry in beats.json()["refused"]] == ["certificate_required"]
    beat = await api.call("POST", "/agents/a-1/heartbeat", headers=operator)
    assert beat.json()["code"] == "certificate_required"


async def test_an_operator_registers_and_removes_agents_without_one(api: Api, tables: Tables) -> None:
    operator = bearer(tables.add_key("o", "operator"))
    assert (await api.call("POST", "/agents", {"agent_id": "a-3"}, headers=operator)).status_code == 201
    assert (await api.call("DELETE", "/agents/a-3", headers=operator)).status_code == 200


async def test_an_operator_of_a_suspended_workspace_reads_that_it_is_suspended(api: Api, tables: Tables) -> None:
    worker, operator = bearer(tables.add_key("k", "agent")), bearer(tables.add_key("o", "operator"))
    tables.workspaces["w"] = replace(tables.workspaces["w"], state=WorkspaceState.SUSPENDED)
    for method, path, body in (("POST", "/agents", {"agent_id": "a-3"}), ("DELETE", "/agents/a-3", None)):
        answer = await api.call(method, path, body, headers=operator)
        assert (answer.status_code, answer.json()["code"]) == (403, "workspace_suspended"), path
        answer = await api.call(method, path, body, headers=worker)
        assert (answer.status_code, answer.json()["code"]) == (401, "certificate_required"), path
    answer = await api.call("POST", "/tasks/claim", {"agent_id": "a-1"}, headers=operator)
    assert answer.json()["code"] == "certificate_required", "nobody claims without one"


async def test_a_certificate_acts_for_its_own_agent_only(api: Api, tables: Tables) -> None:
    await api.start_scheduler()
    own = ISSUER.agent("a-1")
    for agent_id in ("a-1", "a-2"):
        await register(api, agent_id, ISSUER.agent(agent_id))
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/agents", {"agent_id": "a-2"}),
        ("POST", "/agents/batch", {"agents": [{"agent_id": "a-1"}, {"agent_id": "a-2"}]}),
        ("DELETE", "/agents/a-2", None),
        ("POST", "/agents/a-2/heartbeat", None),
        ("POST", "/tasks/claim", {"agent_id": "a-2"}),
        ("POST", "/tasks/t-1/complete", {"agent_id": "a-2"}),
        ("POST", "/tasks/t-1/fail", {"agent_id": "a-2"}),
        ("POST", "/tasks/t-1/stopped", {"agent_id": "a-2"}),
    ]
    for headers in (fronted(own), {**fronted(own), **bearer(tables.add_key("k", "agent"))}):
        for method, path, body in calls:
            answer = await api.call(method, path, body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "agent_mismatch"), (path, answer.text)
        many = [{"agent_id": "a-1"}, {"agent_id": "a-2"}]
        beats = (await api.call("POST", "/agents/heartbeats", {"heartbeats": many}, headers=headers)).json()
        assert (beats["acknowledged"], [entry["code"] for entry in beats["refused"]]) == (1, ["agent_mismatch"])
        reports = {"reports": [{"task_id": "t-1", "agent_id": "a-2"}]}
        results = (await api.call("POST", "/tasks/complete", reports, headers=headers)).json()["results"]
        assert [result["code"] for result in results] == ["agent_mismatch"]


async def test_a_bound_key_and_a_certificate_both_have_to_allow_the_agent(api: Api, tables: Tables) -> None:
    for agent_id in ("a-1", "a-2"):
        await register(api, agent_id, ISSUER.agent(agent_id))
    own = fronted(ISSUER.agent("a-1"))
    several, other = (bearer(tables.add_key(name, "agent", agents=agents)) for name, agents in BOUND.items())
    statuses = [
        [
            (await api.call("POST", f"/agents/{name}/heartbeat", headers={**own, **key})).status_code
            for name in ("a-1", "a-2")
        ]
        for key in (several, other)
    ]
    assert statuses == [[200, 403], [403, 403]]


async def test_an_operator_that_shows_a_certificate_manages_its_own_agent(api: Api, tables: Tables) -> None:
    for agent_id in ("a-1", "a-2"):
        await register(api, agent_id, ISSUER.agent(agent_id))
    tables.bind("agent:a-1", "operator")
    own = fronted(ISSUER.agent("a-1"))
    answers = [await api.call("POST", f"/agents/{name}/pause", headers=own) for name in ("a-1", "a-2")]
    assert [answer.status_code for answer in answers] == [200, 403], [answer.text for answer in answers]


async def test_heartbeats_of_a_socket_end_with_the_certificate(api: Api, tables: Tables) -> None:
    own = ISSUER.agent("a-1")
    await register(api, "a-1", own)
    url = api.url.replace("http", "ws") + "/api/control-plane/agents/heartbeats"
    async with websockets.connect(url, additional_headers=fronted(own)) as socket:
        await socket.send(json.dumps({"agent_id": "a-1"}))
        assert json.loads(await socket.recv())["data"]["acknowledged"] == 1
        tables.revoked.add(f"{DENIED}{own.certificate.serial_number:x}")
        await socket.send(json.dumps({"agent_id": "a-1"}))
        assert json.loads(await socket.recv())["data"]["acknowledged"] == 0


async def test_roles_that_are_bound_to_an_agent_replace_its_own(api: Api, tables: Tables) -> None:
    own = fronted(ISSUER.agent("a-1"))
    assert (await api.call("GET", "/agents", headers={**own, "X-Aragora-Workspace": "v"})).status_code == 403
    tables.bind("agent:a-1", "agent", "v")
    assert (await api.call("POST", "/agents", {"agent_id": "a-1"}, headers=own)).status_code == 201
    assert {row.workspace for row in await api.rows("a-1")} == {"v"}
    # A key says for whom a call is made, and the certificate by which agent.
    both = {**own, **bearer(tables.add_key("k", "agent"))}
    assert (await api.call("POST", "/agents", {"agent_id": "a-1"}, headers=both)).status_code == 201
    assert {row.workspace for row in await api.rows("a-1")} == {"v", "w"}
    wrong = {**own, **bearer("ara_nonsense")}
    assert (await api.call("POST", "/agents", {"agent_id": "a-1"}, headers=wrong)).status_code == 401
