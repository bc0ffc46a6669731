"""A frequent call takes the fast path to its endpoint, any other goes through FastAPI: the answers do not differ."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from serve_app.application import PREFIXES, make_app
from tests.support.api import CP, Api

_numbers = itertools.count()
#: What differs between two runs of the same call.
_VARIES = re.compile(r'"(trace_id|task_id|lease_token|lease_expires_at)":"?[^",}]*"?|task_[0-9A-Za-z]{20,}|\d{10}\.\d+')

#: (path, body as it is sent). One that says {n} gets a number of its own, so that both calls are first calls.
CASES: list[tuple[str, str]] = [
    ("/tasks", '{"task_type": "t"}'),
    ("/tasks", '{"task_type": "t", "payload": {"deep": [1, "ü", null]}, "priority": "high"}'),
    ("/tasks", '{"task_type": "t", "after": ["task_unknown"]}'),
    ("/tasks", '{"task_type": ""}'),
    ("/tasks", '{"task_type": "t", "priority": "soon"}'),
    ("/tasks", '{"task_type": "t", "timeout_seconds": -1}'),
    ("/tasks", '{"task_type": "\\u0000"}'),
    ("/tasks", '{"task_type": "t", "payload": NaN}'),
    ("/tasks", '{"task_type": "t", "payload": ' + "[" * 70 + "]" * 70 + "}"),
    ("/tasks", "[" * 100_000),
    ("/tasks", '{"task_type": "t"'),
    ("/tasks", "[1, 2]"),
    ("/tasks", "null"),
    ("/tasks", ""),
    ("/tasks/batch", '{"tasks": [{"task_type": "a"}, {"task_type": "b"}]}'),
    ("/tasks/batch", '{"tasks": []}'),
    ("/tasks/claim", '{"agent_id": "nobody", "block_ms": 0}'),
    ("/tasks/claim", '{"agent_id": "known", "block_ms": 0}'),
    ("/tasks/claim", '{"agent_id": "known", "block_ms": 0, "max_tasks": 2}'),
    ("/tasks/claim", '{"agent_id": "not an id"}'),
    ("/tasks/unknown/complete", '{"result": 1}'),
    ("/tasks/unknown/complete", ""),
    ("/tasks/unknown/complete", "null"),
    ("/tasks/not%20an%20id/complete", '{"result": 1}'),
    ("/tasks/a%2Fb/complete", '{"result": 1}'),
    ("/tasks//complete", '{"result": 1}'),
    ("/tasks/unknown/fail", '{"error": "e", "error_class": "none"}'),
    ("/tasks/complete", '{"reports": [{"task_id": "unknown", "result": 1}]}'),
    ("/agents/known/heartbeat", ""),
    ("/agents/nobody/heartbeat", "{}"),
    ("/agents/heartbeats", '{"heartbeats": [{"agent_id": "known"}, {"agent_id": "nobody"}]}'),
    ("/agents", '{"agent_id": "new-{n}", "capabilities": ["x"]}'),
    ("/agents", '{"agent_id": "new-{n}", "endpoint": "ftp://x"}'),
    ("/queue/pause", '{"task_type": "p"}'),
    ("/nothing/here/complete", "{}"),
]


async def _ask(api: Api, path: str, body: str, content_type: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    sent = body.replace("{n}", str(next(_numbers))).encode()
    all_headers = {"Content-Type": content_type, **headers} if sent else headers
    answer = await api.client.post(CP + path, content=sent, headers=all_headers)
    text = re.sub(r"new-\d+", "new", _VARIES.sub("...", answer.text))
    kept = {name: value for name, value in answer.headers.items() if name in ("content-type", "retry-after")}
    return answer.status_code, text, kept | {"traced": str("x-trace-id" in answer.headers)}


@pytest.mark.parametrize(("path", "body"), CASES, ids=[f"{path} {body[:50]}" for path, body in CASES])
async def test_fast_path_and_fastapi_answer_alike(api: Api, path: str, body: str) -> None:
    await api.post("/agents", {"agent_id": "known", "capabilities": ["rare"]})
    direct = await _ask(api, path, body, "application/json")
    whole = await _ask(api, path, body, "application/json; charset=utf-8", Origin=api.url)
    assert direct == whole
    assert direct[0] < 500


async def test_fast_path_and_fastapi_read_the_idempotency_key(api: Api) -> None:
    body = {"task_type": "t"}
    first = await api.call("POST", "/tasks", body, headers={"Idempotency-Key": "k"})
    again = await api.call("POST", "/tasks", body, headers={"Idempotency-Key": "k", "Origin": api.url})
    assert first.json() == again.json()
    for key in ("", "x" * 256):
        refused = [
            await api.call("POST", "/tasks", body, headers={"Idempotency-Key": key, **more})
            for more in ({}, {"Origin": api.url})
        ]
        assert [answer.status_code for answer in refused] == [400, 400]
        assert len({answer.json()["code"] for answer in refused}) == 1


async def test_a_chunked_body_is_read_and_an_endless_one_refused(api: Api) -> None:
    async def pieces() -> Any:
        for part in ('{"task_type"', ': "in', ' pieces"}'):
            yield part.encode()

    json_type = {"Content-Type": "application/json"}
    answer = await api.client.post(f"{CP}/tasks", content=pieces(), headers=json_type)
    assert answer.status_code == 201, answer.text

    async def endless() -> Any:
        for _ in range(api.settings.max_body_bytes // 65_536 + 2):
            yield b"x" * 65_536

    refused = await api.client.post(f"{CP}/tasks", content=endless(), headers=json_type)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_every_frequent_route_is_a_fast_path() -> None:
    """And under both prefixes; the method is looked at before the table is."""
    table = make_app().directly()
    for prefix in PREFIXES:
        for path in ("/tasks", "/tasks/claim", "/tasks/*/complete", "/tasks/*/fail", "/agents/*/heartbeat"):
            assert prefix + path in table
    assert not any(path.endswith("/deliberations") for path in table), "it answers with its own status"


async def test_other_methods_of_a_fast_path_go_through_fastapi(api: Api) -> None:
    assert (await api.call("PUT", "/tasks", {"task_type": "t"})).status_code == 405
    assert (await api.get("/agents"))["agents"] == []
