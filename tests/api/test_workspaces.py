"""Two workspaces at one replica: no answer, list, count, stream or conflict of one says anything about the other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets

from cluster.domain.access.permissions import ALL, OF_THE_SYSTEM
from tests.support.api import CP, Api
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually

OURS, THEIRS = bearer("ours"), bearer("theirs")


@pytest.fixture
def tokens(api: Api) -> TokenTable:
    """``ours`` and ``theirs`` may everything in their workspaces, ``colleague`` too in that of ``ours``."""
    own = ALL - OF_THE_SYSTEM
    table = TokenTable(
        {
            "ours": principal("ours", "w", own),
            "colleague": principal("colleague", "w", own),
            "theirs": principal("theirs", "v", own),
            "everywhere": principal("everywhere", "w", ALL),
        }
    )
    api.app.state.resolver = table
    return table


async def _ended(api: Api, path: str, headers: dict[str, str]) -> None:
    async def ended() -> bool:
        return (await api.get(path, headers=headers))["terminal"] is not None

    await eventually(ended)


# --- ids ---------------------------------------------------------------------------------------------------------------


async def test_a_request_id_of_another_workspace_is_neither_told_nor_taken(api: Api, tokens: TokenTable) -> None:
    def body(question: str) -> dict[str, Any]:
        return {"content": question, "async": True, "request_id": "review-17", "config": {"min_agents": 2}}

    first = await api.call("POST", "/deliberations", body("ours?"), headers=OURS)
    second = await api.call("POST", "/deliberations", body("theirs?"), headers=THEIRS)
    assert (first.status_code, second.status_code) == (202, 202)
    ids = [answer.json()["request_id"] for answer in (first, second)]
    assert ids[0] != ids[1]
    for question, headers, own, foreign in (("ours?", OURS, *ids), ("theirs?", THEIRS, *reversed(ids))):
        for name in ("review-17", own):
            found = await api.get(f"/deliberations/{name}", headers=headers)
            assert (found["request_id"], found["question"]) == (own, question)
        repeat = await api.call("POST", "/deliberations", body(question), headers=headers)
        assert repeat.json()["request_id"] == own
        refused = await api.call("POST", "/deliberations", body("another"), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_conflict")
        for path in ("", "/status", "/transcript", "/receipt"):
            missing = await api.call("GET", f"/deliberations/{foreign}{path}", headers=headers)
            assert (missing.status_code, missing.json()["code"]) == (404, "deliberation_not_found")
        await api.post("/deliberations/review-17/cancel", headers=headers)
        await _ended(api, "/deliberations/review-17", headers)
        transcript = await api.get("/deliberations/review-17/transcript", headers=headers)
        assert transcript["request_id"] == own
        assert transcript["total"] > 0
        receipt = await api.get("/deliberations/review-17/receipt", headers=headers)
        assert receipt["request_id"] == own
        assert question in json.dumps(receipt)


async def test_an_agents_id_is_of_its_workspace(api: Api, tokens: TokenTable) -> None:
    await api.post("/agents", {"agent_id": "a", "model": "ours"}, headers=OURS)
    unknown = await api.call("POST", "/agents/a/heartbeat", None, headers=THEIRS)
    assert unknown.status_code == 404
    claimed = await api.call("POST", "/tasks/claim", {"agent_id": "a"}, headers=THEIRS)
    assert (claimed.status_code, claimed.json()["code"]) == (404, "agent_not_registered")
    await api.post("/agents", {"agent_id": "a", "model": "theirs"}, headers=THEIRS)
    await api.call("DELETE", "/agents/a", headers=THEIRS)
    assert (await api.get("/agents/a", headers=OURS))["model"] == "ours"


async def test_a_task_of_another_workspace_is_no_dependency(api: Api, tokens: TokenTable) -> None:
    task_id = (await api.post("/tasks", {"task_type": "t"}, headers=OURS))["task_id"]
    answers = [
        await api.call("POST", "/tasks", {"task_type": "t", "after": [name]}, headers=THEIRS)
        for name in (task_id, "task_absent")
    ]
    told = [(answer.status_code, answer.json()["code"]) for answer in answers]
    assert told == [(400, "unknown_dependency")] * 2


async def test_a_lease_token_opens_nothing_in_another_workspace(api: Api, tokens: TokenTable) -> None:
    await api.post("/agents", {"agent_id": "a", "capabilities": ["x"]}, headers=OURS)
    await api.post("/agents", {"agent_id": "a", "capabilities": ["x"]}, headers=THEIRS)
    await api.post("/tasks", {"task_type": "t", "payload": "ours"}, headers=OURS)
    assert (await api.post("/tasks/claim", {"agent_id": "a", "block_ms": 0}, headers=THEIRS))["task"] is None
    task = (await api.post("/tasks/claim", {"agent_id": "a"}, headers=OURS))["task"]
    token = {"lease_token": task["lease_token"]}
    for verb, body in (("complete", {"result": 1}), ("fail", {"error": "no"}), ("extend", {}), ("stopped", {})):
        answer = await api.call("POST", f"/tasks/{task['id']}/{verb}", {**token, **body}, headers=THEIRS)
        absent = await api.call(
            "POST", f"/tasks/task_absent/{verb}", body if verb != "extend" else token, headers=THEIRS
        )
        assert answer.status_code == 404, verb
        assert absent.status_code == (409 if verb == "extend" else 404), verb
    batch = {"reports": [{"task_id": task["id"], "result": 1, **token}]}
    (result,) = (await api.post("/tasks/complete", batch, headers=THEIRS))["results"]
    assert (result["ok"], result["code"]) == (False, "task_not_found")
    await api.post(f"/tasks/{task['id']}/complete", {"result": 1, **token}, headers=OURS)


async def test_a_key_gives_no_other_principal_its_answer(api: Api, tokens: TokenTable) -> None:
    """Neither of another workspace nor of the same one."""
    headers = {"Idempotency-Key": "mine"}
    body = {"task_type": "t"}
    ids = [
        (await api.post("/tasks", body, headers={**headers, **bearer(token)}))["task_id"]
        for token in ("ours", "colleague", "theirs", "ours", "colleague")
    ]
    assert len(set(ids)) == 3
    assert ids[:2] == ids[3:]
    in_body = {"task_type": "t", "idempotency_key": "body"}
    first, second = [(await api.post("/tasks", in_body, headers=bearer(t)))["task_id"] for t in ("ours", "colleague")]
    assert first != second
    pause = {"kind": "queue", "name": "q"}
    assert (await api.post("/queue/pause", pause, headers={**headers, **OURS}))["changed_by"] == "user:ours"
    other = await api.call("POST", "/queue/pause", {**pause, "name": "r"}, headers={**headers, **bearer("colleague")})
    assert other.json()["name"] == "r", "another body under another's key is no conflict"


async def test_a_key_of_a_claim_is_its_claim_id(api: Api, tokens: TokenTable) -> None:
    """As the client gave it: errors about the claim name it."""
    await api.post("/agents", {"agent_id": "a", "capabilities": ["x"]}, headers=OURS)
    await api.post("/tasks", {"task_type": "t"}, headers=OURS)
    claims = [
        (await api.post("/tasks/claim", {"agent_id": "a"}, headers={**OURS, "Idempotency-Key": "k"}))["task"]
        for _ in range(2)
    ]
    assert claims[0]["lease_token"] == claims[1]["lease_token"]
    assert [lease.claim_id for lease in await api.stores.tasks.held_by("user:ours")] == ["k"]


# --- lists, numbers, streams ---------------------------------------------------------------------------------------------

LISTS = (
    "/tasks",
    "/tasks/history",
    "/dead-letter",
    "/agents?available=false",
    "/queue",
    "/queue/controls",
    "/deliberations",
)
NUMBERS = ("/stats", "/metrics", "/queue/metrics", "/health", "/breakers", "/weights", "/weights/alarms")


async def _work(api: Api, headers: dict[str, str]) -> None:
    await api.post("/agents", {"agent_id": "agent-of-work", "capabilities": ["x"]}, headers=headers)
    for outcome in ("complete", "fail"):
        await api.post("/tasks", {"task_type": "type-of-work", "max_retries": 0}, headers=headers)
        task = (await api.post("/tasks/claim", {"agent_id": "agent-of-work"}, headers=headers))["task"]
        await api.post(f"/tasks/{task['id']}/{outcome}", {"lease_token": task["lease_token"]}, headers=headers)
    await api.post("/tasks", {"task_type": "type-of-work", "required_capabilities": ["none"]}, headers=headers)
    await api.post("/queue/pause", {"kind": "queue", "name": "queue-of-work"}, headers=headers)
    votes = {"id": "q", "votes": {"agent-of-work": "a"}, "correct": "a"}
    await api.post("/outcomes/batch", {"outcomes": [votes]}, headers=headers)
    await api.post("/deliberations", {"content": "question of work", "async": True}, headers=headers)


async def test_lists_and_numbers_of_an_idle_workspace_know_of_no_work(api: Api, tokens: TokenTable) -> None:
    async def asked(path: str) -> Any:
        answer = await api.get(path, headers=THEIRS)
        for moving in ("uptime_seconds", "last_event_id"):
            answer.pop(moving, None)
        return answer

    before = {path: await asked(path) for path in (*LISTS, *NUMBERS)}
    await _work(api, OURS)
    for path, empty in before.items():
        assert await asked(path) == empty, path
        assert "of-work" not in json.dumps(empty)
        assert "of-work" in json.dumps(await api.get(path, headers=OURS)) or path in NUMBERS or path == "/deliberations"


async def test_a_cursor_of_another_workspace_shows_nothing_of_it(api: Api, tokens: TokenTable) -> None:
    for headers in (OURS, THEIRS):
        for _ in range(3):
            await api.post("/tasks", {"task_type": "t"}, headers=headers)
    page = await api.get("/tasks?limit=1", headers=OURS)
    ours = {task["id"] for task in (await api.get("/tasks", headers=OURS))["tasks"]}
    shown = await api.get(f"/tasks?cursor={page['next_cursor']}", headers=THEIRS)
    assert not ours & {task["id"] for task in shown["tasks"]}


async def test_a_stream_filtered_by_a_foreign_id_stays_silent(api: Api, tokens: TokenTable) -> None:
    task_id = (await api.post("/tasks", {"task_type": "t"}, headers=OURS))["task_id"]
    url = api.url.replace("http", "ws") + f"{CP}/stream?after=0&task_id={task_id}"
    async with websockets.connect(url, additional_headers=THEIRS) as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
        await api.post(f"/tasks/{task_id}/cancel", headers=OURS)
        await socket.send('{"type": "ping"}')
        assert json.loads(await asyncio.wait_for(socket.recv(), 10))["type"] == "pong"


async def test_a_story_ends_at_the_workspaces_edge(api: Api, tokens: TokenTable) -> None:
    """Also that of a trace id, which a client chooses."""
    trace = {"X-Request-ID": "one-trace"}
    ours = (await api.post("/tasks", {"task_type": "t"}, headers={**OURS, **trace}))["task_id"]
    theirs = (await api.post("/tasks", {"task_type": "t"}, headers={**THEIRS, **trace}))["task_id"]
    for headers, own in ((OURS, ours), (THEIRS, theirs)):
        events = (await api.get("/story/one-trace", headers=headers))["events"]
        assert {event["entity"] for event in events} == {own}
    assert (await api.call("GET", f"/story/{ours}", headers=THEIRS)).status_code == 404


async def test_what_concerns_all_workspaces_takes_a_permission_of_the_system(api: Api, tokens: TokenTable) -> None:
    assert (await api.client.get("/metrics", headers=OURS)).status_code == 403
    assert (await api.client.get("/metrics", headers=bearer("everywhere"))).status_code == 200


# --- naming a workspace --------------------------------------------------------------------------------------------------

NAMED: list[tuple[str, str, dict[str, str], Any]] = [
    ("GET", "/tasks", {"X-Aragora-Workspace": "NAMED"}, None),
    ("POST", "/tasks", {"X-Aragora-Workspace": "NAMED"}, {"task_type": "t"}),
    ("GET", "/tasks?workspace_id=NAMED", {}, None),
    ("GET", "/tasks?workspace_ids=NAMED,w", {}, None),
    ("GET", "/tasks?workspac%65_id=NAMED", {}, None),
    ("POST", "/tasks", {}, {"task_type": "t", "workspace_id": "NAMED"}),
    ("POST", "/tasks", {"Origin": "http://elsewhere"}, {"task_type": "t", "workspace_id": "NAMED"}),
    ("POST", "/tasks/batch", {}, {"tasks": [{"task_type": "t"}, {"task_type": "t", "workspace_id": "NAMED"}]}),
    ("DELETE", "/agents/absent?workspace_id=NAMED", {}, None),
]


@pytest.mark.parametrize(("method", "path", "headers", "body"), NAMED, ids=lambda value: str(value)[:40])
async def test_a_call_that_names_another_workspace_is_refused(
    api: Api, tokens: TokenTable, method: str, path: str, headers: dict[str, str], body: Any
) -> None:
    def named(value: Any, workspace: str) -> Any:
        return json.loads(json.dumps(value).replace("NAMED", workspace))

    for workspace, refused in (("v", True), ("w", False)):
        answer = await api.call(
            method,
            path.replace("NAMED", workspace),
            named(body, workspace),
            headers={**named(headers, workspace), **OURS},
        )
        assert (answer.status_code == 403) is refused, answer.text
        if refused:
            assert answer.json()["code"] == "forbidden"
            assert await api.rows() == []


@pytest.mark.parametrize("more", [{}, {"Origin": "http://elsewhere"}], ids=["fast path", "FastAPI"])
async def test_a_name_with_escapes_names_a_workspace_too(api: Api, tokens: TokenTable, more: dict[str, str]) -> None:
    for workspace, status in (("v", 403), ("w", 201)):
        content = '{"task_type": "t", "workspace\\u005fid": "NAMED"}'.replace("NAMED", workspace)
        headers = {**OURS, **more, "Content-Type": "application/json"}
        answer = await api.client.post(f"{CP}/tasks", content=content, headers=headers)
        assert answer.status_code == status, answer.text


async def test_a_stream_that_names_another_workspace_is_refused(api: Api, tokens: TokenTable) -> None:
    url = api.url.replace("http", "ws") + f"{CP}/stream"
    for query, more in (("?workspace_id=v", {}), ("", {"X-Aragora-Workspace": "v"})):
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with websockets.connect(url + query, additional_headers={**OURS, **more}):
                pass
        assert refused.value.response.status_code == 403
    async with websockets.connect(url + "?workspace_id=w", additional_headers=OURS) as socket:
        assert json.loads(await socket.recv())["type"] == "connected"


@pytest.mark.parametrize("header", ["", "a b", "x" * 200])
async def test_a_header_that_is_no_workspace_is_a_bad_request(api: Api, tokens: TokenTable, header: str) -> None:
    answer = await api.call("GET", "/tasks", headers={**OURS, "X-Aragora-Workspace": header})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_id")
