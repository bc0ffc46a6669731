"""What somebody wrote is absent everywhere for whoever lacks `controlplane:payloads.read`, and is there for whoever has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import websockets

from cluster.domain.access.permissions import ALL, Permission
from cluster.domain.base.log import FIRST_FORM, LogRecord, LogRow
from serve_app.auth import words
from serve_app.openapi import classes
from serve_app.openapi.classes import RULES, FieldClass, calls, walk
from serve_app.streams.hub import frame
from tests.support.api import CP, Api
from tests.support.models import models, register, vote
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.routes import http_routes

#: In everything that this scene writes for somebody else, and in nothing else.
SECRET = "zanzibar"
READER, BLIND = bearer("reader"), bearer("blind")


@dataclass
class Scene:
    done: str
    dead: str
    waiting: str
    request_id: str
    schedule: str
    run: str
    objects: dict[str, str]


def _says(model: str, _: str) -> str:
    return vote(f"{SECRET} one" if model != "b" else f"{SECRET} two", f"{SECRET}, thinks {model}")


async def _one_question(api: Api) -> dict[str, Any] | None:
    found = (await api.get("/questions"))["questions"]
    return found[0] if found else None


@asynccontextmanager
async def _scene(api: Api) -> AsyncIterator[Scene]:
    """Tasks and a deliberation in their ends, all of whose words are secret."""
    private = {"payload": {"text": SECRET}, "metadata": {"name": SECRET, "document_count": SECRET, "tags": [SECRET]}}
    await api.post("/agents", {"agent_id": "worker", "capabilities": ["x"], "options": {"prompt": SECRET}})
    ids = []
    for verb, end in (("complete", {"result": {"text": SECRET}}), ("fail", {"error": SECRET})):
        await api.post("/tasks", {"task_type": "t", "required_capabilities": ["x"], "max_retries": 0, **private})
        task = (await api.post("/tasks/claim", {"agent_id": "worker"}))["task"]
        report = {"lease_token": task["lease_token"], "percent": 5, "message": SECRET, "checkpoint": {"text": SECRET}}
        await api.post(f"/tasks/{task['id']}/extend", report)
        await api.post(f"/tasks/{task['id']}/{verb}", {**end, "lease_token": task["lease_token"]})
        ids.append(task["id"])
    waiting = (await api.post("/tasks", {"task_type": "t", "required_capabilities": ["y"], **private}))["task_id"]
    async with models(_says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        options = [f"{SECRET} one", f"{SECRET} two"]
        asking = {"when": "always", "question": SECRET}
        config = {"options": options, "agents": ["a", "b", "c"], "ask_person": asking}
        asked = await api.post("/deliberations", {"content": f"{SECRET}?", "config": config, "async": True})
        question = await eventually(lambda: _one_question(api))
        await api.post(f"/tasks/{question['task_id']}/answer", {"verdict": "approve"})
        result = (await api.get(f"/deliberations/{asked['request_id']}?wait=20"))["result"]
        assert (result["terminal"], result["decided_by"]) == ("DECIDED", "person")
        body = {"cron": "@daily", "task": {"task_type": "echo", **private}}
        schedule = (await api.post("/schedules", body))["schedule_id"]
        await api.post("/credentials", {"name": "c1", "secret": SECRET})
        steps = [{"id": "a", "task": {"task_type": "t", "input": SECRET}}]
        await api.post("/workflows", {"name": "flow", "description": SECRET, "steps": steps})
        run = await api.post("/workflows/flow/runs", {"input": SECRET, "metadata": {"note": SECRET}})
        wordy = {"task_type": "t", "metadata": {"note": SECRET}}
        await api.post("/hooks", {"name": "hook", "task": wordy, "input": {"text": SECRET}})
        mail = {"kind": "email", "host": "127.0.0.1", "port": 1, "sender": f"{SECRET}@example.com", "tls": "none"}
        await api.post("/notifications/channels", {"name": "c", **mail, "recipients": [f"{SECRET}@example.com"]})
        told = (await api.post("/notifications/channels/c/test"))["notification_id"]
        wordy = {"name": "No night runs", "description": SECRET, "metadata": {"note": SECRET}}
        policy = await api.post("/policies", {**wordy, "task_types": ["nightly"], "deny_when": "true"})
        refused = await api.call("POST", "/tasks", {"task_type": "nightly", **private})
        assert refused.status_code == 403
        (violation,) = (await api.get("/policies/violations"))["violations"]
        notes = {"status": "resolved", "resolution_notes": SECRET}
        assert (await api.call("PATCH", f"/policies/violations/{violation['id']}", notes)).is_success
        budget = {"name": "Night runs", "limit_usd": "9", "estimate_usd": "1", "scope": "agent", "subject": "nobody"}
        budget_id = (await api.post("/budgets", budget))["id"]
        objects = {
            "budget_id": budget_id,
            "notification_id": told,
            "policy_id": policy["id"],
            "violation_id": violation["id"],
        }
        yield Scene(*ids, waiting, result["request_id"], schedule, run["run_id"], objects)


#: Routes whose answers are nothing but words: they ask for the permission themselves.
WORDS_ALONE = {"/tasks/{task_id}/chunks", "/tasks/{task_id}/chunks/stream"}


@pytest.fixture
def tokens(api: Api) -> TokenTable:
    table = TokenTable(
        {
            "reader": principal("reader", permissions=ALL),
            "blind": principal("blind", permissions=ALL - {Permission.PAYLOADS_READ}),
        }
    )
    api.app.state.resolver = table
    api.client.headers.update(READER)
    return table


def _asked(scene: Scene, log_id: int) -> dict[str, str]:
    """Every route that reads, by its template: the path of one of the scene's objects."""
    ids = {
        "agent_id": "worker",
        "request_id": scene.request_id,
        "schedule_id": scene.schedule,
        "credential_name": "c1",
        "hook_name": "hook",
        "name": "flow",
        "run_id": scene.run,
        "subject_id": scene.dead,
        **scene.objects,
        "snapshot_id": "absent",
        "workspace_id": "w",
        "log_id": log_id,
    }
    asked = {}
    for route in http_routes():
        if route.method == "GET" and route.path.startswith(f"{CP}/"):
            path = route.path.removeprefix(CP)
            task_id = scene.dead if "dead-letter" in path else scene.done
            asked[path] = path.format(**ids, task_id=task_id)
    return asked


