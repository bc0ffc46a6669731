"""Streams end by themselves when HAProxy is replaced: with the cursor to resume from, and no event is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from serve_app.streams.endings import StreamEndings, end_when_replaced
from tests.support.api import CP, Api
from tests.support.probes import eventually


def _ws(api: Api, path: str) -> Any:
    return websockets.connect(api.url.replace("http", "ws") + path)


async def _until_its_end(response: httpx.Response) -> str:
    return "".join([part async for part in response.aiter_text()])


@pytest.mark.parametrize("events", [0, 3])
async def test_an_sse_stream_ends_with_its_last_id(api: Api, events: int) -> None:
    await api.post("/tasks", {"task_type": "earlier"})
    (earlier,) = await api.rows()
    async with api.client.stream("GET", f"{CP}/stream", headers={"Accept": "text/event-stream"}) as response:
        reading = asyncio.create_task(_until_its_end(response))
        for _ in range(events):
            await api.post("/tasks", {"task_type": "echo"})
        await eventually(lambda: api.gateway.hub._cursor == earlier.seq + events)
        api.gateway.endings.end_all()
        text = await asyncio.wait_for(reading, 20)
    last = earlier.seq + text.count("event: ")
    assert text.startswith(f": connected\nretry: 1000\nid: {earlier.seq}\n\n")
    assert text.endswith(f"retry: 1000\nid: {last}\n\n")
    assert [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")][-1] == last


async def test_a_websocket_is_closed_for_a_restart_with_its_cursor(api: Api) -> None:
    async with _ws(api, "/ws/control-plane?after=0") as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
        await api.post("/tasks", {"task_type": "echo"})
        seq = json.loads(await socket.recv())["seq"]
        api.gateway.endings.end_all()
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert f"after={seq}" in closed.value.rcvd.reason


async def test_a_websocket_of_heartbeats_is_closed_for_a_restart(api: Api) -> None:
    async with _ws(api, f"{CP}/agents/heartbeats") as socket:
        await socket.send('{"agent_id": "nobody"}')
        assert json.loads(await socket.recv())["type"] == "heartbeat_ack"
        api.gateway.endings.end_all()
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_a_stream_that_begins_after_the_end_stays_open(api: Api) -> None:
    api.gateway.endings.end_all()
    async with _ws(api, "/ws/control-plane?after=0") as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
        await api.post("/tasks", {"task_type": "echo"})
        assert json.loads(await asyncio.wait_for(socket.recv(), 20))["type"] == "task_submitted"


async def test_each_new_mark_ends_the_streams_and_an_old_one_does_not(tmp_path: Path) -> None:
    mark, endings = tmp_path / "replaced", StreamEndings()
    mark.write_text("1")
    looking = asyncio.create_task(end_when_replaced(endings, mark, look_s=0.01, settle_s=0.01))
    first = endings.now()
    await asyncio.sleep(0)  # it has seen the old mark
    for text in ("22", "333"):
        open_stream = endings.now()
        mark.write_text(text)
        await asyncio.wait_for(open_stream.wait(), 20)
    looking.cancel()
    assert first.is_set()
    assert not endings.now().is_set()
