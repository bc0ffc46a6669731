"""Events over SSE and WebSocket: each one that was asked for, once, however many writers there are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import websockets

from cluster.domain.base.log import LogRecord, LogRow
from cluster.ports.tasks import SubmitItem
from serve_app.routes import stream
from serve_app.streams import hub
from serve_app.streams.hub import frame, frame_type
from tests.support.api import CP, Api
from tests.support.probes import eventually
from tests.support.samples import new_task, system_event

SSE = {"Accept": "text/event-stream"}
WRITERS, TASKS = 4, 40


class Events:
    """Server-sent events of one connection, parsed as a browser does."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        event: dict[str, Any] = {}
        async with asyncio.timeout(20):
            async for line in self._lines:
                if line == "" and "data" in event:
                    return event
                name, _, value = line.partition(": ")
                if name:
                    event[name] = json.loads(value) if name == "data" else value
        raise AssertionError("the stream has ended")

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await self.next() for _ in range(count)]


@contextlib.asynccontextmanager
async def _sse(api: Api, last_event_id: str | int | None = None, **query: Any) -> AsyncIterator[Events]:
    headers = SSE if last_event_id is None else {**SSE, "Last-Event-ID": str(last_event_id)}
    async with api.client.stream("GET", f"{CP}/stream", headers=headers, params=query) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Events(response)


def _ws(api: Api, path: str = f"{CP}/stream", **query: Any) -> Any:
    return websockets.connect(str(httpx.URL(api.url.replace("http", "ws") + path, params=query)))


async def _write(api: Api, count: int) -> None:
    for _ in range(count):
        await api.post("/tasks", {"task_type": "echo"})


async def test_a_reconnect_with_the_last_id_misses_no_event(api: Api) -> None:
    writing = [asyncio.create_task(_write(api, TASKS)) for _ in range(WRITERS)]
    seen: list[int] = []
    last = 0
    while len(seen) < WRITERS * TASKS:
        async with _sse(api, last) as events:
            for event in await events.take(min(7, WRITERS * TASKS - len(seen))):
                assert event["data"]["seq"] == int(event["id"])
                seen.append(int(event["id"]))
        last = seen[-1]
    await asyncio.gather(*writing)
    assert seen == [row.seq for row in await api.rows()] == list(range(1, WRITERS * TASKS + 1))