async def test_no_route_that_reads_shows_words_to_the_blind(api: Api, tokens: TokenTable) -> None:
    told: set[str] = set()
    async with _scene(api) as scene:
        (entry,) = [row.seq for row in await api.rows(scene.dead) if row.kind == "task.dead_lettered"]
        for template, path in _asked(scene, entry).items():
            seen = await api.call("GET", path, headers=READER)
            blind = await api.call("GET", path, headers=BLIND)
            expected = 403 if template in WORDS_ALONE else seen.status_code
            assert blind.status_code == expected, template
            assert SECRET not in blind.text, template
            if SECRET in seen.text:
                told.add(template)
        for subject in (scene.request_id, scene.done):
            assert SECRET not in (await api.call("GET", f"/story/{subject}", headers=BLIND)).text
            assert (await api.get(f"/story/{subject}", headers=BLIND))["events"]
    assert told >= {
        "/tasks",
        "/tasks/history",
        "/tasks/{task_id}",
        "/tasks/{task_id}/events",
        "/queue",
        "/dead-letter",
        "/dead-letter/{task_id}",
        "/schedules",
        "/schedules/{schedule_id}",
        "/hooks",
        "/hooks/{hook_name}",
        "/workflows",
        "/workflows/{name}",
        "/workflow-runs",
        "/workflow-runs/{run_id}",
        "/deliberations",
        "/deliberations/{request_id}",
        "/deliberations/{request_id}/transcript",
        "/deliberations/{request_id}/receipt",
        "/agents/{agent_id}",
        "/audit",
        "/audit-logs",
        "/audit-logs/{log_id}",
        "/story/{subject_id}",
    }, "the scene would not notice a word there"


