"""Every wrong call is answered 4xx in one shape, and leaves no stack trace in the log."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from cluster.domain.base.ids import ROUTE_WORDS
from cluster.domain.tasks.task import LeaseToken
from serve_app.application import make_app
from tests.support.api import CP, Api

JSON = {"Content-Type": "application/json"}
DEEP = "[" * 500 + "]" * 500
VERY_DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "9" * 5000


@dataclass(frozen=True)
class Wrong:
    """``body`` is sent as it is if it is bytes, else as JSON (which writes NaN and lone surrogates too)."""

    method: str
    path: str
    body: Any = None
    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()

    def content(self) -> bytes | None:
        if self.body is None or isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body).encode()

    def __str__(self) -> str:
        shown = "" if self.body is None else str(self.body)[:80]
        return f"{self.method} {self.path[:60]} {shown} {self.headers}"


#: A body that is accepted, for every route that takes one, and the fields that are text in it.
GOOD: dict[str, dict[str, Any]] = {
    f"{CP}/agents": {"agent_id": "a9"},
    f"{CP}/agents/batch": {"agents": [{"agent_id": "a9"}]},
    f"{CP}/agents/heartbeats": {"heartbeats": [{"agent_id": "a1"}]},
    f"{CP}/agents/a1/heartbeat": {},
    f"{CP}/tasks": {"task_type": "echo"},
    f"{CP}/tasks/batch": {"tasks": [{"task_type": "echo"}]},
    f"{CP}/tasks/claim": {"agent_id": "a1", "block_ms": 0},
    f"{CP}/tasks/complete": {"reports": [{"task_id": "t1"}]},
    f"{CP}/queue/prioritize": {"task_id": "t1"},
    f"{CP}/deliberations": {"content": "Tea or coffee?", "async": True},
}

#: Fields that are text (or hold it), by path: what the stores cannot hold is refused in each of them.
TEXTS: dict[str, tuple[str, ...]] = {
    f"{CP}/agents": ("agent_id", "model", "provider", "region_id", "endpoint"),
    f"{CP}/tasks": ("task_type", "queue", "target_agent", "target_region", "idempotency_key"),
    f"{CP}/tasks/claim": ("agent_id", "claim_id"),
    f"{CP}/tasks/running/complete": ("result", "agent_id", "lease_token"),
    f"{CP}/tasks/running/fail": ("agent_id", "lease_token"),
    f"{CP}/deliberations": ("content", "request_id", "decision_type", "mode"),
}
LISTS: dict[str, tuple[str, ...]] = {
    f"{CP}/agents": ("capabilities", "tags", "available_regions"),
    f"{CP}/tasks": ("required_capabilities", "fallback_regions"),
    f"{CP}/tasks/claim": ("capabilities",),
    f"{CP}/deliberations": ("required_capabilities",),
}
OBJECTS: dict[str, tuple[str, ...]] = {
    f"{CP}/agents": ("metadata", "options"),
    f"{CP}/tasks": ("payload", "metadata"),
    f"{CP}/tasks/running/complete": ("result",),
    f"{CP}/deliberations": ("config", "context"),
}
NUMBERS: dict[str, tuple[str, ...]] = {
    f"{CP}/tasks": ("payload", "timeout_seconds", "run_at", "delay_seconds", "max_retries"),
    f"{CP}/tasks/running/complete": ("result",),
    f"{CP}/deliberations": ("timeout_seconds",),
}
#: Changes of a good body, each of which makes it wrong.
WRONG: dict[str, tuple[dict[str, Any], ...]] = {
    f"{CP}/tasks": (
        {"task_type": ""},
        {"priority": "critical"},
        {"priority": 75},
        {"region_routing_mode": "sometimes"},
        {"timeout_seconds": 0},
        {"timeout_seconds": -1},
        {"max_retries": -1},
        {"max_retries": 10**30},
        {"run_at": 1e300},
        {"run_at": 1, "delay_seconds": 1},
        {"required_capabilities": "x"},
        {"required_capabilities": [""]},
        {"required_capabilities": ["x"] * 65},
        {"target_agent": "history"},
        {"queue": "a/b"},
        {"metadata": []},
    ),
    f"{CP}/agents": (
        {"max_concurrency": 0},
        {"max_concurrency": 10**30},
        {"transport": "pigeon"},
        {"dedicated": True},
        {"num_cpus": 1},
        {"dedicated": True, "import_path": "x:Y", "num_gpus": 1.5},
        {"dedicated": True, "endpoint": "http://127.0.0.1:1/", "num_cpus": 0.00001},
        {"dedicated": True, "endpoint": "http://127.0.0.1:1/", "num_cpus": -1},
        {"dedicated": True, "endpoint": "http://127.0.0.1:1/", "memory": 0.5},
        {"dedicated": True, "endpoint": "http://127.0.0.1:1/", "resources": {"GPU": 1}},
        {"dedicated": True, "endpoint": "http://127.0.0.1:1/", "resources": {"a b": 1}},
        {"dedicated": True, "endpoint": "http://127.0.0.1:1/", "resources": {"licence": "many"}},
        {"transport": "openai"},
        {"transport": "pull", "endpoint": "http://127.0.0.1:1"},
        {"capabilities": [1]},
        {"agent_id": "a" * 129},
        *({"agent_id": word} for word in sorted(ROUTE_WORDS)),
    ),
    f"{CP}/deliberations": (
        {"decision_type": "gauntlet"},
        {"priority": "critical"},
        {"config": {"consensus": "loudest"}},
        *({"mode": mode} for mode in ("zz", "", "Async", " async", 1)),
        {"config": {"options": ["a"]}},
        {"config": {"options": ["a", "a"]}},
        {"config": {"rounds": -1}},
        {"config": {"rounds": 10**400}},
        {"config": {"agents": ["a/b"]}},
        {"config": []},
        {"content": ""},
        {"content": "q" * 20_001},
        *({"request_id": word} for word in sorted(ROUTE_WORDS)),
    ),
    f"{CP}/agents/a1/heartbeat": ({"status": "dancing"},),
    f"{CP}/agents/heartbeats": ({"heartbeats": []}, {"heartbeats": {"agent_id": "a1"}}),
    f"{CP}/tasks/claim": ({"max_tasks": 0}, {"max_tasks": 101}, {"block_ms": -1}),
    f"{CP}/queue/prioritize": ({"priority": "soon"}, {"task_id": "a/b"}),
    f"{CP}/tasks/running/fail": ({"error": "x" * 20_000},),
    f"{CP}/tasks/running/complete": ({"latency_ms": -1},),
    f"{CP}/tasks/complete": (
        {"reports": []},
        {"reports": 5},
    ),
    f"{CP}/tasks/batch": ({"tasks": [{"task_type": "echo"}, {"task_type": "echo", "priority": "critical"}]},),
    f"{CP}/agents/batch": ({"agents": [{"agent_id": "a9"}, {"agent_id": "history"}]},),
}


def _texts() -> Iterator[Wrong]:
    for text in ("\x00", "\ud800"):
        for path, names in TEXTS.items():
            for name in names:
                yield Wrong("POST", path, {**GOOD.get(path, {}), name: f"x{text}"})
        for path, names in LISTS.items():
            for name in names:
                yield Wrong("POST", path, {**GOOD.get(path, {}), name: [f"x{text}"]})
        for path, names in OBJECTS.items():
            for name in names:
                yield Wrong("POST", path, {**GOOD.get(path, {}), name: {f"x{text}": 1}})
                yield Wrong("POST", path, {**GOOD.get(path, {}), name: {"x": {"y": [f"x{text}"]}}})


def _values() -> Iterator[Wrong]:
    for number in (float("nan"), float("inf"), float("-inf")):
        for path, names in NUMBERS.items():
            for name in names:
                yield Wrong("POST", path, {**GOOD.get(path, {}), name: number})
        for path, names in OBJECTS.items():
            for name in names:
                yield Wrong("POST", path, {**GOOD.get(path, {}), name: {"x": number}})
        yield Wrong("POST", f"{CP}/tasks", {"task_type": "e", "payload": number}, headers=(("Idempotency-Key", "k"),))
    for path, changes in WRONG.items():
        for change in changes:
            yield Wrong("POST", path, {**GOOD.get(path, {}), **change})
    for token in ("", "lt1.", "lt1.####", "nonsense", "lt1.\xe9", "lt1." + "a" * 1021):
        yield Wrong("POST", f"{CP}/tasks/running/complete", {"lease_token": token})
        yield Wrong("POST", f"{CP}/tasks/running/extend", {"lease_token": token})
    for task_id, agent_id, attempt in (("other", "a1", 1), ("running", "a2", 1), ("running", "a1", 10**400)):
        token = LeaseToken(task_id=task_id, attempt=attempt, agent_id=agent_id).encode()
        yield Wrong("POST", f"{CP}/tasks/running/complete", {"lease_token": token}, status=409)
        yield Wrong("POST", f"{CP}/tasks/running/fail", {"lease_token": token}, status=409)
        yield Wrong("POST", f"{CP}/tasks/running/extend", {"lease_token": token}, status=409)


def _bodies() -> Iterator[Wrong]:
    """Bodies that are no JSON object, or none that can be kept, for every route that takes one."""
    for path in GOOD:
        for raw in (b"{", b"[]", b'"text"', b"1", b"\xff\xfe", b"{]", VERY_DEEP.encode(), b"NaN", HUGE.encode()):
            yield Wrong("POST", path, raw)
        if not path.endswith("/heartbeat"):
            for raw in (b"", b"{}", b"null"):
                yield Wrong("POST", path, raw)
        yield Wrong("POST", path, b'{"a": "' + b"x" * 5_000_000 + b'"}', status=413)
    for path, name in ((f"{CP}/tasks", "payload"), (f"{CP}/agents", "metadata"), (f"{CP}/deliberations", "context")):
        body = {**GOOD[path], name: "?"}
        deep = json.dumps(body).replace('"?"', f'{{"x": {DEEP}}}').encode()
        huge = json.dumps(body).replace('"?"', f'{{"x": {HUGE}}}').encode()
        for headers in ((), (("Idempotency-Key", "k"),)):
            yield Wrong("POST", path, deep, headers=headers)
            yield Wrong("POST", path, huge, headers=headers)
    key = (("Idempotency-Key", "x" * 256),)
    for path, body in GOOD.items():
        yield Wrong("POST", path, body, headers=key)


def _paths() -> Iterator[Wrong]:
    for path in (
        "/nothing",
        f"{CP}",
        f"{CP}/nothing",
        f"{CP}/agents/a1/nothing",
        "/api/control-plane/v2/tasks",
        "/%00",
    ):
        yield Wrong("GET", path, status=404)
    for path in GOOD:
        yield Wrong("PUT", path, {}, status=405)
    yield Wrong("DELETE", f"{CP}/queue", status=405)
    yield Wrong("PATCH", "/health", status=405)
    for path in ("agents/{}", "tasks/{}", "deliberations/{}", "health/{}", "agents/{}/metrics"):
        yield Wrong("GET", f"{CP}/{path.format('unknown')}", status=404)
        for bad in ("%00", "a%2Fb", "%ED%A0%80", "-a", "a" * 129, "%F0%9F%8D%B5"):
            yield Wrong("GET", f"{CP}/{path.format(bad)}", status=4)
    for path in ("agents/{}/pause", "agents/{}/resume", "agents/{}/heartbeat", "tasks/{}/complete", "tasks/{}/fail"):
        yield Wrong("POST", f"{CP}/{path.format('unknown')}", status=404)
        yield Wrong("POST", f"{CP}/{path.format('%00')}", status=4)
    for path in ("tasks/{}/cancel", "deliberations/{}/cancel"):
        yield Wrong("POST", f"{CP}/{path.format('unknown')}", status=404)
        yield Wrong("POST", f"{CP}/{path.format('%00')}", status=4)
    for bad in ("%00", "unknown"):
        token = LeaseToken(task_id=bad.replace("%00", "\x00"), attempt=1, agent_id="a1").encode()
        yield Wrong("POST", f"{CP}/tasks/{bad}/extend", {"lease_token": token}, status=4)
    yield Wrong("DELETE", f"{CP}/agents/unknown", status=404)
    yield Wrong("POST", f"{CP}/tasks/claim", {"agent_id": "unknown"}, status=404)
    yield Wrong("POST", f"{CP}/queue/prioritize", {"task_id": "unknown"}, status=404)


def _queries() -> Iterator[Wrong]:
    for path in ("tasks", "tasks/history", "queue", "deliberations"):
        for limit in ("0", "1001", "-1", "x", HUGE, "1.5", "NaN"):
            yield Wrong("GET", f"{CP}/{path}?limit={limit}")
    for path in ("tasks", "tasks/history", "deliberations", "agents"):
        for offset in ("-1", "x", "1e99", str(2**53), str(2**63 - 1), str(2**63), HUGE):
            yield Wrong("GET", f"{CP}/{path}?offset={offset}")
    yield Wrong("GET", f"{CP}/tasks/history?status=pending")
    for text in ("%00", "%ED%A0%80"):
        for query in (f"tasks?task_type={text}", f"agents?capability={text}"):
            yield Wrong("GET", f"{CP}/{query}", status=2 if text != "%00" else 4)
        yield Wrong("GET", f"{CP}/tasks?agent_id={text}")
    yield Wrong("GET", f"{CP}/tasks?status=sleeping")
    yield Wrong("GET", f"{CP}/agents?available=perhaps")
    stream = (("Accept", "text/event-stream"),)
    for cursor in ("x", "-1", HUGE[:20], "%C2%B2", "1.5"):
        yield Wrong("GET", f"{CP}/stream?after={cursor}", headers=stream)
    for header in ("x", HUGE, "-1", str(2**63)):
        yield Wrong("GET", f"{CP}/stream", headers=(*stream, ("Last-Event-ID", header)))
    yield Wrong("GET", f"{CP}/stream?task_id=%00", headers=stream)


async def _problem(api: Api, wrong: Wrong, task_id: str) -> str | None:
    """What is wrong with the answer to a wrong call; None when it is as it should be."""
    path = wrong.path.replace("/running/", f"/{task_id}/")
    content = wrong.content()
    content = content and content.replace(b'"running"', f'"{task_id}"'.encode())
    try:
        response = await api.client.request(
            wrong.method, path, content=content, headers={**JSON, **dict(wrong.headers)}, timeout=5
        )
    except httpx.HTTPError as error:
        return f"{wrong}: {error!r}"
    # A status of one digit accepts its whole class.
    if wrong.status not in (response.status_code, response.status_code // 100):
        return f"{wrong}: {response.status_code} {response.text[:200]}"
    if response.status_code < 400:
        return None
    body = response.json()
    fine = isinstance(body["error"], str) and body["error"] and isinstance(body["code"], str)
    if not fine or body["trace_id"] != response.headers["x-trace-id"]:
        return f"{wrong}: {body}"
    return None


@pytest.mark.parametrize("calls", [_texts, _values, _bodies, _paths, _queries])
async def test_a_wrong_call_is_refused_in_one_shape_without_a_stack_trace(
    api: Api, caplog: pytest.LogCaptureFixture, calls: Any
) -> None:
    """``running`` in a path stands for a task that a1 has leased."""
    await api.post("/agents", {"agent_id": "a1"})
    task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
    assert (await api.post("/tasks/claim", {"agent_id": "a1"}))["task"]["id"] == task_id
    before = await api.stores.log.head()
    with caplog.at_level(logging.WARNING):
        problems = [problem for wrong in calls() if (problem := await _problem(api, wrong, task_id)) is not None]
    traces = [record.getMessage() for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not problems, "\n".join(problems)
    assert not traces
    assert await api.stores.log.head() == before


async def test_no_route_takes_nul_in_its_path(api: Api) -> None:
    """The database would refuse it, which is no fault of the server."""
    wrong = []
    for template, methods in make_app().openapi()["paths"].items():
        for place in re.findall(r"\{[^}]+\}", template):
            path = re.sub(r"\{[^}]+\}", "x", template.replace(place, "%00"))
            for method in methods.keys() & {"get", "post", "put", "patch", "delete"}:
                answer = await api.client.request(method, path, content=b"{}", headers=JSON)
                if answer.status_code // 100 != 4:
                    wrong.append((method, path, answer.status_code, answer.text[:200]))
    assert not wrong


@pytest.mark.parametrize("path", ["/tasks", "/agents", "/agents/heartbeats", "/tasks/batch", "/deliberations"])
@pytest.mark.parametrize("body", [5, "text", [], [{}], True])
async def test_a_body_that_is_no_object_is_called_the_body(api: Api, path: str, body: Any) -> None:
    answer = await api.call("POST", path, body)
    assert (answer.status_code, answer.json()["error"]) == (400, "The body must be a JSON object.")


@pytest.mark.parametrize("count", [100, 21], ids=["far", "with its last part"])
async def test_a_body_without_a_length_is_bounded_as_it_arrives(api: Api, count: int) -> None:
    """Also when nothing follows that could be read and thrown away."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"task_type": "'
        for _ in range(count):
            yield b"x" * 50_000
        yield b'"}'

    response = await api.client.post(f"{CP}/tasks", content=chunks(), headers=JSON)
    assert response.status_code == 413
    assert response.json()["code"] == "body_too_large"