async def test_a_subscriber_far_behind_catches_up_from_the_store(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub keeps only the newest rows; what is older comes from the log, in pages, without a seam."""
    monkeypatch.setattr(hub, "PAGE", 10)
    api.gateway.hub._rows = hub.deque(maxlen=15)
    await api.stores.log.append([system_event(f"e{n}") for n in range(64)])
    workspace = api.settings.workspace
    assert workspace != "w"  # none of these are ours: pages without a match are passed over
    await _write(api, 30)
    async with _sse(api, 0) as events:
        first = await events.take(30)
        await _write(api, 3)
        rest = await events.take(3)
    assert [int(event["id"]) for event in first + rest] == list(range(65, 98))


async def test_the_log_is_followed_while_somebody_listens_and_no_longer(api: Api) -> None:
    hub = api.gateway.hub
    await _write(api, 1)
    assert hub._cursor == 0
    for n in range(2, 4):
        async with _sse(api, None) as events:
            await eventually(lambda: hub._cursor > 0)
            await _write(api, 1)
            assert int((await events.next())["id"]) == n, "what came before it listened is not told"
        await eventually(lambda: hub._cursor == 0)


async def test_filters_leave_exactly_what_was_asked_for(api: Api) -> None:
    await api.post("/agents", {"agent_id": "a1"})
    ids = [(await api.post("/tasks", {"task_type": "echo"}))["task_id"] for _ in range(3)]
    task = (await api.post("/tasks/claim", {"agent_id": "a1"}))["task"]
    await api.post(f"/tasks/{task['id']}/complete", {"lease_token": task["lease_token"], "result": {"r": 1}})
    await api.post("/deliberations", {"content": "q", "async": True, "request_id": "d1"})
    async with _sse(api, 0, task_id=ids[0]) as events:
        types = [event["event"] for event in await events.take(3)]
    assert types == ["task_submitted", "task_claimed", "task_completed"]
    async with _sse(api, 0, agent_id="a1") as events:
        found = await events.take(3)
    assert [event["event"] for event in found] == ["agent_registered", "task_claimed", "task_completed"]
    assert found[1]["data"]["data"]["agent_id"] == "a1"
    async with _sse(api, 0, deliberation_id="d1") as events:
        admitted = await events.next()
    assert (admitted["event"], admitted["data"]["data"]["request_id"]) == ("deliberation_admitted", "d1")


async def test_another_workspace_sees_no_events_of_this_one(api: Api) -> None:
    await api.stores.tasks.submit([SubmitItem(task=new_task())])
    await _write(api, 1)
    async with _sse(api, 0) as events:
        event = await events.next()
    assert int(event["id"]) == 2


@pytest.mark.parametrize("path", [f"{CP}/stream", "/api/v1/control-plane/stream", "/ws/control-plane"])
async def test_a_websocket_gives_the_same_events_with_ping_and_subscribe(api: Api, path: str) -> None:
    async with _ws(api, path) as socket:
        connected = json.loads(await socket.recv())
        assert (connected["type"], connected["data"]["last_event_id"]) == ("connected", 0)
        for message in ({"type": "subscribe", "debate_id": "d"}, {"type": "unsubscribe"}, {"type": "ping"}):
            await socket.send(json.dumps(message))
        pong = json.loads(await socket.recv())
        assert pong["type"] == "pong"
        assert isinstance(pong["timestamp"], float)
        await _write(api, 1)
        event = json.loads(await socket.recv())
        assert (event["type"], event["seq"]) == ("task_submitted", 1)
        assert event.keys() == {"type", "timestamp", "seq", "data"}
        for wrong in ("{", "[]", '{"type": "dance"}', "x" * 5000):
            await socket.send(wrong)
            assert json.loads(await socket.recv())["type"] == "error"
    async with _ws(api, path, after=0) as socket:
        assert json.loads(await socket.recv())["type"] == "connected"
        assert json.loads(await socket.recv())["seq"] == 1


@pytest.mark.parametrize("query", [{"after": "x"}, {"after": "9" * 30}, {"task_id": "a/b"}, {"agent_id": "\x00"}])
async def test_a_wrong_query_closes_the_socket_with_the_reason(api: Api, query: dict[str, str]) -> None:
    async with _ws(api, **query) as socket:
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason != "") == (1008, True)


async def test_bytes_instead_of_text_do_not_break_the_server(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with _ws(api) as socket:
        await socket.recv()
        await socket.send(b'{"type": "ping"}')
        assert json.loads(await socket.recv())["type"] == "error"
        await socket.send('{"type": "ping"}')
        assert json.loads(await socket.recv())["type"] == "pong"
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_stream_outlives_the_database_connections(api: Api) -> None:
    await api.stores.log.append([system_event(f"e{n}") for n in range(3)])
    api.gateway.hub._rows = hub.deque(maxlen=1)
    async with _sse(api, 0) as events, _ws(api, after=0) as socket:
        await socket.recv()
        await api.stores.pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and application_name = $1",
            "aragora-api",
        )
        await eventually(lambda: _submitted(api))
        assert (await events.next())["event"] == "task_submitted"
        assert json.loads(await asyncio.wait_for(socket.recv(), 20))["type"] == "task_submitted"


async def _submitted(api: Api) -> bool:
    return (await api.call("POST", "/tasks", {"task_type": "echo"})).is_success


async def test_a_plain_get_describes_the_stream(api: Api) -> None:
    described = await api.get("/stream")
    assert described.keys() >= {"sse", "websocket", "filters", "frame", "last_event_id"}


async def test_a_client_that_stops_reading_is_waited_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait in the log, not in the server: a slow reader is sent no more than the socket's buffers take."""
    made: list[int] = []

    def counted(row: LogRow, words: bool) -> dict[str, Any]:
        made.append(row.seq)
        return frame(row, words=words)

    monkeypatch.setattr(stream, "frame", counted)
    record = LogRecord(at=0.0, workspace=api.settings.workspace, kind="system.test", entity="e", data={"x": "y" * 4000})
    total = 2000
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", httpx.URL(api.url).port))
        stuck.sendall(
            f"GET {CP}/stream?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        for _ in range(total // 200):
            await api.stores.log.append([record] * 200)
        async with _sse(api, 0) as reading:
            await reading.take(total)
        assert total < len(made) < 1.5 * total


def test_frame_types_are_those_of_the_wire() -> None:
    assert {
        frame_type(kind) for kind in ("agent.registered", "task.submitted", "deliberation.vote", "task.retried")
    } == {
        "agent_registered",
        "task_submitted",
        "deliberation_vote",
        "task_retrying",
    }


@pytest.mark.parametrize("path", ["/ws/control-plane", "/ws/control-plane?after=0", "/ws/control-plane?after=x"])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
async def test_a_websocket_that_hangs_up_early_leaves_no_stack_trace(
    api: Api, caplog: pytest.LogCaptureFixture, path: str, reset: bool
) -> None:
    url = httpx.URL(api.url)
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {url.host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    before = api.connections
    for _ in range(20):
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write("\r\n".join([*head, "\r\n"]).encode())
        await writer.drain()
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await eventually(lambda: api.connections <= before)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("after", ["zz", "-1", "1.0", "1e3", "9" * 19, "\u0661"])
async def test_a_cursor_that_is_none_is_refused_with_what_one_looks_like(api: Api, after: str) -> None:
    answer = await api.call("GET", f"/stream?after={quote(after)}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    assert "a number such as 1234" in answer.json()["error"]
    assert answer.json()["error"].startswith("after ")
