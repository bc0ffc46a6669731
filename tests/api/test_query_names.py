"""Query parameters: an unknown name, an empty filter, a filter given twice and an empty cursor are refused, not ignored."""

from __future__ import annotations

import pytest
import websockets

from tests.support.api import Api

#: (method, path, the end of the sentence)
_UNKNOWN = [
    ("GET", "/tasks?type=echo", "type here; did you mean task_type?"),
    ("GET", "/tasks?detail=queued", "detail here; did you mean status_detail?"),
    ("GET", "/tasks/history?agent=a", "agent here; did you mean agent_id?"),
    ("GET", "/agents?capabilities=a", "capabilities here; did you mean capability?"),
    ("GET", "/dead-letter?task-type=a", "task-type here; did you mean task_type?"),
    ("GET", "/stream?task=a", "task here; did you mean task_id?"),
    ("GET", "/deliberations?state=queued", "state here; did you mean status?"),
    ("GET", "/queue?state=queued", "state here; use limit."),
    ("GET", "/workspaces?state=active", "state here; use cursor, limit."),
    ("POST", "/dead-letter/purge?dry_run=true", "dry_run here; this call takes its fields in the body."),
    ("DELETE", "/agents/a?force=1", "force here; leave it out."),
]


async def test_an_unknown_query_parameter_is_refused_with_the_nearest_one(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a"})
    for method, path, end in _UNKNOWN:
        body = {"task_type": "echo", "filter": {}} if method == "POST" else None
        answer = await api.call(method, path, body)
        assert (answer.status_code, answer.json().get("code")) == (400, "unknown_parameter"), (path, answer.text)
        assert answer.json()["error"] == f"There is no query parameter {end}"
    assert (await api.get("/tasks"))["total"] == 0
    assert (await api.get("/agents?available=false"))["total"] == 1


@pytest.mark.parametrize(
    "query", ["_=1", "workspace_id=default", "token=x", "workspace_id=default&workspace_id=default"]
)
async def test_what_any_call_may_have_in_its_query_passes(api: Api, query: str) -> None:
    for path in ("/tasks", "/agents", "/workspaces", "/stream"):
        assert (await api.call("GET", f"{path}?{query}")).status_code == 200, path
    assert (await api.call("POST", f"/tasks?{query}", {"task_type": "echo"})).status_code == 201
    for path in ("/health", "/metrics", "/stats", "/breakers"):
        assert (await api.call("GET", f"{path}?anything=1")).status_code == 200, "monitors add their own"


async def test_an_agent_id_that_no_agent_can_have_is_refused(api: Api) -> None:
    for path in ("/tasks", "/tasks/history"):
        for agent_id in ("a" * 129, "-a", "a b", "history"):
            answer = await api.call("GET", f"{path}?agent_id={agent_id}")
            assert (answer.status_code, answer.json().get("code")) == (400, "invalid_id"), (path, answer.text)
        assert (await api.get(f"{path}?agent_id={'a' * 128}"))["total"] == 0


async def test_an_empty_filter_and_one_given_twice_are_refused(api: Api) -> None:
    for path in (
        *(
            f"/tasks?{name}="
            for name in ("status", "status_detail", "task_type", "agent_id", "queue", "cursor", "limit")
        ),
        *(f"/agents?{name}=" for name in ("status", "provider", "region", "tag", "capability", "available")),
        *(f"/dead-letter?{name}=" for name in ("task_type", "queue", "reason", "error_contains", "ended_after")),
        *(f"/stream?{name}=" for name in ("task_id", "agent_id", "deliberation_id", "after")),
        "/weights?agents=",
    ):
        answer = await api.call("GET", path, headers={"Accept": "text/event-stream"})
        assert answer.status_code == 400, (path, answer.text)
    twice = await api.call("GET", "/tasks?status=failed&status=pending")
    assert (twice.status_code, twice.json()["code"]) == (400, "repeated_parameter")


@pytest.mark.parametrize(
    "path",
    [
        *(f"/tasks?{name}" for name in ("task_type", "agent_id", "queue")),
        *(f"/agents?{name}" for name in ("provider", "region", "tag", "capability")),
        *(f"/dead-letter?{name}" for name in ("task_type", "queue", "error_contains")),
    ],
)
async def test_a_parameter_that_cannot_be_taken_is_named(api: Api, path: str) -> None:
    name = path.partition("?")[2]
    for value, says, code in (
        ("%00", f"{name}: its value holds a character that cannot be stored (NUL or half a pair).", "invalid_json"),
        ("", f"{name} must have at least 1 character.", "invalid_request"),
        ("x" * 300, f"{name} must have at most ", "invalid_request"),
    ):
        answer = await api.call("GET", f"{path}={value}")
        assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
        assert answer.json()["error"].startswith(says), answer.text


@pytest.mark.parametrize(
    "path",
    [
        *(f"/tasks?{name}" for name in ("task_type", "agent_id", "queue")),
        *(f"/agents?{name}" for name in ("provider", "region", "tag", "capability")),
        *(f"/dead-letter?{name}" for name in ("task_type", "queue")),
    ],
)
async def test_a_filter_that_nobody_can_see_is_refused_by_name(api: Api, path: str) -> None:
    name = path.partition("?")[2]
    for value, says in (
        ("%20", f"{name}: its value must have a character that can be seen."),
        ("%E2%80%8B", f"{name}: its value must have a character that can be seen."),
        ("a%0Ab", f"{name}: its value must be one line without control characters."),
    ):
        answer = await api.call("GET", f"{path}={value}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_name"), answer.text
        assert answer.json()["error"] == says
    assert (await api.call("GET", "/dead-letter?error_contains=%20")).status_code == 200, "errors have blanks"


async def test_an_empty_after_is_refused_but_an_empty_header_is_none(api: Api) -> None:
    described = await api.call("GET", "/stream", headers={"Last-Event-ID": ""})
    assert described.status_code == 200, "browsers mean none"
    with_both = await api.call("GET", "/stream?after=x", headers={"Last-Event-ID": ""})
    assert (with_both.status_code, with_both.json()["code"]) == (400, "invalid_cursor")
    url = api.url.replace("http://", "ws://") + "/ws/control-plane"
    for query in ("after=", "task=a"):
        async with websockets.connect(f"{url}?{query}") as socket:
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008, query
    async with websockets.connect(f"{url}?debate_id=d&token=x") as socket:
        assert "connected" in str(await socket.recv())
