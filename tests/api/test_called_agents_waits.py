"""Called agents that ask people or wait for children instead of giving a result: version 2 of the contract."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from cluster.domain.tasks.children import MAX_CHILDREN
from tests.support.api import CP, Api
from tests.support.called_agents import Endpoint, ended_task
from tests.support.docs import ROOT
from tests.support.endpoints import serving
from tests.support.probes import eventually
from tests.support.task_api import TaskApi

PAGE = (ROOT / "docs" / "agent-contract.md").read_text()


def _of_the_page(name: str) -> dict[str, Any]:
    bodies = [json.loads(text) for text in re.findall(r"```json run\n(.*?)```", PAGE, re.DOTALL)]
    (body,) = [body for body in bodies if name in body]
    return dict(body)


async def _given(api: Api, url: str, **fields: Any) -> str:
    await api.post("/agents", {"agent_id": "a1", "endpoint": url, "capabilities": ["c"]})
    task = {"task_type": "t", "payload": {"n": 1}, "required_capabilities": ["c"], **fields}
    return str((await api.post("/tasks", task))["task_id"])


async def _is(api: Api, task_id: str, detail: str) -> None:
    tasks = TaskApi(api)
    await eventually(lambda: tasks.is_detail(task_id, detail), 60)


async def test_a_called_agent_asks_and_is_called_again_with_the_answer(api: Api) -> None:
    endpoint = Endpoint(_of_the_page("ask"), {"result": "published"})
    async with serving(endpoint) as url:
        task_id = await _given(api, url, max_retries=0)
        await _is(api, task_id, "input_required")
        (question,) = (await api.get("/questions"))["questions"]
        asked = (question["task_id"], question["question"], question["answerers"])
        assert asked == (task_id, "Publish the draft?", ["role:admin"])
        await api.post(f"/tasks/{task_id}/answer", {"verdict": "reject", "reason": "too early"})
        task = await ended_task(api, task_id)
    assert (task["result"], task["attempt"], task["retries"]) == ("published", 2, 0)
    first, second = endpoint.asked
    assert (first["contract"], "question" in first["task"], "checkpoint" in first["task"]) == (2, False, False)
    answered = second["task"]["question"]
    assert (answered["verdict"], answered["answer"], answered["reason"]) == ("rejected", None, "too early")
    assert (second["task"]["checkpoint"], second["task"]["attempt"]) == ({"draft": "Hello"}, 2)
    assert (first["idempotency_key"], second["idempotency_key"]) == (f"{task_id}:1", f"{task_id}:2")
    assert await TaskApi(api).kinds(task_id) == ["submitted", "claimed", "asked", "answered", "claimed", "completed"]


async def test_a_called_agent_submits_children_and_waits_for_them(api: Api) -> None:
    asked: list[dict[str, Any]] = []

    async def agent(request: Any) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200)
        asked.append(json.loads(await request.body()))
        task = asked[-1]["task"]
        if "children" in task:
            return httpx.Response(200, json={"result": [child["result"] for child in task["children"]]})
        child = {"task_type": "part", "required_capabilities": ["part"]}
        body = {"lease_token": task["lease_token"], "tasks": [child, child]}
        children = (await api.post(f"/tasks/{task['id']}/children", body))["task_ids"]
        return httpx.Response(
            200, json={"contract": 2, "park": {"children": children[::-1], "checkpoint": {"asked": 2}}}
        )

    async with serving(agent) as url:
        task_id = await _given(api, url, max_retries=0)
        await _is(api, task_id, "waiting_children")
        tasks = TaskApi(api)
        await tasks.agent("parts", capabilities=["part"], max_concurrency=2)
        leases = [await tasks.claim_one("parts") for _ in range(2)]
        for number, lease in enumerate(sorted(leases, key=lambda lease: str(lease["id"]))):
            report = {"lease_token": lease["lease_token"], "result": number}
            await tasks.post(f"/tasks/{lease['id']}/complete", report)
        task = await ended_task(api, task_id)
    assert (task["result"], task["attempt"]) == ([1, 0], 2)
    assert asked[1]["task"]["checkpoint"] == {"asked": 2}


@pytest.mark.parametrize(
    "answer",
    [
        {"ask": {"question": "Publish?"}},
        {"contract": 1, "ask": {"question": "Publish?"}},
        {"contract": 3, "park": {"children": ["task_b"]}},
        {"contract": "2", "ask": {"question": "Publish?"}},
        {"contract": True, "park": {}},
        {"contract": 2},
    ],
)
async def test_an_answer_of_another_version_is_a_result_as_it_was(api: Api, answer: dict[str, Any]) -> None:
    async with serving(Endpoint(answer)) as url:
        task = await ended_task(api, await _given(api, url, max_retries=0))
    assert (task["status"], task["result"]) == ("completed", answer)


def _ask(**fields: Any) -> dict[str, Any]:
    return {"contract": 2, "ask": {"question": "Publish?"} | fields}


ODD: list[tuple[dict[str, Any], str]] = [
    ({"contract": 2, "ask": "Publish?"}, "ask must be an object"),
    ({"contract": 2, "ask": {}}, "question must be a text"),
    (_ask(question=7), "question must be a text"),
    (_ask(question=""), "question must be a text"),
    (_ask(question="\u200b"), "question must have a character"),
    (_ask(question="x" * 4001), "question must be a text"),
    (_ask(answer_schema="boolean"), "answer_schema must be an object"),
    (_ask(answer_schema={"type": "nothing"}), "schema"),
    (_ask(answer_schema={"$ref": "http://127.0.0.1:1/"}), "schema"),
    (_ask(answerers="role:admin"), "answerers must be a list"),
    (_ask(answerers=[7]), "answerers must be a list"),
    (_ask(answerers=["ann"]), "a1"),
    (_ask(time_limit_seconds=0), "time_limit_seconds"),
    (_ask(time_limit_seconds=True), "time_limit_seconds"),
    (_ask(time_limit_seconds=10**400), "time_limit_seconds"),
    (_ask(default=True), "time_limit_seconds"),
    (_ask(default=1, time_limit_seconds=5, answer_schema={"type": "boolean"}), "default does not fit"),
    (_ask(checkpoint="x" * 20_000), "checkpoint is larger"),
    (_ask(deadline=5), "ask has no deadline"),
    (_ask() | {"result": 1}, "give ask or park"),
    (_ask() | {"park": {"children": ["task_b"]}}, "give ask or park"),
    ({"contract": 2, "park": ["task_b"]}, "park must be an object"),
    ({"contract": 2, "park": {"children": []}}, "children must be a list"),
    ({"contract": 2, "park": {"children": ["no id"]}}, "children must be"),
    ({"contract": 2, "park": {"children": [{"task_type": "part"}]}}, "children must be ids"),
    ({"contract": 2, "park": {"children": ["task_b", "task_b"]}}, "names a task twice"),
    ({"contract": 2, "park": {"children": ["task_b"]}}, "does not exist: task_b"),
    ({"contract": 2, "park": {"children": [f"task_{n}" for n in range(MAX_CHILDREN + 1)]}}, "children must be a list"),
]


@pytest.mark.parametrize(("answer", "says"), ODD, ids=[f"{number}" for number, _ in enumerate(ODD)])
async def test_what_cannot_be_asked_or_waited_for_is_malformed(api: Api, answer: dict[str, Any], says: str) -> None:
    async with serving(Endpoint(httpx.Response(200, content=json.dumps(answer)))) as url:
        task = await ended_task(api, await _given(api, url, max_retries=0))
    assert (task["status"], says in task["error"]) == ("failed", True), task["error"]
    events = (await api.get(f"/tasks/{task['id']}/events"))["events"]
    assert events[-1]["data"]["error_class"] == "malformed"
    assert (await api.get("/questions"))["questions"] == []


async def test_a_child_of_another_task_is_not_waited_for(api: Api) -> None:
    other = (await api.post("/tasks", {"task_type": "t", "required_capabilities": ["nobody"]}))["task_id"]
    async with serving(Endpoint({"contract": 2, "park": {"children": [other]}})) as url:
        task = await ended_task(api, await _given(api, url, max_retries=0))
    assert (task["status"], "is not a child" in task["error"]) == ("failed", True)


@pytest.mark.parametrize("ends", ["ask", "park"])
async def test_an_agent_whose_task_is_cancelled_waits_for_nothing(api: Api, ends: str) -> None:
    asked = asyncio.Event()

    async def agent(request: Any) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200)
        task_id = json.loads(await request.body())["task"]["id"]
        child = {"task_type": "part", "required_capabilities": ["part"], "parent_task_id": task_id}
        park = {"children": [(await api.post("/tasks", child))["task_id"]]}
        assert (await api.client.post(f"{CP}/tasks/{task_id}/cancel")).is_success
        asked.set()
        return httpx.Response(
            200, json={"contract": 2} | {"ask": {"ask": {"question": "Go?"}}, "park": {"park": park}}[ends]
        )

    async with serving(agent) as url:
        task_id = await _given(api, url)
        await asyncio.wait_for(asked.wait(), 60)
        task = await ended_task(api, task_id)
    assert task["status"] == "cancelled"
    assert (await api.get("/questions"))["questions"] == []