async def test_a_trace_id_of_the_caller_comes_back(api: Api) -> None:
    for name in ("X-Request-ID", "X-Correlation-ID"):
        response = await api.client.get("/nothing", headers={name: "mine-1"})
        assert (response.headers["x-trace-id"], response.json()["trace_id"]) == ("mine-1", "mine-1")
    response = await api.client.get("/nothing", headers={"X-Request-ID": 'no"quotes'})
    assert response.json()["trace_id"] not in ("", 'no"quotes')


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonl", "json"])
@pytest.mark.parametrize("path", ["tasks", "agents", "deliberations", "tasks/claim", "dead-letter/replay"])
async def test_a_body_not_sent_as_json_is_told_the_header(api: Api, path: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    response = await api.client.post(f"{CP}/{path}", content=b'{"task_type": "echo"}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    sent = "without a content type" if kind is None else f"as {kind}"
    assert response.json()["error"] == (
        f"The body was sent {sent}; send JSON with the header Content-Type: application/json."
    )


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.a+json"])
async def test_every_spelling_of_json_is_taken(api: Api, kind: str) -> None:
    response = await api.client.post(f"{CP}/tasks", content=b'{"task_type": "echo"}', headers={"Content-Type": kind})
    assert response.status_code == 201


async def test_a_call_without_a_body_needs_no_content_type(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    assert (await api.client.post(f"{CP}/agents/a1/pause")).status_code == 200


@pytest.mark.parametrize("path", ["tasks", "tasks/history", "deliberations", "agents"])
async def test_the_largest_offset_is_an_empty_page(api: Api, path: str) -> None:
    assert (await api.client.get(f"{CP}/{path}?offset={2**53 - 1}")).status_code == 200


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (HUGE, "holds a number of more than 4300 digits"),
        ("[" * 5000 + "]" * 5000, "is nested deeper than 64 levels"),
        ('"\xe9"', "is no text in UTF-8"),
    ],
    ids=["digits", "levels", "Latin-1"],
)
@pytest.mark.parametrize("path", sorted(GOOD))
async def test_a_body_that_python_cannot_parse_is_told_why(api: Api, path: str, content: str, why: str) -> None:
    body = f'{{"x": {content}}}'.encode("latin-1")
    response = await api.client.post(path, content=body, headers=JSON)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_json")
    assert why in response.json()["error"]
    assert response.json()["error"].endswith(".")
