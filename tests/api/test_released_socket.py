"""The released client's WebSocket, with each URL that its user would give it."""

from __future__ import annotations

import asyncio
import json

import pytest
from aragora_sdk.websocket import AragoraWebSocket, WebSocketOptions
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.api import Api
from tests.support.principals import TokenTable, principal


@pytest.mark.parametrize("base", ["", "/", "/ws", "/ws/control-plane", "/ws/control-plane/"])
async def test_the_released_socket_connects_and_gets_events(api: Api, base: str) -> None:
    socket = AragoraWebSocket(api.url + base, options=WebSocketOptions(auto_reconnect=False))
    await socket.connect()
    try:
        events = socket.events()
        async with asyncio.timeout(20):
            assert (await anext(events)).type == "connected"
            task_id = (await api.post("/tasks", {"task_type": "echo"}))["task_id"]
            event = await anext(events)
        assert (event.type, event.data["task_id"]) == ("task_submitted", task_id)
    finally:
        await socket.close()


@pytest.mark.parametrize("base", ["", "/ws/control-plane"])
async def test_the_released_socket_passes_the_same_door(api: Api, base: str) -> None:
    api.app.state.resolver = TokenTable({"t": principal("ann")})
    with pytest.raises(Exception, match="HTTP 401"):
        await AragoraWebSocket(api.url + base).connect()


@pytest.mark.parametrize("path", ["/", "/ws/other", "/ws/control-plane/ws/ws", "/api/control-plane/agents"])
async def test_a_socket_of_another_path_is_refused_in_the_shape_of_errors(api: Api, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(api.url.replace("http", "ws") + path)
    answer = refused.value.response
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    body = json.loads(answer.body)
    assert (set(body), body["code"]) == ({"error", "code", "trace_id"}, "not_found")
