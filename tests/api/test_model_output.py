"""What a called model writes is the task's output while it writes, and the result at its end is what it was without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.support.api import Api
from tests.support.called_agents import ended_task
from tests.support.endpoints import completion, serving
from tests.support.probes import eventually


def _delta(text: str, **choice: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}, **choice}]})}\n\n"


async def _texts(api: Api, task_id: str) -> str:
    return "".join(chunk["content"] for chunk in (await api.get(f"/tasks/{task_id}/chunks"))["chunks"])


def _anthropic(text: str, stop: str | None = None) -> str:
    event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    ends = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 4}}
    events = [event, *([ends, {"type": "message_stop"}] if stop else [])]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


async def _asked(api: Api, url: str, transport: str = "openai", **fields: Any) -> str:
    model = {"agent_id": "m", "transport": transport, "endpoint": url, "model": "m", "options": {"stream": True}}
    await api.post("/agents", model)
    body = {"task_type": "chat", "payload": {"prompt": "Tell."}, "target_agent": "m", **fields}
    return str((await api.post("/tasks", body))["task_id"])


async def test_a_model_is_followed_while_it_writes(api: Api) -> None:
    go_on = asyncio.Event()

    async def writes() -> AsyncIterator[str]:
        yield _delta("Once")[:25]
        yield _delta("Once")[25:] + _delta(" upon")
        await go_on.wait()
        yield _delta(" a time", finish_reason="stop") + "data: [DONE]\n\n"

    async with serving(lambda _: writes()) as url:
        task_id = await _asked(api, url)

        async def begun() -> bool:
            return await _texts(api, task_id) == "Once upon"

        await eventually(begun, 60)
        assert (await api.get(f"/tasks/{task_id}"))["status"] == "running"
        go_on.set()
        task = await ended_task(api, task_id)
    assert (task["status"], task["result"]["text"]) == ("completed", "Once upon a time")
    assert await _texts(api, task_id) == "Once upon a time"


async def test_an_anthropic_model_is_followed_while_it_writes(api: Api) -> None:
    go_on = asyncio.Event()

    async def writes() -> AsyncIterator[str]:
        yield _anthropic("Once") + _anthropic(" upon")
        await go_on.wait()
        yield _anthropic(" a time", "end_turn")

    async with serving(lambda _: writes()) as url:
        task_id = await _asked(api, url, "anthropic")

        async def begun() -> bool:
            return await _texts(api, task_id) == "Once upon"

        await eventually(begun, 60)
        go_on.set()
        task = await ended_task(api, task_id)
    assert (task["status"], task["result"]["text"]) == ("completed", "Once upon a time")
    assert await _texts(api, task_id) == "Once upon a time"


async def test_a_model_that_is_cut_leaves_what_it_wrote(api: Api) -> None:
    async def writes() -> AsyncIterator[str]:
        yield _delta("Half of")

    async with serving(lambda _: writes()) as url:
        task_id = await _asked(api, url, max_retries=0)
        assert (await ended_task(api, task_id))["status"] == "failed"
    assert await _texts(api, task_id) == "Half of"


async def test_a_model_that_does_not_stream_works_as_without(api: Api) -> None:
    async with serving(lambda _: completion("whole")) as url:
        task_id = await _asked(api, url)
        assert (await ended_task(api, task_id))["result"]["text"] == "whole"
    assert await _texts(api, task_id) == ""
