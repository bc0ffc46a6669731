"""What somebody wrote is absent everywhere for whoever lacks `controlplane:payloads.read`, and is there for whoever has it."""

from __future__ import annotations

import json
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
from tests.support.principals import TokenTable, bearer, principal
from tests.support.routes import http_routes
from tests.support.secret_scene import SECRET, Scene, scene

READER, BLIND = bearer("reader"), bearer("blind")


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


def _asked(made: Scene, log_id: int) -> dict[str, str]:
    """Every route that reads, by its template: the path of one of the scene's objects."""
    ids = {
        "agent_id": "worker",
        "request_id": made.request_id,
        "schedule_id": made.schedule,
        "credential_name": "c1",
        "hook_name": "hook",
        "name": "flow",
        "run_id": made.run,
        "subject_id": made.dead,
        **made.objects,
        "snapshot_id": "absent",
        "workspace_id": "w",
        "log_id": log_id,
    }
    asked = {}
    for route in http_routes():
        if route.method == "GET" and route.path.startswith(f"{CP}/"):
            path = route.path.removeprefix(CP)
            task_id = made.dead if "dead-letter" in path else made.done
            asked[path] = path.format(**ids, task_id=task_id)
    return asked


async def test_no_route_that_reads_shows_words_to_the_blind(api: Api, tokens: TokenTable) -> None:
    told: set[str] = set()
    async with scene(api) as made:
        (entry,) = [row.seq for row in await api.rows(made.dead) if row.kind == "task.dead_lettered"]
        for template, path in _asked(made, entry).items():
            seen = await api.call("GET", path, headers=READER)
            blind = await api.call("GET", path, headers=BLIND)
            expected = 403 if template in WORDS_ALONE else seen.status_code
            assert blind.status_code == expected, template
            assert SECRET not in blind.text, template
            if SECRET in seen.text:
                told.add(template)
        for subject in (made.request_id, made.done):
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
    async with scene(api) as made:
        asked: list[tuple[str, dict[str, Any] | None]] = [
            ("/queue/prioritize", {"task_id": made.waiting, "priority": "high"}),
            ("/dead-letter/replay", {"ids": [made.dead], "dry_run": True}),
            (f"/dead-letter/{made.dead}/replay", {"dry_run": True}),
            ("/agents/worker/pause", None),
            (f"/deliberations/{made.request_id}/outcome", {"correct": f"{SECRET} one"}),
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
    async with scene(api):
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
    async with scene(api) as made:
        path = f"/deliberations/{made.request_id}/receipt"
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
