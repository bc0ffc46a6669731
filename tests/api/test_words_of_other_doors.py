"""What somebody wrote is absent also from A2A, MCP, open streams, synchronous answers and errors for whoever may not read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
import websockets

from cluster.domain.access.permissions import ALL, Permission
from tests.support.a2a_clients import VERSION, raw_message
from tests.support.api import CP, Api, api_settings
from tests.support.mcp_clients import sent
from tests.support.models import models, register
from tests.support.principals import TokenTable, bearer, principal
from tests.support.probes import eventually
from tests.support.secret_scene import SECRET, Scene, says, scene
from tests.support.stores import StoreUrls
from tests.support.task_api import TaskApi

READER, BLIND = bearer("reader"), bearer("blind")
#: Whose words are asked for, and whether the caller is to find them.
CALLERS = [(BLIND, False), (READER, True)]
Headers = Mapping[str, str]


@pytest.fixture
async def api(store_urls: StoreUrls, schema: str) -> AsyncIterator[Api]:
    changes = {"a2a_enabled": True, "mcp_enabled": True, "public_url": "https://control.example.com"}
    async with Api(api_settings(store_urls, schema, **changes)).running() as running:
        permissions = {"reader": ALL, "blind": ALL - {Permission.PAYLOADS_READ}}
        table = {name: principal(name, permissions=held) for name, held in permissions.items()}
        running.app.state.resolver = TokenTable(table)
        running.client.headers.update(READER)
        yield running


async def _rpc(api: Api, path: str, headers: Headers, method: str, params: Any) -> str:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = await api.client.post(path, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def _a2a(api: Api, headers: Headers, method: str, **params: Any) -> Awaitable[str]:
    return _rpc(api, "/a2a", {**VERSION, **headers}, method, params)


def _mcp(api: Api, headers: Headers, method: str, **params: Any) -> Awaitable[str]:
    return _rpc(api, "/mcp", {**sent("2025-06-18"), **headers}, method, params)


async def _by_a2a(api: Api, headers: Headers, made: Scene) -> str:
    """All that its methods tell of the scene."""
    texts = [await _a2a(api, headers, "GetTask", id=each) for each in made.ids]
    token = ""
    while True:
        page = await _a2a(api, headers, "ListTasks", includeArtifacts=True, pageSize=2, pageToken=token)
        texts.append(page)
        token = json.loads(page)["result"]["nextPageToken"]
        if not token:
            break
    push = {"taskId": made.done, "id": "p", "url": f"https://example.com/{SECRET}", "token": SECRET}
    await _a2a(api, READER, "CreateTaskPushNotificationConfig", **push)
    texts.append(await _a2a(api, headers, "GetTaskPushNotificationConfig", taskId=made.done, id="p"))
    texts.append(await _a2a(api, headers, "ListTaskPushNotificationConfigs", taskId=made.done))
    return "\n".join(texts)


async def _by_mcp(api: Api, headers: Headers, made: Scene) -> str:
    """All that its tools and resources tell of the scene."""
    calls = [("task_status", {"task_id": each}) for each in (made.done, made.dead, made.waiting)]
    calls += [("task_result", {"task_id": each}) for each in (made.done, made.dead)]
    calls += [(tool, {"deliberation_id": made.request_id}) for tool in ("task_status", "task_result", "receipt")]
    calls += [("explain", {"task_id": made.waiting}), ("list_agents", {})]
    texts = [await _mcp(api, headers, "tools/call", name=tool, arguments=given) for tool, given in calls]
    assert not [text for text in texts if '"isError":true' in text.replace(" ", "")]
    texts.append(await _mcp(api, headers, "resources/list"))
    for kind in ("deliberations", "receipts"):
        texts.append(await _mcp(api, headers, "resources/read", uri=f"aragora://{kind}/{made.request_id}"))
    return "\n".join(texts)


@pytest.mark.parametrize("told", [_by_a2a, _by_mcp])
async def test_protocols_of_agents_tell_no_words(
    api: Api, told: Callable[[Api, Headers, Scene], Awaitable[str]]
) -> None:
    async with scene(api) as made:
        for headers, sees in CALLERS:
            assert (SECRET in await told(api, headers, made)) is sees


async def test_the_own_work_of_the_blind_comes_back_without_words(api: Api) -> None:
    question = {
        "content": "Which?",
        "config": {"options": [f"{SECRET} one", f"{SECRET} two"], "agents": ["a", "b", "c"]},
    }
    async with models(says) as endpoint:
        await register(api, endpoint, "a", "b", "c")
        for headers, sees in CALLERS:
            asked = raw_message([{"text": "Which?"}])
            asked["message"]["metadata"] = {"aragora": {"config": question["config"]}}
            tool = {"name": "deliberate", "arguments": {**question, "wait": 20}}
            texts = [
                (await api.call("POST", "/deliberations", question, headers=dict(headers))).text,
                await _a2a(api, headers, "SendMessage", **asked),
                await _mcp(api, headers, "tools/call", **tool),
            ]
            assert ["consensus_reached" in text or "COMPLETED" in text or "DECIDED" in text for text in texts] == [
                True
            ] * 3
            assert [SECRET in text for text in texts] == [sees] * 3


async def _until(lines: AsyncIterator[str], end: str) -> str:
    text = ""
    async for line in lines:
        text += f"{line}\n"
        if end in line:
            break
    return text


async def _sse(api: Api, headers: Headers, path: str, end: str, body: Any = None) -> str:
    """What a stream tells until a line has ``end``."""
    accepting = {**VERSION, **headers, "Accept": "text/event-stream"}
    async with httpx.AsyncClient(base_url=api.url, timeout=60, verify=False) as http:
        method = "GET" if body is None else "POST"
        async with http.stream(method, path, headers=accepting, json=body) as answer:
            assert answer.status_code == 200, (await answer.aread(), path)
            return await _until(answer.aiter_lines(), end)


async def _socket(api: Api, headers: Headers, path: str, end: str) -> str:
    url = api.url.replace("http", "ws") + path
    text = ""
    async with websockets.connect(url, additional_headers=headers) as socket:
        while end not in text:
            text += str(await socket.recv())
    return text


def _opened(api: Api, headers: Headers, task_id: str) -> list[asyncio.Task[str]]:
    """Every stream that tells of a task, until its end."""
    subscribe = {"jsonrpc": "2.0", "id": 1, "method": "SubscribeToTask", "params": {"id": task_id}}
    streams = [
        _sse(api, headers, f"{CP}/stream?task_id={task_id}", "task_completed"),
        _socket(api, headers, f"{CP}/stream?task_id={task_id}", "task_completed"),
        _socket(api, headers, f"/ws/control-plane?task_id={task_id}", "task_completed"),
        _sse(api, headers, "/a2a", "TASK_STATE_COMPLETED", subscribe),
    ]
    return [asyncio.create_task(stream) for stream in streams]


async def _worked_through(api: Api, task_id: str) -> None:
    """An attempt that fails, one that asks a person and waits for a child, and one that completes; each with words everywhere."""
    tasks = TaskApi(api)

    async def claimed() -> dict[str, str]:
        lease = await tasks.claim_one("w")
        assert lease["id"] == task_id
        held = {"lease_token": lease["lease_token"]}
        progress = {"percent": 5, "message": SECRET, "checkpoint": {"text": SECRET}}
        await tasks.post(f"/tasks/{task_id}/extend", {**held, **progress})
        await tasks.post(f"/tasks/{task_id}/chunks", {**held, "first": 1, "chunks": [SECRET]})
        return held

    await tasks.post(f"/tasks/{task_id}/fail", {**await claimed(), "error": SECRET})
    asked = {"question": SECRET, "answer_schema": {"enum": [SECRET]}, "checkpoint": {"text": SECRET}}
    await tasks.post(f"/tasks/{task_id}/ask", {**await claimed(), **asked})
    await tasks.post(f"/tasks/{task_id}/answer", {"verdict": "answer", "answer": SECRET})
    held = await claimed()
    child = {"task_type": "t", "payload": SECRET, "metadata": {"note": SECRET}, "required_capabilities": ["nobody"]}
    (child_id,) = (await tasks.post(f"/tasks/{task_id}/children", {**held, "tasks": [child]}))["task_ids"]
    await tasks.post(f"/tasks/{task_id}/park", {**held, "children": [child_id], "checkpoint": {"text": SECRET}})
    await tasks.post(f"/tasks/{child_id}/cancel")
    await tasks.post(f"/tasks/{task_id}/complete", {**await claimed(), "result": {"text": SECRET}})


async def test_open_streams_tell_no_words_of_a_whole_task(api: Api) -> None:
    tasks = TaskApi(api)
    await tasks.agent("w", capabilities=["x"])
    body = {"payload": SECRET, "metadata": {"note": SECRET, "tags": [SECRET]}, "retry": {"initial_seconds": 0.01}}
    task_id = await tasks.submit("t", required_capabilities=["x"], max_retries=2, **body)
    blind, reader = (_opened(api, headers, task_id) for headers in (BLIND, READER))
    await eventually(lambda: api.gateway.hub._listeners == len(blind) + len(reader))
    await _worked_through(api, task_id)
    assert [SECRET in text for text in await asyncio.gather(*blind)] == [False] * len(blind)
    assert [SECRET in text for text in await asyncio.gather(*reader)] == [True] * len(reader)


async def test_chunks_are_refused_to_the_blind_on_every_stream(api: Api) -> None:
    task_id = await TaskApi(api).submit()
    path = f"{CP}/tasks/{task_id}/chunks/stream"
    assert (await api.client.get(path, headers={**BLIND, "Accept": "text/event-stream"})).status_code == 403
    with pytest.raises(websockets.InvalidStatus) as refused:
        await _socket(api, BLIND, path, "never")
    assert refused.value.response.status_code == 403


async def test_a_refused_answer_does_not_quote_the_schema_to_the_blind(api: Api) -> None:
    """Whoever may answer a question need not be able to read it."""
    asked = {"question": SECRET, "answer_schema": {"enum": [SECRET]}}
    task_id = await TaskApi(api).submit("approval", input_required=asked)
    for headers, sees in CALLERS:
        answer = await api.call(
            "POST", f"/tasks/{task_id}/answer", {"verdict": "answer", "answer": 1}, headers=dict(headers)
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_answer")
        assert (SECRET in answer.text) is sees


async def test_a_repeat_under_the_key_of_a_reader_tells_no_words(api: Api) -> None:
    async with scene(api) as made:
        body = {"ids": [made.dead], "dry_run": True, "payload": {"text": SECRET}}
        for headers, sees in reversed(CALLERS):
            answer = await api.call(
                "POST", "/dead-letter/replay", body, headers={**headers, "Idempotency-Key": "again"}
            )
            assert answer.is_success, answer.text
            assert (SECRET in answer.text) is sees