async def test_no_change_is_answered_with_words_to_the_blind(api: Api, tokens: TokenTable) -> None:
    async with _scene(api) as scene:
        asked: list[tuple[str, dict[str, Any] | None]] = [
            ("/queue/prioritize", {"task_id": scene.waiting, "priority": "high"}),
            ("/dead-letter/replay", {"ids": [scene.dead], "dry_run": True}),
            (f"/dead-letter/{scene.dead}/replay", {"dry_run": True}),
            ("/agents/worker/pause", None),
            (f"/deliberations/{scene.request_id}/outcome", {"correct": f"{SECRET} one"}),
        ]
        for path, body in asked:
            for more in ({}, {"Origin": "http://elsewhere"}):  # by the fast path and by FastAPI
                blind = await api.call("POST", path, body, headers={**BLIND, **more})
                assert blind.is_success, blind.text
                assert SECRET not in blind.text, path
            assert SECRET in (await api.call("POST", path, body, headers=READER)).text, path


async def test_a_search_in_errors_takes_the_permission_to_read_them(api: Api, tokens: TokenTable) -> None:
    """Else the number of matches would tell them, letter by letter."""
    chosen = {"filter": {"error_contains": "z"}, "dry_run": True}
    asked = [("GET", "/dead-letter?error_contains=z", None)]
    asked += [("POST", f"/dead-letter/{verb}", chosen) for verb in ("replay", "purge")]
    for method, path, body in asked:
        assert (await api.call(method, path, body, headers=BLIND)).status_code == 403, path
        assert (await api.call(method, path, body, headers=READER)).is_success, path


async def test_streams_carry_no_words_to_the_blind(api: Api, tokens: TokenTable) -> None:
    async with _scene(api):
        newest = (await api.rows())[-1].seq
        socket_url = api.url.replace("http", "ws") + f"{CP}/stream?after=0"
        for headers, told in ((BLIND, False), (READER, True)):
            async with websockets.connect(socket_url, additional_headers=headers) as socket:
                frames = [json.loads(await socket.recv())]
                while frames[-1].get("seq", 0) < newest:
                    frames.append(json.loads(await socket.recv()))
            assert (SECRET in json.dumps(frames)) is told
            accepting = {**headers, "Accept": "text/event-stream"}
            text = ""
            async with api.client.stream("GET", f"{CP}/stream?after=0", headers=accepting) as answer:
                async for line in answer.aiter_lines():
                    text += line
                    if f'"seq": {newest}' in line:
                        break
            assert (SECRET in text) is told


async def test_a_long_list_shows_no_words_to_the_blind_either(
    api: Api, tokens: TokenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "LONG_BYTES", 1)
    await api.post("/tasks", {"task_type": "t", "payload": SECRET})
    blind = await api.call("GET", "/tasks", headers=BLIND)
    assert (blind.json()["total"], blind.headers["content-type"]) == (1, "application/json")
    assert SECRET not in blind.text
    assert int(blind.headers["content-length"]) == len(blind.content)


async def test_an_agent_sees_what_it_is_leased_and_nothing_else(api: Api, tokens: TokenTable) -> None:
    tokens.table["agent"] = principal(
        "agent", permissions={Permission.TASKS_CLAIM, Permission.AGENTS_CONNECT, Permission.TASKS_READ}
    )
    await api.post("/agents", {"agent_id": "w", "capabilities": ["x"]})
    body = {"task_type": "t", "required_capabilities": ["x"], "payload": SECRET, "metadata": {"name": SECRET}}
    task_id = (await api.post("/tasks", body))["task_id"]
    for more in ({}, {"Origin": "http://elsewhere"}):
        claim = {"agent_id": "w", "claim_id": "c"}
        task = (await api.post("/tasks/claim", claim, headers={**bearer("agent"), **more}))["task"]
        assert (task["payload"], task["metadata"]) == (SECRET, {"name": SECRET})
    assert SECRET not in (await api.call("GET", f"/tasks/{task_id}", headers=bearer("agent"))).text


async def test_a_receipt_without_texts_is_what_was_signed_about_them(api: Api, tokens: TokenTable) -> None:
    async with _scene(api) as scene:
        path = f"/deliberations/{scene.request_id}/receipt"
        whole, head = await api.get(path, headers=READER), await api.get(path, headers=BLIND)
    assert (head["head"], head["signature"], head["receipt_id"]) == (
        whole["head"],
        whole["signature"],
        whole["receipt_id"],
    )
    assert not {"contract", "events", "input_summary", "input_hash", "dissenting_views"} & set(head)


