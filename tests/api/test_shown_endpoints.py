"""An endpoint's secrets are used for the calls and shown nowhere; registering again what is shown keeps them."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx

from cluster.domain.base.urls import shown_url
from tests.support.api import Api
from tests.support.called_agents import ended_task
from tests.support.endpoints import serving

_USER, _PASSWORD, _KEY = "operator7", "hunter2pass", "querysecret5"


class _Guarded:
    """An agent that answers to its user only, and fails a task that says so. Keeps the paths that it was called at."""

    def __init__(self) -> None:
        self.targets: list[str] = []

    async def __call__(self, request: Any) -> httpx.Response:
        pair = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {pair}":
            return httpx.Response(401)
        if request.method == "GET":
            return httpx.Response(200)
        self.targets.append(f"{request.url.path}?{request.url.query}")
        fails = "fail" in json.dumps(json.loads(await request.body()))
        return httpx.Response(418 if fails else 200, json={"error": "no"} if fails else {"text": "yes", "result": 1})


async def _reads(api: Api, *tasks: str) -> str:
    """All that the API and the log show of the agent and its tasks."""
    paths = [
        "/agents?available=false",
        "/agents/a",
        "/health/a",
        "/health",
        "/breakers",
        "/stats",
        "/story/a",
        "/queue",
    ]
    paths += [f"/tasks/{task}{part}" for task in tasks for part in ("", "/explain", "/events")]
    return "".join([(await api.call("GET", path)).text for path in paths]) + repr(await api.rows())


async def test_an_endpoints_secrets_are_used_and_not_shown(api: Api) -> None:
    agent = _Guarded()
    async with serving(agent) as url:
        host = url.removeprefix("http://").rstrip("/")
        whole = f"http://{_USER}:{_PASSWORD}@{host}/work?api-version=2&code={_KEY}"
        shown = f"http://***@{host}/work?api-version=2&code=***"
        body = {"agent_id": "a", "endpoint": whole, "capabilities": ["c"]}
        answers = [await api.post("/agents", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        answers += (await api.post("/agents/batch", {"agents": [body]}))["agents"]
        assert {answer["endpoint"] for answer in answers} == {shown}
        task = {"task_type": "echo", "required_capabilities": ["c"], "max_retries": 0}
        good, bad = [(await api.post("/tasks", {**task, "payload": word}))["task_id"] for word in ("work", "fail")]
        assert (await ended_task(api, good))["status"] == "completed"
        assert "418" in (await ended_task(api, bad))["error"]
        assert agent.targets == [f"/work?api-version=2&code={_KEY}"] * 2
        text = await _reads(api, good, bad) + repr(await api.gateway.agents.get("default", "a"))
        assert shown in text
        assert [secret for secret in (_USER, _PASSWORD, _KEY) if secret in text] == []

        # What was shown, with another description: the secrets stay.
        listed = (await api.get("/agents/a"))["endpoint"]
        again = await api.post("/agents", {**body, "endpoint": listed, "model": "second"})
        assert (again["endpoint"], again["model"]) == (shown, "second")
        after = (await api.post("/tasks", {**task, "payload": "work"}))["task_id"]
        assert (await ended_task(api, after))["status"] == "completed"


async def test_a_masked_endpoint_is_refused_where_its_secrets_are_not_known(api: Api) -> None:
    whole = "http://u:p@127.0.0.1:9/work?key=1"
    await api.post("/agents", {"agent_id": "a", "endpoint": whole})
    shown = shown_url(whole)
    for agent_id, endpoint in (
        ("b", shown),
        ("a", shown.replace(":9/", ":10/")),
        ("a", shown.replace("key=***", "key=2")),
        ("a", shown.replace("***@", "u:***@")),
    ):
        for path, body in (
            ("/agents", {"agent_id": agent_id, "endpoint": endpoint}),
            ("/agents/batch", {"agents": [{"agent_id": "c"}, {"agent_id": agent_id, "endpoint": endpoint}]}),
        ):
            answer = await api.call("POST", path, body)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_endpoint"), answer.text
            assert answer.json()["error"].startswith(f"Agent {agent_id}: endpoint has ***")
    stored = await api.gateway.agents.get("default", "a")
    assert stored is not None
    assert stored.endpoint == whole
    bare = await api.post("/agents", {"agent_id": "a", "endpoint": "http://127.0.0.1:9/work"})
    assert bare["endpoint"] == "http://127.0.0.1:9/work", "a URL without secrets takes them away"
