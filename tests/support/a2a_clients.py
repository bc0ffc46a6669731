"""The official clients of the A2A server, in Python and JavaScript, and calls that no client makes."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import (
    GetTaskRequest,
    Message,
    Part,
    Role,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
)
from google.protobuf.json_format import MessageToDict, ParseDict

from serve_app.a2a.card import RPC_PATH
from tests.support.docs import ROOT
from tests.support.node_packages import NODE, installed
from tests.support.system import clean_environment

VERSION = {"A2A-Version": "1.0"}
_numbers = itertools.count(1)


@asynccontextmanager
async def a2a_client(
    url: str, headers: Mapping[str, str] | None = None, *, streaming: bool = True, polling: bool = False
) -> AsyncIterator[Client]:
    """``url``: that of the API, whatever the card calls it. ``polling``: answers come at once."""
    async with httpx.AsyncClient(headers=dict(headers or {}), timeout=60, verify=False) as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        card.supported_interfaces[0].url = url + RPC_PATH
        config = ClientConfig(streaming=streaming, polling=polling, httpx_client=http)
        yield ClientFactory(config).create(card)


def message(*parts: Any, ours: Mapping[str, Any] | None = None, **fields: Any) -> SendMessageRequest:
    """A message of texts and other data; ``ours``: what its metadata say to us."""
    made = [Part(text=part) if isinstance(part, str) else ParseDict({"data": part}, Part()) for part in parts]
    given = {"message_id": uuid.uuid4().hex, "role": Role.ROLE_USER, **fields}
    request = SendMessageRequest(message=Message(parts=made, **given))
    if ours is not None:
        request.message.metadata.update({"aragora": dict(ours)})
    return request


def work(*parts: Any, task_type: str = "t", **fields: Any) -> SendMessageRequest:
    """A message that submits a task."""
    ours = {"skill": "submit_task", "task_type": task_type, **fields.pop("ours", {})}
    return message(*parts, ours=ours, **fields)


async def sent(client: Client, request: SendMessageRequest) -> Task:
    """The task of the last event of a message's answer."""
    return [event async for event in client.send_message(request)][-1].task


async def got(client: Client, task_id: str) -> Task:
    return await client.get_task(GetTaskRequest(id=task_id))


async def subscribed(client: Client, task_id: str) -> list[StreamResponse]:
    """The events of a task until its end."""
    return [event async for event in client.subscribe(SubscribeToTaskRequest(id=task_id))]


def state_of(task: Any) -> str:
    """The state of a task or an update, without its prefix."""
    state: str = MessageToDict(task)["status"]["state"]
    return state.removeprefix("TASK_STATE_")


def result_of(task: Task) -> Any:
    """The data of the first artifact."""
    return MessageToDict(task)["artifacts"][0]["parts"][-1]["data"]


async def called(
    http: httpx.AsyncClient, method: str, params: Any, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The JSON of a call that no client makes."""
    body = {"jsonrpc": "2.0", "id": next(_numbers), "method": method, "params": params}
    answer = await http.post(RPC_PATH, json=body, headers={**VERSION, **(headers or {})})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["id"] == body["id"]
    return found


async def refused(
    http: httpx.AsyncClient, method: str, params: Any, headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The code and the message of an error."""
    answer = await called(http, method, params, headers)
    error = answer["error"]
    (info, *_) = error["data"]
    assert info["metadata"]["trace_id"], error
    return error["code"], error["message"]


def frames(text: str) -> list[tuple[str | None, dict[str, Any]]]:
    """The id and the result of each event of a stream's text."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in lines:
            content = json.loads(lines["data"])
            found.append((lines.get("id"), content.get("result", content)))
    return found


def raw_message(parts: Sequence[Any], **fields: Any) -> dict[str, Any]:
    """The params of a message, as JSON."""
    request = {name: fields.pop(name) for name in ("configuration", "tenant") if name in fields}
    return {"message": {"messageId": uuid.uuid4().hex, "role": "ROLE_USER", "parts": list(parts), **fields}, **request}


async def javascript_client(url: str, *question: str) -> dict[str, Any]:
    """What the JavaScript client has got; without a question, whether it verifies the card."""
    files = ("package.json", "package-lock.json", "client.mjs")
    folder = installed("The JavaScript client of A2A", ROOT / "tests" / "support" / "a2a_javascript", files)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(NODE, folder / "client.mjs", url, *question), env=clean_environment(), stdout=pipe, stderr=pipe
    )
    told, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    # The package tells of a signature that is wrong on the lines before.
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found