async def test_details_of_the_parts_take_a_permission_of_the_system(api: Api, tokens: TokenTable) -> None:
    tokens.table["tenant"] = principal("tenant", permissions=ALL - {Permission.SYSTEM_READ})
    for path in ("/health/detailed", f"{CP}/health/detailed"):
        whole = (await api.client.get(path, headers=READER)).json()
        partly = (await api.client.get(path, headers=bearer("tenant"))).json()
        assert {name for part in whole["components"] for name in part} >= {"name", "status", "latency_ms"}
        assert {name for part in partly["components"] for name in part} == {"name", "status"}


# --- classes -------------------------------------------------------------------------------------------------------------


def _classes() -> list[FieldClass]:
    found: list[FieldClass] = []
    for call, answers in calls():
        for schema in answers.values():
            walk(schema, call, found.append)
    return found


def test_every_field_of_every_answer_is_in_a_class() -> None:
    """A new field that can hold words is withheld until somebody has decided: add it to serve_app/openapi/classes.py."""
    assert sorted({found.name for found in _classes() if not found.is_listed}) == []


def test_the_tables_of_classes_name_fields_that_exist_once_each() -> None:
    listed = [name for table in classes._TABLES.values() for name in table]
    assert len(listed) == len(set(listed))
    assert set(listed) - {found.name for found in _classes()} == set()


def test_a_field_that_is_in_no_class_is_withheld() -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}, "note": {"type": "string"}}}
    rule = walk(schema, "GET /new")
    answer = {"count": 1, "note": SECRET, "undocumented": SECRET}
    assert rule.applied(answer, frozenset()) == {"count": 1}
    assert rule.permissions == {Permission.PAYLOADS_READ}


def test_public_routes_withhold_nothing() -> None:
    """Their callers are not asked who they are."""
    public = [route for route in http_routes() if route.endpoint.permission is Permission.PUBLIC]
    for route in public:
        short = route.path.removeprefix(CP)
        call = f"{route.method} {short}" if route.path.startswith("/api/") else f"ROOT {route.method} {short}"
        assert not any(rule.permissions for rule in RULES.get(call, {}).values()), route


def test_every_guarded_route_has_rules() -> None:
    known = set(RULES)
    for route in http_routes():
        if route.path.startswith(CP):
            assert f"{route.method} {route.path.removeprefix(CP)}" in known, route


def test_a_row_of_the_first_form_shows_no_text_to_the_blind() -> None:
    data = {"agent_id": "w", "result_summary": SECRET, "priority": 50, "ok": True, "none": None}
    row = LogRow(
        seq=1, at=1.0, workspace="w", kind="task.completed", entity="t1", attempt=1, principal="p", data=data, digest=b"",
        v=FIRST_FORM,
    )  # fmt: skip
    blind = frame(row, words=False)
    assert SECRET not in json.dumps(blind)
    assert blind["data"] == {"priority": 50, "ok": True, "none": None, "task_id": "t1", "attempt": 1}
    assert frame(row, words=True)["data"]["result_summary"] == SECRET


async def test_rows_about_access_are_for_those_who_may_read_it(api: Api, tokens: TokenTable) -> None:
    tokens.table["viewer"] = principal("viewer", permissions=ALL - {Permission.ACCESS_READ})
    record = LogRecord(at=1.0, workspace="w", kind="access.role_bound", entity="user:ann", cause="one-trace")
    await api.stores.log.append([record])
    trace = {"X-Request-ID": "one-trace"}
    await api.post("/tasks", {"task_type": "t"}, headers=trace)
    for name, told in (("viewer", False), ("reader", True)):
        kinds = [event["type"] for event in (await api.get("/story/one-trace", headers=bearer(name)))["events"]]
        assert ("access.role_bound" in kinds) is told
        url = api.url.replace("http", "ws") + f"{CP}/stream?after=0"
        async with websockets.connect(url, additional_headers=bearer(name)) as socket:
            frames = [json.loads(await socket.recv())["type"]]
            while frames[-1] != "task_submitted":
                frames.append(json.loads(await socket.recv())["type"])
        assert ("access_role_bound" in frames) is told
